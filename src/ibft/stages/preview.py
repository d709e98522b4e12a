"""What `ibft preview` shows: a recipe's data as it would be trained. Nothing is written into the run folder."""

from __future__ import annotations

from functools import partial

import msgspec

from ibft.artifacts.preview import Preview
from ibft.artifacts.rows import Problem
from ibft.curation.preview import ExampleSet, preview_data
from ibft.data.subsets import read_subset
from ibft.data.training import stream_training
from ibft.errors import UserError
from ibft.models.loading import limits_of, load_config, load_tokenizer
from ibft.problems.loading import load_benchmark
from ibft.run.recipe import Recipe
from ibft.run.sections import SourceConfig
from ibft.stages.resolution import resolve_template
from ibft.text.encoding import codec_of

__all__ = ["preview"]


def preview(recipe: Recipe, num_shown: int = 5) -> Preview:
    """Look at the recipe's data with its tokenizer and its model's configuration; no weights are loaded.

    The training data is compared with validation data of their own and with the control set, where there are any, and
    with the benchmarks' problems. (A share that is held out is divided so that no copy is on both sides.) A benchmark
    that cannot be loaded is a note.

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
        alone = msgspec.structs.replace(data, train=(held_out,), validation=None, max_examples=None)
        sets.append(ExampleSet("validation", partial(stream_training, alone), [held_out.label]))
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
    )
    return msgspec.structs.replace(found, name=recipe.name, model=recipe.model.name, notes=[*found.notes, *notes])


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
