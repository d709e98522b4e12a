"""One judging run, as a stream: samples in, a result for each out, in the samples' order and in little memory.

Results are appended to `results.partial.jsonl` as they come, so that a run that is killed resumes where it was; at the
end they are put in order. A sample with a verdict, from this run or in the cache, is not judged again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import RowWriter, is_encodable, read_rows, write_rows
from ibft.artifacts.rows import Result, Sample
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import PoolLike
from ibft.execution.settings import Judging
from ibft.progress import Task, task

__all__ = ["judge_samples", "without_running"]

_CHUNK = 256  # of the cache: one query or transaction for this many verdicts
_RECENT = 10_000  # verdicts remembered for samples that are equal: the cache may be off, or yet to be written
_NOT_JUDGED = -1


class _Judged(msgspec.Struct, frozen=True):
    """A row of the partial file: the sample's position in its file, and its result."""

    position: int
    result: Result


def judge_samples(
    judging: Judging, references: Mapping[str, Reference], pool: PoolLike, cache: VerdictCache, folder: Path, title: str
) -> None:
    """Write `results.jsonl` into the folder, judging only what an earlier run has not judged already.

    Args:
        judging: the samples and their problems, the same in each call for this folder.
        references: by task id.
        pool: judges them.
        cache: verdicts that are known.
        folder: holds `results.partial.jsonl` until all are judged.
        title: of the progress bar.
    """
    complete, partial = folder / "results.jsonl", folder / "results.partial.jsonl"
    if complete.exists() and not partial.exists():
        if not any(result.status == "infrastructure_error" for result in read_rows(complete, Result)):
            return
        # A sample that the sandbox failed on is tried again; the rest stays judged.
        write_rows(partial, itertools.starmap(_Judged, enumerate(read_rows(complete, Result))))
    with RowWriter(partial) as writer:  # drops the unfinished last line of a killed run, before the ledger reads it
        ledger = _Ledger(partial, judging.samples.num_samples)
        with task(title, total=judging.samples.num_samples, done=ledger.num_judged) as progress:
            run = _Run(judging, references, cache, ledger, writer, progress)
            with contextlib.closing(pool.run(run.jobs())) as outcomes:
                for key, outcome in outcomes:
                    assert isinstance(outcome, Outcome)
                    run.learn(key, outcome)
            run.flush()
    write_rows(complete, ledger.in_order())
    partial.unlink()


def without_running(sample: Sample, reference: Reference) -> Outcome | None:
    """Return the verdict on a sample that needs no run, None where it has to be run."""
    if not reference.passed:
        return Outcome(status="excluded", message=f"not judged: its problem cannot be: {reference.message}")
    if not sample.text.strip():
        return Outcome(status="no_code", message="failed: the answer is empty")
    if not is_encodable(sample.text):
        return Outcome(status="syntax_error", message="syntax error: the answer has lone surrogates, not Unicode")
    return None


class _Ledger:
    """The place of each sample's result in the partial file: 8 bytes per sample."""

    def __init__(self, path: Path, num_samples: int) -> None:
        self._path = path
        self._offsets = array("q", [_NOT_JUDGED]) * num_samples
        self.num_judged = self.num_passed = self._end = 0
        with open(path, "rb") as file:
            for line in file:
                row = msgspec.json.decode(line, type=_Judged)
                if row.result.status == "infrastructure_error":  # of an earlier run: to be judged again
                    self._end += len(line)
                else:
                    self.add(row.position, row.result, len(line))

    def __contains__(self, position: int) -> bool:
        return self._offsets[position] != _NOT_JUDGED

    def add(self, position: int, result: Result, size_bytes: int) -> None:
        """Record a row that was just appended."""
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


class _Run:
    """The state that the stream of samples and the stream of outcomes share."""

    def __init__(
        self,
        judging: Judging,
        references: Mapping[str, Reference],
        cache: VerdictCache,
        ledger: _Ledger,
        writer: RowWriter,
        progress: Task,
    ) -> None:
        self._judging, self._references, self._cache = judging, references, cache
        self._ledger, self._writer, self._progress = ledger, writer, progress
        self._problems = {problem.task_id: problem for problem in judging.problems}
        self._waiting: dict[str, list[tuple[int, Sample]]] = {}
        self._recent: OrderedDict[str, Outcome] = OrderedDict()
        self._fresh: dict[str, Outcome] = {}
        self._start, self._num_before = time.monotonic(), ledger.num_judged

    def jobs(self) -> Iterator[tuple[str, Job]]:
        """Yield the jobs to run: of no sample that is judged, cached, a duplicate, excluded or without code."""
        settings, samples = self._judging.settings, enumerate(self._judging.answers())
        todo = ((position, sample) for position, sample in samples if position not in self._ledger)
        while chunk := list(itertools.islice(todo, _CHUNK)):
            keyed = []
            for position, sample in chunk:
                problem, reference = self._problems[sample.task_id], self._references[sample.task_id]
                if outcome := without_running(sample, reference):
                    self._record(position, sample, outcome)
                else:
                    keyed.append((settings.sample_key(problem, sample, reference), position, sample))
            cached = self._cache.get_many([key for key, _, _ in keyed], Outcome)
            for key, position, sample in keyed:
                if outcome := self._recent.get(key) or cached.get(key):
                    self._record(position, sample, outcome)
                elif key in self._waiting:
                    self._waiting[key].append((position, sample))
                else:
                    self._waiting[key] = [(position, sample)]
                    problem, reference = self._problems[sample.task_id], self._references[sample.task_id]
                    limits = settings.limits(problem, reference)
                    yield key, Job(problem=problem, limits=limits, sample=sample, reference=reference)

    def learn(self, key: str, outcome: Outcome) -> None:
        """Record an outcome for every sample that waits for it."""
        for position, sample in self._waiting.pop(key):
            self._record(position, sample, outcome)
        if outcome.status == "infrastructure_error":
            return
        self._recent[key] = outcome
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        self._fresh[key] = outcome
        if len(self._fresh) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Put the new verdicts into the cache."""
        self._cache.put_many(self._fresh)
        self._fresh = {}

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
            sandbox=self._judging.settings.level,
            is_weak=outcome.is_weak,
            reached=outcome.reached,
            is_extracted=sample.raw is not None,
            warning=outcome.warning,
        )
        size_bytes = self._writer.write([_Judged(position, result)])
        self._ledger.add(position, result, size_bytes)
        rate = (self._ledger.num_judged - self._num_before) / max(time.monotonic() - self._start, 1e-9)
        self._progress.advance(note=f"{self._ledger.num_passed} passed, {rate:.0f}/s")
