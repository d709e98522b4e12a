"""The examples that a training holds out: a share of its data, or a source of their own.

train/<arm>/validation.jsonl  with a share: the rows that are held out (HeldOutRow)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.training import HeldOut
from ibft.curation.split import Grouping, excess_sentence
from ibft.data.skipped import SkippedRow, TakesSkipped, counted
from ibft.data.tokens import TokenizedExample, encode_pairs
from ibft.data.training import Example, stream_training
from ibft.errors import UserError
from ibft.models.processes import decide
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig
from ibft.text.encoding import TextCodec
from ibft.text.limits import ModelLimits

__all__ = ["KEY", "Division", "HeldOutRow", "divide", "grouping_of", "stream_validation", "under_key"]

KEY = "data.validation"
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
        raise under_key(error) from None
    if is_main_process():
        reasons = "".join(f"; {count:,} skipped: {reason}" for reason, count in counted(skipped))
        progress.say(f"Validation: {len(validation):,} rows of {recipe.data.validation_source.source}{reasons}")
    return Division(examples, validation, _facts(validation))


def under_key(error: UserError) -> UserError:
    """Return the error of reading as one of the validation data."""
    return UserError(f"{KEY}: {str(error).removeprefix('data: ')}")


def stream_validation(data: DataConfig, skipped: TakesSkipped) -> Iterator[Example]:
    """Yield the examples of the recipe's validation source, read as training data is: its columns, and `on_bad_row`.

    Args:
        data: the recipe's section; it has a `validation_source`.
        skipped: takes the rows that are left out, with `data.on_bad_row: skip`.

    Raises:
        UserError: as `stream_training`.
    """
    assert data.validation_source is not None
    reading = msgspec.structs.replace(data, train=(data.validation_source,), validation=None, max_examples=None)
    return stream_training(reading, skipped)


def _read(
    data: DataConfig, codec: TextCodec, limits: ModelLimits
) -> tuple[list[TokenizedExample], Sequence[SkippedRow]]:
    unreadable: list[SkippedRow] = []
    pairs = (example.pair for example in stream_validation(data, unreadable))
    skips = data.on_bad_row == "skip"
    tokenized = encode_pairs(pairs, codec, data.max_tokens, limits, skips_refused=skips, unreadable=unreadable)
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
            f"Validation: {_rows_in(len(validation), num_groups)} held out; "
            f"{_rows_in(len(trained), num_groups_trained)} trained"
        )
        if excess := excess_sentence(share, len(validation), len(examples)):
            progress.warn(f"{100 * len(validation) / len(examples):.0f}% OF THE DATA IS HELD OUT", excess)
        if not grouping.finds_near:
            progress.say(
                "Validation: near-copies of a held-out row may be trained, since rensa is not installed "
                "(pip install 'ibft[audit]'); equal rows and equal code are on one side"
            )
    held_out = msgspec.structs.replace(_facts(validation), groups=num_groups, groups_trained=num_groups_trained)
    return Division(trained, validation, held_out)


def _rows_in(num_rows: int, num_groups: int) -> str:
    rows = f"{num_rows:,} row" + ("s" if num_rows != 1 else "")
    groups = f"{num_groups:,} group" + ("s" if num_groups != 1 else "")
    return f"{rows} in {groups} {'are' if num_rows != 1 else 'is'}"


def _facts(validation: Sequence[TokenizedExample]) -> HeldOut:
    num_tokens = sum(end - first for example in validation for first, end in example.trained)
    return HeldOut(examples=len(validation), tokens=num_tokens)
