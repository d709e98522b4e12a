"""The scan stage: how predictable is the training data to the base model already, beside a control set?

scan/scores.parquet         one row per example: every score, or the reason why there is none (`score_table`)
scan/summary.json           what the scores say: `artifacts.scan.ScanSummary`
scan/densities.json         values of the headline score, at most 2,000 per subset: `artifacts.scan.Densities`
scan/most_memorized.jsonl   the most memorized training examples token by token: `rows.ShownExample`
scan/recall.jsonl           which segment of the prompt alone recalls the answer, of a draw (`stages.recall`)

rescan/<arm>/ has the same scores of some of these examples under a trained arm (`ibft.stages.rescan`).
"""

from __future__ import annotations

import gc
import heapq
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, read_rows, write_atomically, write_rows
from ibft.artifacts.rows import Score, Subset
from ibft.artifacts.score_table import SCORES_FILE, ScoredRow, read_scores, write_scores
from ibft.data.skipped import SkippedRow
from ibft.data.subsets import NumberedExamples, read_subset
from ibft.errors import UserError
from ibft.findings.densities import write_densities
from ibft.findings.score_columns import read_columns, read_places, read_reasons
from ibft.findings.summary import summarize
from ibft.models.allocator import keeping_freed_memory, returning_freed_memory
from ibft.models.loading import limits_of, load_config, load_model, load_tokenizer, resolve_model_path
from ibft.models.processes import decide
from ibft.run.folder import RunFolder
from ibft.run.processes import is_main_process, num_processes, process_index
from ibft.run.provenance import usable_cores
from ibft.run.recipe import Recipe
from ibft.scoring.blocks import complete_blocks, score_blocks
from ibft.scoring.encoder import Encoder, draw_scorable, explaining_killed_workers, text_of
from ibft.stages.identity import scan_inputs
from ibft.stages.recall import RECALL_FILE, ask_recall, conclude_recall
from ibft.stages.skeleton import complete
from ibft.text.encoding import codec_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ibft.scoring.engine import Scorer

__all__ = ["make_scorer", "make_table", "scan"]

_SHOWN_FILE = "most_memorized.jsonl"
_COLUMN_PART = 2**17
"""Bytes: columns of more than some thousand examples are larger, and each is returned once it has been used."""


def scan(recipe: Recipe, run: RunFolder) -> None:
    """Score the training data and the control set under the base model; nothing is done twice.

    Under a launcher the processes share the blocks of the data, and the main process then joins them.

    Raises:
        UserError: model or data cannot be loaded, or no training example can be scored.
    """
    complete(recipe, lambda recipe: run.stage("scan", scan_inputs(recipe)), _make)


def _make(recipe: Recipe, folder: Path) -> None:
    decide(lambda: resolve_model_path(recipe.model))  # the main process dequantizes, for the others as well
    sources, reasons = _read_sources(recipe)
    # Counting reads all of the data, so that what is wrong with it is reported before a model is loaded.
    num_train, *_ = [len(source) for source in sources]
    if not num_train:
        raise _nothing_scored(reasons["train"])
    scorer = make_table(recipe, sources, folder, lambda: _load_scorer(recipe))
    if is_main_process():
        _look_closer(recipe, scorer, sources, folder)
        del scorer
        gc.collect()  # the memory of the model is free before the columns are read
        with progress.task("Comparing", total=None), returning_freed_memory(least=_COLUMN_PART):
            _conclude(recipe, {source.subset: source for source in sources}, reasons, folder)


def _read_sources(recipe: Recipe) -> tuple[list[NumberedExamples], dict[Subset, Counter[str]]]:
    """Return the examples of each subset, and why rows that are not among them, by reason, cannot be scored.

    (Rows that cannot be read, with `data.on_bad_row: skip`, and those that `scan.max_examples` passed over.)
    """
    subsets: tuple[Subset, ...] = ("train",) if recipe.data.control is None else ("train", "control")
    sources = [NumberedExamples(subset, partial(read_subset, recipe.data, subset)) for subset in subsets]
    reasons = {subset: _unreadable(recipe, subset) for subset in subsets}
    limit = recipe.scan.max_examples
    if limit is None:
        return sources, reasons
    encoder = _make_encoder(recipe, load_tokenizer(recipe.model), load_config(recipe.model), recipe.data.max_tokens)
    drawn = [draw_scorable(source, encoder, limit, recipe.seed) for source in sources]
    for source, of_others in drawn:
        reasons[source.subset].update(of_others)
    return [source for source, _ in drawn], reasons


