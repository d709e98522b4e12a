"""Reading samples, whichever tool wrote them, and checking them against the benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft.artifacts.json_lines import decode_foreign, read_lines
from ibft.artifacts.rows import Sample
from ibft.errors import UserError

__all__ = ["SampleFile", "open_samples"]


class SampleFile(NamedTuple):
    """A file of samples that has been looked through: its samples, and those of other tasks that it leaves out."""

    path: Path
    num_samples: int
    num_left_out: int
    chosen: frozenset[str]

    def read(self) -> Iterator[Sample]:
        """Yield what is judged: the samples of the chosen tasks, one at a time, in the file's order.

        Samples without an `index` are given one: their count within the task, from 0.
        """
        seen: Counter[str] = Counter()
        for sample in self.stored():
            # Neither human-eval's samples nor EvalPlus's are numbered.
            index = seen[sample.task_id] if sample.index is None else sample.index
            seen[sample.task_id] += 1
            # `raw` is dropped: only whoever extracts the answer from a text knows that there was more in it.
            yield msgspec.structs.replace(sample, index=index, raw=None)

    def stored(self) -> Iterator[Sample]:
        """Yield the same samples as the file has them."""
        return (sample for _, sample in _numbered_samples(self.path) if sample.task_id in self.chosen)


def open_samples(path: Path, known: Collection[str], source: str, chosen: Collection[str] | None = None) -> SampleFile:
    """Look through a file in human-eval's or EvalPlus's format (`.jsonl` or `.jsonl.gz`), keeping nothing in memory.

    Args:
        path: the file.
        known: the task ids of the benchmark that the samples answer.
        source: the benchmark's name, for the errors.
        chosen: the tasks to judge; all, if None.

    Raises:
        UserError: the file is missing, empty or malformed (names the line), a sample has neither or both of
            `completion` and `solution`, or answers a task that the benchmark lacks, or none is of the chosen tasks.
    """
    known_ids = frozenset(known)
    chosen_ids = known_ids if chosen is None else frozenset(chosen)
    num_all = num_unknown = num_chosen = 0
    first_unknown: tuple[int, str] | None = None
    # The whole file before the first sample is judged: an error in its last line must not cost hours of judging.
    for number, sample in _numbered_samples(path):
        num_all += 1
        num_chosen += sample.task_id in chosen_ids
        if sample.task_id not in known_ids:
            first_unknown = first_unknown or (number, sample.task_id)
            num_unknown += 1
    if first_unknown:
        number, task_id = first_unknown
        raise UserError(
            f"{path}: {num_unknown} of {num_all} samples answer tasks that {source} lacks (first: {task_id!r}, "
            f"line {number}). Its task ids look like {next(iter(known))!r}; judge with the benchmark the samples "
            "were made for."
        )
    if not num_all:
        raise UserError(f"{path}: has no samples in it.")
    if not num_chosen:
        raise UserError(f"{path}: none of its {num_all} samples is of the chosen tasks.")
    return SampleFile(path, num_chosen, num_all - num_chosen, chosen_ids)


def _numbered_samples(path: Path) -> Iterator[tuple[int, Sample]]:
    for number, line in read_lines(path):
        try:
            sample = decode_foreign(line, Sample)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: {error}. Each line must be a JSON object with `task_id` and either "
                "`completion` or `solution`."
            ) from None
        if (sample.completion is None) == (sample.solution is None):
            which = "neither" if sample.completion is None else "both"
            raise UserError(
                f"{path}, line {number}: task {sample.task_id!r} has {which} of `completion` and `solution`. Give one."
            )
        yield number, sample
