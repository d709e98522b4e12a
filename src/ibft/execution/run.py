"""One judging run, as a stream: samples in, a result for each out, in the samples' order and in little memory.

Results are appended to `results.partial.jsonl` as they come, so that a run that is killed resumes where it was; at the
end they are put in order. What was judged before, in this run or in the cache, is not judged again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ibft.artifacts.json_lines import RowWriter, is_encodable, read_rows, write_rows
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import Pool
from ibft.execution.settings import JudgeSettings
from ibft.progress import Task, task

__all__ = ["judge_samples", "without_running"]

_CHUNK = 256
_RECENT = 10_000
_NOT_JUDGED = -1

Item = TypeVar("Item")


class _Judged(msgspec.Struct, frozen=True):
    """A row of the partial file: the sample's position in its file, and its result."""

    position: int
    result: Result


def judge_samples(
    samples: Iterable[Sample],
    num_samples: int,
    problems: Mapping[str, Problem],
    references: Mapping[str, Reference],
    pool: Pool,
    cache: VerdictCache,
    settings: JudgeSettings,
    folder: Path,
    title: str,
) -> None:
    """Write `results.jsonl` into the folder, judging only what an earlier run has not judged already.

    Args:
        samples: what is judged, the same in each call for this folder.
        num_samples: how many they are.
        problems: by task id.
        references: by task id.
        pool: judges them.
        cache: verdicts that are known.
        settings: limits and sandbox.
        folder: holds `results.partial.jsonl` until all are judged.
        title: of the progress bar.
    """
    complete, partial = folder / "results.jsonl", folder / "results.partial.jsonl"
    if complete.exists() and not partial.exists():
        if not any(result.status == "infrastructure_error" for result in read_rows(complete, Result)):
            return
        # What the sandbox failed on is tried again; the rest stays judged.
        write_rows(partial, itertools.starmap(_Judged, enumerate(read_rows(complete, Result))))
    ledger = _Ledger(partial, num_samples)
    with (
        RowWriter(partial) as writer,
        task(title, total=num_samples, done=ledger.num_judged) as progress,
    ):
        run = _Run(problems, references, cache, settings, ledger, writer, progress)
        with contextlib.closing(pool.run(run.jobs(samples))) as outcomes:
            for key, outcome in outcomes:
                assert isinstance(outcome, Outcome)
                run.learn(key, outcome)
        run.flush()
    write_rows(complete, ledger.in_order())
    partial.unlink()


def without_running(sample: Sample, reference: Reference) -> Outcome | None:
    """Return what is clear of a sample without running it, None where it has to be run."""
    if not reference.passed:
        return Outcome(status="excluded", message=f"not judged: the reference solution: {reference.message}")
    if not sample.text.strip():
        return Outcome(status="no_code", message="failed: the answer is empty")
    if not is_encodable(sample.text):
        return Outcome(status="syntax_error", message="syntax error: the answer has lone surrogates, not Unicode")
    return None


class _Ledger:
    """Where in the partial file each sample's result stands: 8 bytes a sample."""

    def __init__(self, path: Path, num_samples: int) -> None:
        self._path = path
        self._offsets = array("q", [_NOT_JUDGED]) * num_samples
        self.num_judged = self.num_passed = 0
        if path.exists():
            with RowWriter(path):
                pass  # drops the unfinished last line of a killed run
            self._read()
        self._end = path.stat().st_size if path.exists() else 0

    def __contains__(self, position: int) -> bool:
        return self._offsets[position] != _NOT_JUDGED

    def add(self, position: int, result: Result, size_bytes: int) -> None:
        """Take note of a row that was just appended."""
        if result.status != "infrastructure_error" and position not in self:
            self.num_judged += 1
            self.num_passed += result.passed
        self._offsets[position] = self._end
        self._end += size_bytes

    def in_order(self) -> Iterator[Result]:
        """Yield the results by position."""
        with open(self._path, "rb") as file:
            for offset in self._offsets:
                file.seek(offset)
                yield msgspec.json.decode(file.readline(), type=_Judged).result

    def _read(self) -> None:
        self._end = 0
        with open(self._path, "rb") as file:
            for line in file:
                row = msgspec.json.decode(line, type=_Judged)
                if row.result.status == "infrastructure_error":
                    self._end += len(line)
                else:
                    self.add(row.position, row.result, len(line))


