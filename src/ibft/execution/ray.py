"""The pool of a Ray cluster: each node judges in its own sandboxes, by limits from references that it has run itself.

Nodes differ in speed, simulators and kernels. So a node runs a problem's reference before its samples, once: the place
of the tests and the trace are this run's, and a sample's CPU limit grows by as much as the reference was slower here
than where the job comes from. A node on which the reference does not pass leaves the job to others.
"""

from __future__ import annotations

import platform
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

import ibft
from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution.examiner import Examiner
from ibft.execution.isolation import Level, detect_level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import FuturePool, Verdict
from ibft.execution.references import REFERENCE_CPU_S
from ibft.execution.sandbox import Limits
from ibft.run.cluster import Cluster
from ibft.run.cluster_work import Host

__all__ = ["RayPool", "scaled"]

_LEVELS: tuple[Level, ...] = ("none", "landlock", "bubblewrap")  # weakest first
_MAX_SLOWDOWN = 10.0
"""Bound on how much longer a sample may take here: the time of a reference of a millisecond is half noise."""

_NUM_REMEMBERED = 4096


class _Message(NamedTuple):
    """A job as it is sent. The problem, which may be megabytes, goes to a node once: Ray's store keeps it there."""

    level: Level
    problem: list[Any]  # in a list, Ray does not fetch it before it is needed
    limits: Limits
    sample: Sample | None
    reference: Reference | None


class JudgeHost:
    """The actor on a node: an examiner for each slot, and the verdicts on the references here."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._idle: queue.SimpleQueue[Examiner] = queue.SimpleQueue()
        self._all: list[Examiner] = []
        self._lock = threading.Lock()
        self._stopping: dict[int, threading.Event] = {}
        self._references: dict[Problem, Future[Reference]] = {}
        self._problems: dict[Any, Problem] = {}

    def describe(self) -> dict[str, Any]:
        """Return the versions, the sandbox's level and the slots of this node."""
        versions = {"ibft": ibft.__version__, "python": platform.python_version()}
        try:
            return {"versions": versions, "level": detect_level(), "num_slots": self._num_slots, "problem": ""}
        except UserError as error:
            return {"versions": versions, "level": "none", "num_slots": self._num_slots, "problem": str(error)}

    def do(self, number: int, message: _Message) -> Verdict:
        """Run a reference, or a sample by this node's limits."""
        problem = self._problem(message.problem[0])
        with self._lock:
            stopping = self._stopping.setdefault(number, threading.Event())
        try:
            reference = self._reference(problem, message, stopping)
            if message.sample is None:
                return reference
            assert message.reference is not None
            if not reference.passed:
                reason = f"not judged: the reference solution does not pass on {platform.node()}: {reference.message}"
                return Outcome(status="infrastructure_error", message=reason)
            limits = scaled(message.limits, message.reference, reference)
            job = Job(problem=problem, limits=limits, sample=message.sample, reference=reference)
            return self._examine(message.level, job, stopping)
        finally:
            with self._lock:
                self._stopping.pop(number, None)

    def stop(self, number: int) -> None:
        """End a task, whether it runs or waits."""
        with self._lock:
            stopping = self._stopping.setdefault(number, threading.Event())
        stopping.set()
        for examiner in self._all:
            examiner.interrupt(stopping)

    def close(self) -> None:
        """End the examiners and what they run."""
        for examiner in self._all:
            examiner.close()

    def _problem(self, stored: Any) -> Problem:
        import ray

        with self._lock:
            if stored not in self._problems:
                self._problems[stored] = ray.get(stored)
            return self._problems[stored]

    def _reference(self, problem: Problem, message: _Message, stopping: threading.Event) -> Reference:
        """Return the verdict on a problem's reference here; the first who asks runs it, the others wait."""
        while True:
            with self._lock:
                known = self._references.get(problem)
                if known is None:
                    mine = self._references[problem] = Future()
                    break
            if (reference := known.result()).status != "infrastructure_error":
                return reference
        factor = max(1.0, REFERENCE_CPU_S / message.limits.cpu_s)
        limits = msgspec.structs.replace(message.limits, cpu_s=REFERENCE_CPU_S, wall_s=message.limits.wall_s * factor)
        verdict = self._examine(message.level, Job(problem=problem, limits=limits), stopping)
        assert isinstance(verdict, Reference)
        if verdict.status == "infrastructure_error":  # it was stopped, or the sandbox failed: the next one tries
            with self._lock:
                del self._references[problem]
        mine.set_result(verdict)
        return verdict

    def _examine(self, level: Level, job: Job, stopping: threading.Event) -> Verdict:
        with self._lock:
            if not self._all:
                self._all = [Examiner(level) for _ in range(self._num_slots)]
                for examiner in self._all:
                    self._idle.put(examiner)
        examiner = self._idle.get()
        try:
            return examiner.examine(job, stopping)
        finally:
            self._idle.put(examiner)