def _unreadable(recipe: Recipe, subset: Subset) -> Counter[str]:
    skipped: list[SkippedRow] = []
    if recipe.data.on_bad_row == "skip":
        for _ in read_subset(recipe.data, subset, skipped):
            pass
    return Counter(row.reason for row in skipped)


def _make_encoder(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    max_tokens: int | None,
    reference: Encoder | None = None,
) -> Encoder:
    # A model without an end token needs none here: it is not scored.
    has_end = recipe.prompt.end_of_text and tokenizer.eos_token_id is not None
    codec = codec_of(msgspec.structs.replace(recipe.prompt, end_of_text=has_end), tokenizer)
    return Encoder(
        codec,
        limits_of(config),
        max_tokens=max_tokens,
        region=recipe.scan.region,
        reference=reference,
        skips_refused=recipe.data.on_bad_row == "skip",
    )


def _load_scorer(recipe: Recipe) -> Scorer:
    return make_scorer(recipe, load_model(recipe.model), load_tokenizer(recipe.model))


def make_scorer(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base: Mapping[tuple[str, int], NDArray[np.float64]] | None = None,
    keeps_tokens: bool = False,
) -> Scorer:
    """Return the scorer that a recipe asks for, with its reference model loaded where it names one.

    `base` and `keeps_tokens` are those of `Scorer`.
    """
    from ibft.scoring.engine import Scorer
    from ibft.scoring.forward import Forward

    config = recipe.scan
    reference = encoder = None
    if config.reference is not None:
        other, other_tokenizer = load_model(config.reference), load_tokenizer(config.reference)
        # No `data.max_tokens`, only this model's context: the text is one that the first model has read whole.
        encoder = _make_encoder(recipe, other_tokenizer, other.config, None)
        reference = Forward(other, other_tokenizer, config.batch_tokens)
    forward = Forward(model, tokenizer, config.batch_tokens)
    return Scorer(
        forward,
        _make_encoder(recipe, tokenizer, model.config, recipe.data.max_tokens, encoder),
        k_percent=config.k_percent,
        prefix_tokens=config.prefix_tokens,
        suffix_tokens=config.suffix_tokens,
        reference=reference,
        base=base,
        keeps_tokens=keeps_tokens,
        # Tokens for a GPU are made by other processes, some blocks ahead, so that it does not wait.
        num_workers=max(1, min(8, usable_cores() // num_processes() - 1)) if forward.runs_beside else 0,
    )


def make_table(
    recipe: Recipe,
    sources: Sequence[NumberedExamples],
    folder: Path,
    load: Callable[[], Scorer],
    title: str = "Scanning",
    *,
    score_names: Sequence[str] | None = None,
    keeps_tokens: bool = False,
) -> Scorer | None:
    """Write `folder`'s table of the sources' scores, all processes together, each of which returns when it is complete.

    Args:
        recipe: its `scan` section names the scores.
        sources: the examples of each subset.
        folder: takes the table, and its blocks meanwhile.
        load: makes the scorer.
        title: of the progress bar.
        score_names: the table's scores; None are those of the recipe.
        keeps_tokens: the table holds the log-probabilities of the scored tokens, which the scorer then has to keep.

    Returns:
        The scorer; None if the table was there already.
    """
    path, blocks = folder / SCORES_FILE, folder / "blocks"
    scorer = None
    if not decide(path.exists):
        scorer = load()
        blocks.mkdir(parents=True, exist_ok=True)
        num = sum(map(len, sources))
        with progress.task(title, total=num) as task, keeping_freed_memory(), explaining_killed_workers():
            score_blocks(
                blocks,
                sources,
                scorer,
                rank=process_index(),
                num_processes=num_processes(),
                # As if the others were as far: only the main process draws a bar.
                advance=lambda count, subset: task.advance(count * num_processes(), note=subset),
            )
        decide(lambda: None)  # a barrier: the main process joins the blocks when all are there
        files = complete_blocks(blocks, {source.subset: len(source) for source in sources})
        rows = (read_rows(file, Score) for file in files)
        names = score_names or recipe.scan.score_names
        decide(lambda: write_scores(path, rows, names, recipe.scan.score, keeps_tokens=keeps_tokens))
    if is_main_process():
        shutil.rmtree(blocks, ignore_errors=True)
    return scorer


def _look_closer(recipe: Recipe, scorer: Scorer | None, sources: Sequence[NumberedExamples], folder: Path) -> None:
    """Write what needs the model once more: the most memorized examples, and what recalls the answers of a draw."""
    if not (folder / _SHOWN_FILE).exists():
        lowest = _lowest(recipe, folder)
        scorer = scorer or _load_scorer(recipe)
        _show(scorer, sources[0], lowest, folder / _SHOWN_FILE)
    if recipe.scan.max_recall_examples and not (folder / RECALL_FILE).exists():
        scorer = scorer or _load_scorer(recipe)
        # Without `data.max_tokens`: a foreign prompt may be longer than the example's own.
        encoder = _make_encoder(recipe, scorer.encoder.tokenizer, load_config(recipe.model), None)
        ask_recall(recipe, scorer.forward, encoder, {source.subset: source for source in sources}, folder)


def _lowest(recipe: Recipe, folder: Path) -> list[ScoredRow]:
    """Return the `scan.max_shown` training examples with the lowest headline score.

    Raises:
        UserError: no training example has scores.
    """
    lowest = heapq.nsmallest(
        max(1, recipe.scan.max_shown),  # one at least, to know whether any example has scores
        read_scores(folder / SCORES_FILE, recipe.scan.score, "train"),
        key=lambda row: (row.value, row.place),  # equal scores in the order of the data
    )
    if not lowest:
        raise _nothing_scored(read_reasons(folder / SCORES_FILE, "train"))
    return lowest[: recipe.scan.max_shown]


def _show(scorer: Scorer, source: NumberedExamples, lowest: Sequence[ScoredRow], path: Path) -> None:
    """Write examples token by token."""
    from ibft.scoring.shown import show_tokens

    values = {row.place: row.value for row in lowest}
    shown = {
        place: show_tokens(scorer, "train", place, example, values[place])
        for place, example in source.only(values.keys())
    }
    write_rows(path, [shown[row.place] for row in lowest])


def _nothing_scored(reasons: Mapping[str, int]) -> UserError:
    why = "; ".join(f"{count} {reason}" for reason, count in reasons.items()) or "the data set is empty"
    return UserError(f"scan: no training example has scores ({why}). Check the data.")


def _conclude(
    recipe: Recipe,
    sources: Mapping[Subset, NumberedExamples],
    reasons: Mapping[Subset, Counter[str]],
    folder: Path,
) -> None:
    path, names = folder / SCORES_FILE, recipe.scan.score_names

    def texts(subset: Subset, rows: NDArray[np.int64]) -> list[str]:
        places = read_places(path, subset)
        wanted = sources[subset].only({places[row] for row in rows.tolist()})
        return [text_of(example.pair, recipe.scan.region) for _, example in wanted]

    columns = {subset: read_columns(path, subset, names) for subset in sources}
    summary = summarize(
        columns["train"],
        columns.get("control"),
        score=recipe.scan.score,
        region=recipe.scan.region,
        skipped={subset: dict(reasons[subset] + Counter(read_reasons(path, subset))) for subset in sources},
        texts=texts,
        recall=conclude_recall(folder, columns),
        is_dated=recipe.data.control_after is not None,
        seed=recipe.seed,
    )
    labels = {"train": "training data", "control": "control set"}
    series = {labels[subset]: of_subset.scores[recipe.scan.score] for subset, of_subset in columns.items()}
    write_densities(folder, recipe.scan.score, series, recipe.seed)
    write_atomically(folder / "summary.json", pretty_json(summary))
