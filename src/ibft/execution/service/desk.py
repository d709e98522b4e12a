"""The service's state: its pool, how much it has taken on, and what it counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from fastapi import HTTPException

from ibft.artifacts.rows import Problem
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import Pool, Verdict
from ibft.execution.references import REFERENCE_CPU_S
from ibft.execution.sandbox import Limits
from ibft.execution.settings import CPU_FACTOR, JudgeSettings

__all__ = ["Desk", "ServiceLimits"]

_RETRY_AFTER_S = 1
_NUM_REMEMBERED = 1024

Problems = Mapping[str, Mapping[str, Problem]]
"""By data set, then by task id."""


class ServiceLimits:
    """What one request may ask for, and all of them together.

    Args:
        max_jobs: taken on at once, those that wait included; more are refused with 503.
        max_body_bytes: size of a request.
        max_cpu_s: CPU time of a program.
        max_memory_mib: memory of a program.
    """

    def __init__(
        self,
        max_jobs: int = 4096,
        max_body_bytes: int = 64 << 20,
        max_cpu_s: float = CPU_FACTOR * REFERENCE_CPU_S,
        max_memory_mib: int = 8192,
    ) -> None:
        self.max_jobs, self.max_body_bytes = max_jobs, max_body_bytes
        self.max_cpu_s, self.max_memory_mib = max_cpu_s, max_memory_mib

    def require(self, limits: Limits) -> None:
        """Refuse limits above ours.

        Raises:
            HTTPException: 422.
        """
        if not 0 < limits.cpu_s <= self.max_cpu_s or not 0 < limits.memory_mib <= self.max_memory_mib:
            raise HTTPException(
                422, f"limits: at most {self.max_cpu_s:g} s of CPU time and {self.max_memory_mib} MiB are allowed here"
            )


class Desk:
    """Takes on work while there is room for it.

    Args:
        pool: judges; it is entered by the service.
        settings: limits of answers for which a request gives none.
        problems: those that requests can name.
        limits: of requests.
    """

    def __init__(self, pool: Pool, settings: JudgeSettings, problems: Problems, limits: ServiceLimits) -> None:
        self.pool, self.settings, self.problems, self.limits = pool, settings, problems, limits
        self.num_taken = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """Verdicts by status, programs by status, and refused requests."""

        self._references: OrderedDict[Problem, Reference] = OrderedDict()

    @contextlib.contextmanager
    def room(self, num_jobs: int, *, full_status: int = 503) -> Iterator[None]:
        """Take on so many jobs until the end of the block.

        Raises:
            HTTPException: 413 for more than there ever is room for; `full_status` while there is none.
        """
        if num_jobs > self.limits.max_jobs:
            raise HTTPException(
                413, f"{num_jobs} jobs in one request: at most {self.limits.max_jobs} are taken at once"
            )
        if self.num_taken + num_jobs > self.limits.max_jobs:
            self.counts["refused", "full"] += 1
            raise HTTPException(full_status, "the queue is full", {"Retry-After": str(_RETRY_AFTER_S)})
        self.num_taken += num_jobs
        try:
            yield
        finally:
            self.num_taken -= num_jobs

    async def verdicts(self, jobs: Sequence[Job]) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yield the verdicts as they come, each with its job's position; leaving early ends what runs."""

        async def judge(position: int, job: Job) -> tuple[int, Verdict]:
            return position, await asyncio.wrap_future(self.pool.submit(job))

        tasks = [asyncio.create_task(judge(position, job)) for position, job in enumerate(jobs)]
        try:
            for task in asyncio.as_completed(tasks):
                position, verdict = await task
                self.counts["verdicts", verdict.status] += 1
                yield position, verdict
        finally:
            for unfinished in tasks:
                unfinished.cancel()

    async def reference(self, problem: Problem) -> Reference:
        """Return the verdict on a problem's own solution, which is run once."""
        if problem not in self._references:
            job = Job(problem=problem, limits=self.settings.limits_of(REFERENCE_CPU_S))
            async for _, verdict in self.verdicts([job]):
                assert isinstance(verdict, Reference)
                if verdict.status == "infrastructure_error":
                    return verdict
                self._references[problem] = verdict
            if len(self._references) > _NUM_REMEMBERED:
                self._references.popitem(last=False)
        return self._references[problem]

    async def outcomes(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Return the verdicts on samples, in their order."""
        outcomes: dict[int, Outcome] = {}
        async for position, outcome in self.verdicts(jobs):
            assert isinstance(outcome, Outcome)
            outcomes[position] = outcome
        return [outcomes[position] for position in range(len(jobs))]

    def known(self, dataset: str, task_id: str) -> Problem:
        """Return a problem of a benchmark that the service has.

        Args:
            dataset: its name, also with SandboxFusion's ending (`humaneval_python`); "" looks in all.
            task_id: as it is, or what follows its last slash.

        Raises:
            HTTPException: 404, with what there is.
        """
        dataset = dataset.removesuffix("_python")
        if dataset and dataset not in self.problems:
            raise HTTPException(404, f"dataset {dataset!r} is not served: {', '.join(self.problems) or 'none is'}")
        for name in [dataset] if dataset else self.problems:
            for known, problem in self.problems[name].items():
                if task_id in (known, known.rpartition("/")[2]):
                    return problem
        raise HTTPException(404, f"task_id {task_id!r} is in none of {', '.join(self.problems) or 'no data sets'}")

    def metrics(self) -> str:
        """Return the counts in Prometheus's text format."""
        kinds = {"verdicts": "Verdicts given", "programs": "Programs run", "refused": "Requests refused"}
        lines = ["# HELP ibft_jobs Jobs taken on, those that wait included.", "# TYPE ibft_jobs gauge"]
        lines.append(f"ibft_jobs {self.num_taken}")
        for kind, words in kinds.items():
            lines += [f"# HELP ibft_{kind}_total {words}.", f"# TYPE ibft_{kind}_total counter"]
            for (name, status), count in sorted(self.counts.items()):
                if name == kind:
                    lines.append(f'ibft_{kind}_total{{status="{status}"}} {count}')
        return "\n".join(lines) + "\n"
