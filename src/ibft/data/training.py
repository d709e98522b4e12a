"""Training and control examples from files, folders, the hub, or installed code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ibft import progress
from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.files import NumberedRow, rows_of_file, without_nulls
from ibft.data.functions import function_pairs
from ibft.data.shapes import to_pair
from ibft.data.skipped import SkippedRow, TakesSkipped
from ibft.data.sources import FUNCTIONS, file_of, files_of_folder, hub_name, is_saved
from ibft.errors import RowError, UserError
from ibft.run.sections import DataConfig, SourceConfig

__all__ = ["Example", "is_conversational", "stream_examples", "stream_training"]


class Example(NamedTuple):
    """A training example, the row that it was read from, and the source that has the row (`SourceConfig.label`)."""

    pair: TrainingPair
    row: Any
    source: str = ""


def stream_training(data: DataConfig, skipped: TakesSkipped | None = None) -> Iterator[Example]:
    """Yield the first `max_examples` training examples of a recipe, one at a time.

    Several sources are read one after the other; with shares they are mixed, so that after any number of examples each
    has its share, until one ends: nothing is repeated, and every pass gives the same.

    Args:
        data: the recipe's section.
        skipped: takes the rows that are left out, with `on_bad_row: skip`.

    Raises:
        UserError: a source cannot be read, or a row has none of the known shapes; names file and line.
    """
    streams = [_examples(source, data, skipped, is_streamed=data.max_examples is not None) for source in data.sources]
    shares = [source.share for source in data.sources if source.share is not None]
    examples = _mixed(streams, shares) if shares else itertools.chain.from_iterable(streams)
    return itertools.islice(examples, data.max_examples)


def _mixed(streams: list[Iterator[Example]], shares: list[float]) -> Iterator[Example]:
    counts = [0] * len(streams)
    while True:
        # The one that is furthest behind its share; of equals, the first.
        behind = min(range(len(streams)), key=lambda place: (counts[place] + 1) / shares[place])
        example = next(streams[behind], None)
        if example is None:
            ended = f"source {behind + 1} has ended after {counts[behind]:,} rows"
            progress.warn("Shares", f"{ended}: {sum(counts):,} rows are mixed, and the rest of the others is not read")
            return
        counts[behind] += 1
        yield example


def is_conversational(data: DataConfig) -> bool:
    """Decide whether the first training example is a conversation; installed code is not.

    Raises:
        UserError: as `stream_training`.
    """
    if data.sources[0].source.startswith(FUNCTIONS):
        return False
    first = next(stream_training(data, []), None)
    return first is not None and isinstance(first.pair, Conversation)


def stream_examples(
    source: str,
    split: str = "train",
    limit: int | None = None,
    reading: DataConfig | None = None,
    skipped: TakesSkipped | None = None,
) -> Iterator[Example]:
    """Yield the examples of a source one at a time, in its order; only one is held in memory, except for code.

    Args:
        source: as one of `data.train`.
        split: of a hub data set.
        limit: end after this many. A hub data set is then downloaded only as far as it is read, again in each pass;
            without a limit it is downloaded as a whole, and once.
        reading: says how rows are read; by default, as in a recipe that says nothing of it.
        skipped: takes the rows that are left out, with `on_bad_row: skip`.

    Raises:
        UserError: as `stream_training`, when it comes to the row.
    """
    config = SourceConfig(source=source, split=split)
    examples = _examples(config, reading or DataConfig(), skipped, is_streamed=limit is not None)
    return itertools.islice(examples, limit)


def _examples(
    source: SourceConfig, data: DataConfig, skipped: TakesSkipped | None, *, is_streamed: bool
) -> Iterator[Example]:
    if source.source.startswith(FUNCTIONS):
        for function in function_pairs(source.source.removeprefix(FUNCTIONS)):
            yield Example(function, msgspec.to_builtins(function), source.label)
        return
    for place, row in _rows(source, is_streamed):
        try:
            if isinstance(row, RowError):
                raise row
            pair = to_pair(row, place, data.columns, data.train_on)
        except RowError as error:
            if data.on_bad_row == "stop":
                raise
            if skipped is not None:
                skipped.append(SkippedRow.of(place, error, source.label if len(data.sources) > 1 else None))
            continue
        yield Example(pair, row, source.label)


def _rows(source: SourceConfig, is_streamed: bool) -> Iterator[NumberedRow]:
    path = file_of(source.source)
    if path is not None:
        _require_no_part(source, "a file")
        return rows_of_file(path)
    folder = Path(source.source)
    is_plain = folder.is_dir() and not is_saved(folder) and not source.config
    if is_plain and (files := files_of_folder(folder, source.split)):
        return itertools.chain.from_iterable(map(rows_of_file, files))
    return _rows_of_hub(source, is_streamed)


def _require_no_part(source: SourceConfig, what: str) -> None:
    """Refuse a split or a configuration of data that has none: all of it would be read in silence."""
    if source.split != "train" or source.config:
        asked = f"split {source.split}" if source.split != "train" else f"config {source.config}"
        raise UserError(
            f"data: {source.source} is {what}, of which no {asked} can be read. Leave it out; data.validation: 10% "
            "holds a share out."
        )


def _rows_of_hub(source: SourceConfig, is_streamed: bool) -> Iterator[NumberedRow]:
    """Yield the rows of a hub data set (`owner/name@revision` pins a revision), of a local folder in the hub's layout,
    or of one that `save_to_disk` has written.
    """
    is_part = "[" in source.split  # train[:1%], which cannot be streamed
    from datasets import DatasetDict, load_dataset, load_from_disk

    name, revision = hub_name(source.source)
    try:
        if is_saved(Path(name)):
            dataset = load_from_disk(name)
            if not isinstance(dataset, DatasetDict):
                _require_no_part(source, "a data set that `save_to_disk` has written without splits")
            dataset = dataset[source.split] if isinstance(dataset, DatasetDict) else dataset
        else:
            streaming = is_streamed and not is_part
            dataset = load_dataset(name, source.config, split=source.split, revision=revision, streaming=streaming)
        for number, row in enumerate(dataset, start=1):
            yield f"{source.source}, row {number}", without_nulls(row)
    except UserError:
        raise
    except Exception as error:  # the hub client raises many kinds, none of which a user needs to tell apart
        config = f", config {source.config}" if source.config else ""
        raise UserError(
            f"data: {source.source} (split {source.split}{config}) cannot be loaded as a file or hub data set "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}). "
            "Check the name, the split and the network."
        ) from None