def scaled(limits: Limits, there: Reference, here: Reference) -> Limits:
    """Return a job's limits on this node: longer by as much as the reference is slower here, never shorter.

    Args:
        limits: of the job.
        there: the reference that they were made from.
        here: the same reference on this node.
    """
    if not there.cpu_time_s:
        return limits
    factor = min(max(1.0, here.cpu_time_s / there.cpu_time_s), _MAX_SLOWDOWN)
    return limits.scaled(factor)


class _Judging:
    """What the cluster has to know of judging (`ibft.run.cluster_work.Work`)."""

    host: type[Host] = JudgeHost

    def __init__(self, level: Level | None) -> None:
        self.level = level
        """Of every node; None until the nodes of the start have said what they have."""

        self._stored: OrderedDict[Problem, Any] = OrderedDict()

    def refusal(self, description: dict[str, Any]) -> str:
        ours = {"ibft": ibft.__version__, "python": platform.python_version()}
        theirs = description["versions"]
        for name in ours:
            if theirs[name] != ours[name]:
                return f"it has {name} {theirs[name]}, and this machine {ours[name]}: install the same version"
        if self.level == "none":
            return ""
        if description["problem"]:
            return str(description["problem"])
        if self.level is not None and _LEVELS.index(description["level"]) < _LEVELS.index(self.level):
            return f"its strongest sandbox is {description['level']}, not {self.level}"
        return ""

    def message(self, job: Job) -> _Message:
        assert self.level is not None
        return _Message(self.level, [self._put(job.problem)], job.limits, job.sample, job.reference)

    def is_elsewhere(self, verdict: Verdict) -> bool:
        return verdict.status == "infrastructure_error"

    def give_up(self, job: Job, reason: str) -> Verdict:
        return job.unfinished("infrastructure_error", f"not judged: {reason}")

    def _put(self, problem: Problem) -> Any:
        import ray

        if problem not in self._stored:
            self._stored[problem] = ray.put(problem)
            if len(self._stored) > _NUM_REMEMBERED:
                self._stored.popitem(last=False)
        return self._stored[problem]


class RayPool(FuturePool):
    """A pool of all nodes of a Ray cluster, on each of which the same version of ibft is installed.

    A lost node's jobs are done again by the others. `level` is the same on all nodes, so that results compare: by
    default the strongest that each of the nodes at the start has; `num_workers` counts their slots.

    Args:
        address: of the cluster, as `ray.init` takes it; `auto` is the one that runs on this machine.
        num_workers: programs judged at once on each node; by default its CPUs, as Ray counts them.
        level: of the sandboxes; nodes without it are not used. None: see above.

    Raises:
        UserError: on entry, if there is no such cluster, or none of its nodes can judge; says why.
    """

    def __init__(self, address: str = "auto", num_workers: int | None = None, level: Level | None = None) -> None:
        self._judging = _Judging(level)
        self._cluster: Cluster[Job, Verdict] = Cluster(self._judging, address, num_workers)
        self.num_workers = 0

    @property
    def level(self) -> Level:
        """The level of the sandboxes, once the pool has been entered."""
        assert self._judging.level is not None
        return self._judging.level

    def __enter__(self) -> RayPool:
        nodes = self._cluster.start()
        self.num_workers = sum(node["num_slots"] for node in nodes)
        if self._judging.level is None:
            self._judging.level = min((node["level"] for node in nodes), key=_LEVELS.index)
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.close()

    def submit(self, job: Job) -> Future[Verdict]:
        """Hand in a job; see `FuturePool.submit`."""
        return self._cluster.submit(job)
