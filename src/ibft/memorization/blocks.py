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

from ibft.errors import UserError
from ibft.rows import RowWriter, Score, Subset, read_rows

__all__ = ["BLOCK", "block_path", "merged_blocks", "score_blocks"]

BLOCK = 512
"""Examples of a block: what a process takes at a time, sorts by length, and holds in memory."""

Item = TypeVar("Item")


def block_path(folder: Path, subset: Subset, number: int) -> Path:
    """Where a complete block lies."""
    return folder / f"{subset}-{number:06d}.jsonl"


def score_blocks(
    folder: Path,
    subset: Subset,
    items: Iterable[tuple[int, Item]],
    score: Callable[[Sequence[tuple[int, Item]]], Iterable[Sequence[Score]]],
    *,
    rank: int = 0,
    num_processes: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Score every `num_processes`-th block of the items; nothing that a file holds already is scored again.

    Args:
        folder: of the blocks.
        subset: of the items.
        items: numbered items; the same ones in the same order in every process and every attempt.
        score: scores some of a block's items; gives rows as they are made, with the items' numbers.
        rank: of this process.
        num_processes: that share the blocks.
        advance: is told how many items more are done.
    """
    iterator = iter(items)
    for number in itertools.count():
        block = list(itertools.islice(iterator, BLOCK))
        if not block:
            return
        if number % num_processes != rank:
            continue
        path = block_path(folder, subset, number)
        if not path.exists():
            partial = path.with_suffix(".partial.jsonl")
            with RowWriter(partial) as writer:  # drops a last line that a kill left unfinished
                done = {row.index for row in read_rows(partial, Score)}
                advance(len(done))
                for rows in score([item for item in block if item[0] not in done]):
                    writer.write(rows)
                    advance(len(rows))
            os.replace(partial, path)
        else:
            advance(len(block))


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
