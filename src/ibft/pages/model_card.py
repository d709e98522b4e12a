"""The model card: the README.md beside the weights, as the hub shows it. Its text is model_card.md.

The train stage writes it without scores, `ibft export` writes it again with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from ibft.artifacts.metrics import Metric
from ibft.artifacts.report import Comparison
from ibft.artifacts.summaries import read_json
from ibft.artifacts.training import TrainingSummary, train_again
from ibft.data.files import FILE_SUFFIXES
from ibft.errors import UserError
from ibft.objectives.alarms import alarm_title
from ibft.objectives.base import Objective
from ibft.pages.page import load_template
from ibft.run.recipe import Recipe
from ibft.statistics.pass_at_k import metric_name

__all__ = ["CardScores", "HubNames", "Weights", "hub_names", "model_card", "read_facts"]

Weights = Literal["adapter", "model", "merged"]
"""The weights beside the card: a LoRA adapter, a model trained whole, or a base with the adapter merged into it."""


class CardScores(NamedTuple):
    """The run's report, of which the card shows the verdict on all arms and the figures of `comparison.arms`."""

    comparison: Comparison
    benchmark: str


class HubNames(NamedTuple):
    """The hub ids of base model and data; None for what is a file, a folder or installed code."""

    base_model: str | None
    dataset: str | None


def hub_names(recipe: Recipe) -> HubNames:
    """Return which of the recipe's names are hub ids: those that look like one, where no such folder exists."""
    source = recipe.data.train_name
    if not Path(source).is_dir():  # as `data.sources.hub_name`, which needs `datasets`
        source = source.partition("@")[0]
    is_file = source.lower().endswith(FILE_SUFFIXES) or len(recipe.data.sources) > 1
    return HubNames(_hub_id(recipe.model.name), None if is_file else _hub_id(source))


def _hub_id(name: str) -> str | None:
    # Names that begin with anything but a letter or digit are paths: . / ~
    looks_like_one = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name)
    return name if looks_like_one and not Path(name).is_dir() else None


def model_card(
    recipe: Recipe,
    objective: Objective,
    training: TrainingSummary,
    versions: Mapping[str, str],
    names: HubNames,
    *,
    weights: Weights,
    scores: CardScores | str | None = None,
    has_tokenizer: bool = True,
) -> str:
    """Return the card's text. The same arguments give the same text: it has no time, and no path except the recipe's.

    Args:
        recipe: what was asked for.
        objective: objective of the arm whose card it is.
        training: the arm's training in numbers.
        versions: package to version, at the time of the training.
        names: the recipe's names on the hub.
        weights: what lies beside the card.
        scores: scores of the arm and the base model, or a sentence that says why they are missing; None leaves the
            section out.
        has_tokenizer: the tokenizer lies beside the card; an adapter of an older version has none.
    """
    text = load_template("model_card.md", {"figure": _figure}, is_html=False).render(
        header=_header(recipe, objective, names, weights),
        recipe=recipe,
        objective=objective,
        name=objective.name,
        about=(type(objective).__doc__ or "").partition("\n")[0],
        settings={key: _shown(value) for key, value in objective.settings().items()},
        training=training,
        versions=versions,
        names=names,
        weights=weights,
        scores=scores,
        has_tokenizer=has_tokenizer,
        metric_name=metric_name,
        title=alarm_title,
        row=_table_row,
    )
    # Sections that are left out leave their blank lines.
    return re.sub(r"\n{3,}", "\n\n", text)


def _header(recipe: Recipe, objective: Objective, names: HubNames, weights: Weights) -> str:
    """Return the YAML that the hub reads; what ibft does not know (a license, say) is left to the author."""
    fields: dict[str, Any] = {}
    if names.base_model:
        fields["base_model"] = names.base_model
        fields["base_model_relation"] = "adapter" if weights == "adapter" else "finetune"
    fields["library_name"] = "peft" if weights == "adapter" else "transformers"
    fields["pipeline_tag"] = "text-generation"
    if names.dataset:
        fields["datasets"] = [names.dataset]
    fields["tags"] = ["ibft", f"ibft-{objective.name}", *(["lora"] if recipe.train.lora else [])]
    return yaml.safe_dump(fields, sort_keys=False)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table_row(label: str, cells: Iterable[object]) -> str:
    return f"| {' | '.join([label, *map(str, cells)])} |"


def _figure(metric: Metric) -> str:
    if metric.value is None:
        return f"undefined: {metric.reason or 'no reason recorded'}"
    interval = "" if metric.ci95 is None else f" ({100 * metric.ci95[0]:.1f} to {100 * metric.ci95[1]:.1f})"
    return f"{100 * metric.value:.1f}%{interval}"


def read_facts(folder: Path) -> TrainingSummary:
    """Read the summary in `train/<arm>` for a card, which needs all of it.

    Raises:
        UserError: it is missing, damaged, or of an older version.
    """
    path, lost = folder / "summary.json", "The weights beside it are whole: copy them if you need them."
    summary = read_json(path, TrainingSummary, f"{lost} {train_again(folder)}")
    # An older version did not write all of them.
    if None in (summary.steps, summary.examples, summary.tokens, summary.batching):
        raise UserError(f"{path} lacks what a model card says. {lost} {train_again(folder)}")
    return summary
