"""A scan's rows while they are made: a file a block, so that processes share the work and a kill loses one batch.

blocks/<subset>-<number>.jsonl            a complete block, in any order
blocks/<subset>-<number>.partial.jsonl    one that is being made
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ibft.artifacts.rows import RowWriter, Score, Subset, read_rows
from ibft.errors import UserError

__all__ = ["BLOCK", "Batch", "block_path", "merged_blocks", "score_blocks"]

BLOCK = 512
"""Examples of a block: what a process takes at a time, sorts by length, and holds in memory."""

Item = TypeVar("Item")
Started = TypeVar("Started")

Batch = Callable[[], Callable[[], Sequence[Score]]]
"""Begins with the batch; gives a function that waits for its rows."""


def block_path(folder: Path, subset: Subset, number: int) -> Path:
    """Where a complete block lies."""
    return folder / f"{subset}-{number:06d}.jsonl"


def score_blocks(
    folder: Path,
    subset: Subset,
    items: Iterable[tuple[int, Item]],
    start: Callable[[Sequence[tuple[int, Item]]], Started],
    batches: Callable[[Started], Sequence[Batch]],
    *,
    rank: int = 0,
    num_processes: int = 1,
    is_ahead: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Score every `num_processes`-th block of the items; nothing that a file holds already is scored again.

    Args:
        folder: of the blocks.
        subset: of the items.
        items: numbered items; the same ones in the same order in every process and every attempt.
        start: is given the items of a block that have no rows yet, while the block before is still to be scored.
        batches: of what `start` gave; at least one, also of no items. Their rows have the items' numbers.
        rank: of this process.
        num_processes: that share the blocks.
        is_ahead: a batch is begun before the rows of the one before are asked for, of the next block too.
        advance: is told how many items more are done.
    """

    def started() -> Iterator[tuple[Path, Started]]:
        for number, block in enumerate(_blocks(items)):
            path = block_path(folder, subset, number)
            if number % num_processes != rank:
                continue
            if path.exists():
                advance(len(block))
                continue
            partial = _partial(path)
            with RowWriter(partial):  # drops a last line that a kill left unfinished
                done = {row.index for row in read_rows(partial, Score)}
            advance(len(done))
            yield path, start([item for item in block if item[0] not in done])

    def begun() -> Iterator[tuple[Path, bool, Callable[[], Sequence[Score]]]]:
        for path, block in _one_ahead(started()):
            *others, last = batches(block)
            for begin in others:
                yield path, False, begin()
            yield path, True, last()

    for path, is_last, rows in _one_ahead(begun()) if is_ahead else begun():
        found = rows()
        with RowWriter(_partial(path)) as writer:
            writer.write(found)
        if is_last:
            os.replace(_partial(path), path)
        advance(len(found))


def _blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while block := list(itertools.islice(iterator, BLOCK)):
        yield block


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.jsonl")


def _one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each when the next one is there already."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def merged_blocks(folder: Path, counts: dict[Subset, int]) -> Iterator[list[Score]]:
    """The rows of all blocks in the order of the data, one block in memory at a time.

    Args:
        folder: of the blocks.
        counts: how many items each subset has.

    Raises:
        UserError: a block is missing.
    """
    for subset, count in counts.items():
        for number in range(-(-count // BLOCK)):
            path = block_path(folder, subset, number)
            if not path.exists():
                raise UserError(
                    f"{path} is missing: it was another process's. Let all machines share the run folder, then run "
                    "again."
                )
            yield sorted(read_rows(path, Score), key=lambda row: row.index)
