"""The training data and the control set as numbered examples: streamed, the same in each pass."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from ibft.artifacts.rows import Subset
from ibft.data.skipped import TakesSkipped
from ibft.data.training import Example, stream_examples, stream_training
from ibft.errors import UserError
from ibft.run.sections import DataConfig

__all__ = ["NumberedExamples", "origin", "read_subset"]


class NumberedExamples:
    """One subset's examples with their places in the data; each pass reads them again, and holds one at a time.

    Args:
        subset: the training data or the control set.
        read: begins a pass over the whole subset; every pass gives the same examples.
        places: the places of the examples that count, from 0; None is all.
    """

    def __init__(
        self, subset: Subset, read: Callable[[], Iterator[Example]], places: Collection[int] | None = None
    ) -> None:
        self.subset = subset
        self._read, self._places = read, None if places is None else frozenset(places)

    def only(self, places: Collection[int]) -> NumberedExamples:
        """Return those at these places, under the same numbers."""
        return NumberedExamples(self.subset, self._read, places)

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._read()) if self._places is None else len(self._places)

    def __len__(self) -> int:
        """How many there are; the first call reads them."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, Example]]:
        for place, example in enumerate(self._read()):
            if self._places is None or place in self._places:
                yield place, example


def read_subset(data: DataConfig, subset: Subset, skipped: TakesSkipped | None = None) -> Iterator[Example]:
    """Yield the training data's examples, or the control set's, as the recipe's `data` section limits them.

    Args:
        data: the recipe's section.
        subset: which of the two.
        skipped: takes the rows that are left out, with `data.on_bad_row: skip`.

    Raises:
        UserError: as `stream_examples`, or `control_after` meets a row without a date; names the recipe's key.
    """
    try:
        if subset == "train":
            yield from stream_training(data, skipped)
        elif data.control_after is None:
            yield from stream_examples(
                str(data.control), data.control_split, data.max_control_examples, _without_columns(data), skipped
            )
        else:
            examples = stream_examples(str(data.control), data.control_split, None, _without_columns(data), skipped)
            later = _later_than(data.control_after, examples)
            yield from itertools.islice(later, data.max_control_examples)
    except UserError as error:
        raise UserError(f"data.{subset}: {str(error).removeprefix('data: ')}") from None


def _without_columns(data: DataConfig) -> DataConfig:
    """Return how a control set is read: `data.columns` is about the training data."""
    return msgspec.structs.replace(data, columns={})


def _later_than(day: datetime.date, examples: Iterator[Example]) -> Iterator[Example]:
    for example in examples:
        value = example.row.get("date") if isinstance(example.row, Mapping) else None
        if value is None:
            raise UserError(
                f"control_after is {day}, and the example {example.pair.id} has no field `date`. Give each row "
                "one, or leave control_after out."
            )
        try:
            date = datetime.date.fromisoformat(str(value)[:10])
        except ValueError:
            raise UserError(f"the date of {example.pair.id} is {value!r}: expected a day such as 2025-01-31.") from None
        if date > day:
            yield example


def origin(example: Example) -> tuple[str | None, tuple[str, ...]]:
    """Return the file that an example is from, and its tags, where the source names them.

    Fields `file` or `path`, and `tags`, `category` or `source`; functions of installed code have their file in the id.
    """
    row: Mapping[str, Any] = example.row if isinstance(example.row, Mapping) else {}
    file = row.get("file") or row.get("path")
    if file is None and example.pair.id.count(":") >= 2 and ".py:" in example.pair.id:
        file = example.pair.id.partition(":")[0]
    tags = row.get("tags") or [row[name] for name in ("category", "source") if row.get(name)]
    return (None if file is None else str(file)), tuple(map(str, tags if isinstance(tags, list | tuple) else [tags]))