class _Run:
    """What the stream of samples and the stream of outcomes share."""

    def __init__(
        self,
        problems: Mapping[str, Problem],
        references: Mapping[str, Reference],
        cache: VerdictCache,
        settings: JudgeSettings,
        ledger: _Ledger,
        writer: RowWriter,
        progress: Task,
    ) -> None:
        self._problems, self._references = problems, references
        self._cache, self._settings = cache, settings
        self._ledger, self._writer, self._progress = ledger, writer, progress
        self._waiting: dict[str, list[tuple[int, Sample]]] = {}
        self._recent: OrderedDict[str, Outcome] = OrderedDict()
        self._fresh: dict[str, bytes] = {}
        self._start, self._num_before = time.monotonic(), ledger.num_judged

    def jobs(self, samples: Iterable[Sample]) -> Iterator[tuple[str, Job]]:
        """Yield what has to be run: no sample that is judged, cached, a duplicate, excluded or no code at all."""
        todo = ((position, sample) for position, sample in enumerate(samples) if position not in self._ledger)
        for chunk in _chunks(todo, _CHUNK):
            keyed = []
            for position, sample in chunk:
                if outcome := without_running(sample, self._references[sample.task_id]):
                    self._record(position, sample, outcome)
                else:
                    keyed.append((self._key(sample), position, sample))
            cached = self._cache.get_many([key for key, _, _ in keyed])
            for key, position, sample in keyed:
                if key in self._recent:
                    self._record(position, sample, self._recent[key])
                elif key in cached:
                    self._record(position, sample, msgspec.json.decode(cached[key], type=Outcome))
                elif key in self._waiting:
                    self._waiting[key].append((position, sample))
                else:
                    self._waiting[key] = [(position, sample)]
                    yield key, self._job(sample)

    def learn(self, key: str, outcome: Outcome) -> None:
        """An outcome has come: record it for every sample that waits for it."""
        for position, sample in self._waiting.pop(key):
            self._record(position, sample, outcome)
        if outcome.status == "infrastructure_error":
            return
        self._recent[key] = outcome
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        self._fresh[key] = msgspec.json.encode(outcome)
        if len(self._fresh) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand the new verdicts to the cache."""
        self._cache.put_many(self._fresh)
        self._fresh = {}

    def _key(self, sample: Sample) -> str:
        return self._settings.sample_key(self._problems[sample.task_id], sample, self._references[sample.task_id])

    def _job(self, sample: Sample) -> Job:
        problem, reference = self._problems[sample.task_id], self._references[sample.task_id]
        return Job(
            problem=problem,
            limits=self._settings.limits(problem, reference),
            sample=sample,
            reference=reference,
        )

    def _record(self, position: int, sample: Sample, outcome: Outcome) -> None:
        result = Result(
            task_id=sample.task_id,
            completion=sample.text.encode("utf-8", "backslashreplace").decode(),
            result=outcome.message,
            passed=outcome.passed,
            status=outcome.status,
            index=sample.index or 0,
            wall_time_s=round(outcome.wall_time_s, 6),
            cpu_time_s=round(outcome.cpu_time_s, 6),
            sandbox=self._settings.level,
            is_weak=outcome.is_weak,
            reached=outcome.reached,
            is_extracted=sample.raw is not None,
        )
        size_bytes = self._writer.write([_Judged(position, result)])
        self._ledger.add(position, result, size_bytes)
        rate = (self._ledger.num_judged - self._num_before) / max(time.monotonic() - self._start, 1e-9)
        self._progress.advance(note=f"{self._ledger.num_passed} passed, {rate:.0f}/s")


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
