"""What `ibft preview` shows: a recipe's data as it would be trained. Nothing is written into the run folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec

from ibft.artifacts.preview import Preview
from ibft.artifacts.rows import Problem
from ibft.curation.preview import ExampleSet, preview_data
from ibft.data.skipped import TakesSkipped
from ibft.data.subsets import read_subset
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import limits_of, load_config, load_tokenizer
from ibft.problems.loading import load_benchmark
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, SourceConfig
from ibft.stages.resolution import resolve_template
from ibft.stages.validation import KEY, stream_validation, under_key
from ibft.text.encoding import codec_of

__all__ = ["preview"]


def preview(recipe: Recipe, num_shown: int = 5) -> Preview:
    """Look at the recipe's data with its tokenizer and its model's configuration; no weights are loaded.

    The training data is compared with validation data of their own and with the control set, where there are any, and
    with the benchmarks' problems. Of a share that is held out, only whether it can be divided is looked at, since no
    copy is on both sides. A benchmark that cannot be loaded is a note.

    Args:
        recipe: as it holds on this machine.
        num_shown: how many examples are shown.

    Raises:
        UserError: the tokenizer or a source cannot be loaded.
    """
    prompt = msgspec.structs.replace(recipe.prompt, template=resolve_template(recipe))
    # All rows are looked at, also where training stops at the first bad one.
    data = msgspec.structs.replace(recipe.data, on_bad_row="skip")
    sets = [ExampleSet("train", partial(read_subset, data, "train"), [source.label for source in data.sources])]
    if (held_out := data.validation_source) is not None:
        sets.append(ExampleSet("validation", partial(_read_validation, data), [held_out.label], KEY))
    if data.control is not None:
        control = SourceConfig(source=data.control, split=data.control_split)
        sets.append(ExampleSet("control", partial(read_subset, data, "control"), [control.label]))
    problems, notes = _problems(recipe)
    found = preview_data(
        sets,
        codec_of(prompt, load_tokenizer(recipe.model)),
        limits_of(load_config(recipe.model)),
        data.max_tokens,
        problems=problems,
        num_shown=num_shown,
        seed=recipe.seed,
        stops=recipe.data.on_bad_row == "stop",
        share=data.validation_share,
    )
    return msgspec.structs.replace(found, name=recipe.name, model=recipe.model.name, notes=[*found.notes, *notes])


def _read_validation(data: DataConfig, skipped: TakesSkipped) -> Iterator[Example]:
    try:
        yield from stream_validation(data, skipped)
    except UserError as error:
        raise under_key(error) from None


def _problems(recipe: Recipe) -> tuple[dict[str, list[Problem]], list[str]]:
    """Return the problems of each benchmark of the recipe, and why one could not be loaded."""
    problems, notes = {}, []
    for config in (recipe.problems, recipe.forgetting):
        if config is None:
            continue
        try:
            problems[config.source] = load_benchmark(config)
        except UserError as error:
            notes.append(f"The data was not compared with {config.source}: {error}")
    return problems, notes
