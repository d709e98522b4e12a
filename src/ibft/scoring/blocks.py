"""A scan's rows while they are made: one file per block, so that processes share the work and a kill loses one batch.

blocks/<subset>-<number>.jsonl            a complete block, in any order
blocks/<subset>-<number>.partial.jsonl    one that is being made
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ibft.artifacts.json_lines import RowWriter, read_rows
from ibft.artifacts.rows import Score, Subset
from ibft.data.subsets import NumberedExamples
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.scoring.encoder import Block

if TYPE_CHECKING:
    from ibft.scoring.engine import Scorer

__all__ = ["BLOCK", "block_path", "complete_blocks", "score_blocks"]

BLOCK = 512
"""Examples of a block: what a process takes at a time, sorts by length, and holds in memory."""


def block_path(folder: Path, subset: str, number: int) -> Path:
    """Return where a complete block is stored."""
    return folder / f"{subset}-{number:06d}.jsonl"


def score_blocks(
    folder: Path,
    sources: Sequence[NumberedExamples],
    scorer: Scorer,
    *,
    rank: int = 0,
    num_processes: int = 1,
    advance: Callable[[int, str], None] = lambda num, subset: None,
) -> None:
    """Score every `num_processes`-th block of the sources; nothing that a file holds already is scored again.

    Args:
        folder: of the blocks.
        sources: the same examples in the same order in every process and every attempt.
        scorer: makes the rows.
        rank: number of this process, from 0.
        num_processes: how many share the blocks.
        advance: called with the number of examples that were scored since the last call, and their subset.
    """
    num_left: dict[Path, int] = {}

    def unfinished() -> Iterator[Block]:
        for source in sources:
            for number, items in enumerate(_split(source)):
                if number % num_processes != rank:
                    continue
                path = block_path(folder, source.subset, number)
                left = [] if path.exists() else _without_rows(items, _partial(path))
                advance(len(items) - len(left), source.subset)
                num_left[path] = len(left)
                if left:
                    yield Block(source.subset, number, left)
                elif not path.exists():  # killed between the last row and this
                    os.replace(_partial(path), path)

    for subset, number, rows in scorer.score(unfinished()):
        path = block_path(folder, subset, number)
        with RowWriter(_partial(path)) as writer:  # closed after each batch, so that a kill loses no more than one
            writer.write(rows)
        num_left[path] -= len(rows)
        if not num_left[path]:
            os.replace(_partial(path), path)
        advance(len(rows), subset)


def _split(items: Iterable[tuple[int, Example]]) -> Iterator[list[tuple[int, Example]]]:
    iterator = iter(items)
    while block := list(itertools.islice(iterator, BLOCK)):
        yield block


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.jsonl")


def _without_rows(items: list[tuple[int, Example]], partial: Path) -> list[tuple[int, Example]]:
    """Return the items that have no row yet in a block that is being made."""
    with RowWriter(partial):  # opening it drops a last line that a kill left unfinished
        done = {row.index for row in read_rows(partial, Score)}
    return [item for item in items if item[0] not in done]


def complete_blocks(folder: Path, counts: dict[Subset, int]) -> Iterator[Path]:
    """Yield the files of all blocks in the order of the data; the rows of each are in no order.

    Args:
        folder: of the blocks.
        counts: how many examples each subset has.

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
            yield path
