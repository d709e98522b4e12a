"""The examples that a training holds out: a share of its data, or a source of their own.

train/<arm>/validation.jsonl  with a share: the rows that are held out (HeldOutRow)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.training import HeldOut
from ibft.curation.split import Grouping
from ibft.data.skipped import SkippedRow, counted
from ibft.data.tokens import TokenizedExample, encode_pairs
from ibft.data.training import stream_training
from ibft.errors import UserError
from ibft.models.processes import decide
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig
from ibft.text.encoding import TextCodec
from ibft.text.limits import ModelLimits

__all__ = ["Division", "HeldOutRow", "divide", "grouping_of"]

ROWS_FILE = "validation.jsonl"


class HeldOutRow(msgspec.Struct, frozen=True):
    """A row of the training data that is held out: its id, and its place in the data, from 0."""

    id: str
    place: int


class Division(NamedTuple):
    """The examples of either side; `held_out` is None without validation data."""

    trained: list[TokenizedExample]
    validation: list[TokenizedExample]
    held_out: HeldOut | None


def grouping_of(data: DataConfig) -> Grouping | None:
    """Return what groups the rows while they are read, where a share of them will be held out; None elsewhere."""
    return Grouping() if data.validation_share is not None and is_main_process() else None


def divide(
    recipe: Recipe,
    examples: list[TokenizedExample],
    grouping: Grouping | None,
    codec: TextCodec,
    limits: ModelLimits,
    folder: Path,
) -> Division:
    """Hold out a share of the training examples, or read the validation data; say how many there are on either side.

    Every process calls it, and gets the same.

    Args:
        recipe: its `data.validation` and seed count.
        examples: the training examples that can be used.
        grouping: has seen all rows of the training data; the main process has it.
        codec, limits: as for the training data.
        folder: takes the names of the rows that are held out.

    Raises:
        UserError: the source cannot be read or has no example that can be used, no share can be held out, or nothing
            would be left to train.
    """
    share = recipe.data.validation_share
    if share is not None:
        return _divided(share, recipe.seed, examples, grouping, folder)
    if recipe.data.validation_source is None:
        return Division(examples, [], None)
    try:
        validation, skipped = _read(recipe.data, codec, limits)
    except UserError as error:
        raise UserError(f"data.validation: {str(error).removeprefix('data: ')}") from None
    if is_main_process():
        reasons = "".join(f"; {count:,} skipped: {reason}" for reason, count in counted(skipped))
        progress.say(f"Validation: {len(validation):,} rows of {recipe.data.validation_source.source}{reasons}")
    return Division(examples, validation, _facts(validation))


def _read(
    data: DataConfig, codec: TextCodec, limits: ModelLimits
) -> tuple[list[TokenizedExample], Sequence[SkippedRow]]:
    assert data.validation_source is not None
    # Read as training data is, with its columns and what is done with a row that cannot be read.
    reading = msgspec.structs.replace(data, train=(data.validation_source,), validation=None, max_examples=None)
    unreadable: list[SkippedRow] = []
    pairs = (example.pair for example in stream_training(reading, unreadable))
    tokenized = encode_pairs(pairs, codec, data.max_tokens, limits, skips_refused=data.on_bad_row == "skip")
    return tokenized.examples, [*unreadable, *tokenized.skipped]


def _divided(
    share: float, seed: int, examples: list[TokenizedExample], grouping: Grouping | None, folder: Path
) -> Division:
    def draw() -> tuple[frozenset[int], int, int]:
        assert grouping is not None
        return grouping.split(share, [example.place for example in examples], seed)

    places, num_groups, num_groups_trained = decide(draw)
    trained = [example for example in examples if example.place not in places]
    validation = [example for example in examples if example.place in places]
    if not trained:
        raise UserError(
            f"data.validation is {share * 100:g}%, which holds out all {len(validation):,} examples: none is left to "
            "train. Lower it, such as to 5%."
        )
    if grouping is not None:
        write_rows(folder / ROWS_FILE, [HeldOutRow(example.id, example.place) for example in validation])
        progress.say(
            f"Validation: {len(validation):,} rows in {num_groups:,} groups are held out; {len(trained):,} rows in "
            f"{num_groups_trained:,} groups are trained"
        )
        if not grouping.finds_near:
            progress.say(
                "Validation: near-copies of a held-out row may be trained, since rensa is not installed "
                "(pip install 'ibft[audit]'); equal rows and equal code are on one side"
            )
    held_out = msgspec.structs.replace(_facts(validation), groups=num_groups, groups_trained=num_groups_trained)
    return Division(trained, validation, held_out)


def _facts(validation: Sequence[TokenizedExample]) -> HeldOut:
    num_tokens = sum(end - first for example in validation for first, end in example.trained)
    return HeldOut(examples=len(validation), tokens=num_tokens)
