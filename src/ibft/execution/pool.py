"""Many jobs at once: what a pool has to do, how one is built on futures, and the pool of this machine."""

from __future__ import annotations

import abc
import collections
import contextlib
import itertools
import queue
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

from ibft.execution.examiner import Examiner
from ibft.execution.isolation import Level, detect_level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.run.futures import settle
from ibft.run.provenance import usable_cores

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11

__all__ = ["FuturePool", "Pool", "PoolLike", "Verdict", "open_pool"]

Item = TypeVar("Item")
Key = TypeVar("Key")
Verdict = Outcome | Reference

WINDOW = 2048
"""Jobs taken from the stream ahead of their turn: enough to reorder, little enough to keep memory flat."""

_AWAKE_S = 0.2


class PoolLike(Protocol):
    """Does many jobs at once: by the processes of this machine (`Pool`), or by those of others.

    A job holds all that it needs, and neither a job nor its verdict refers to anything of this process, so that both
    can be sent to another machine. A pool there has an `Examiner`, or a process of its own with a `Workplace`, for
    each sample that is judged at once.
    """

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Verdict], None, None]:
        """Yield each job's key with its verdict, in the order in which they end.

        The jobs may be a stream that does not fit in memory, and its next job may depend on the verdicts so far.
        A failure of the sandbox comes back as a verdict (`infrastructure_error`). Closing the generator early, as an
        error or Ctrl-C does, ends the jobs that run.
        """
        ...


class FuturePool(abc.ABC):
    """A pool that takes one job at a time and gives a future for it. Used in a `with` statement, by any threads."""

    @abc.abstractmethod
    def submit(self, job: Job) -> Future[Verdict]:
        """Hand in a job. Cancelling its future ends the job, even while it runs."""

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(self, *error: object) -> None: ...

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Verdict], None, None]:
        """See `PoolLike.run`."""
        done: queue.SimpleQueue[Future[Verdict]] = queue.SimpleQueue()
        keys: dict[Future[Verdict], Key] = {}
        stream = iter(jobs)
        try:
            while True:
                for key, job in itertools.islice(stream, WINDOW - len(keys)):
                    future = self.submit(job)
                    keys[future] = key
                    future.add_done_callback(done.put)
                if not keys:
                    return
                ended = _next(done)
                yield keys.pop(ended), ended.result()
        finally:
            for future in keys:
                future.cancel()


_MOST_IN_A_ROW = 256
"""Jobs of one problem that an examiner does while others wait: a stream of them must not keep all others waiting."""


class _Order(NamedTuple):
    job: Job
    stopping: threading.Event
    future: Future[Verdict]


class _Waiting:
    """The jobs that wait, by problem. Used by any threads.

    An examiner prepares each problem that it meets, which for EvalPlus's takes as long as several samples. So it stays
    with a problem while jobs of it wait, and then takes one that no other has, or else helps with one. Of these it
    takes the most expensive: one that came last would run alone, beside idle workers.
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._orders: dict[int, collections.deque[_Order]] = {}  # by the problem's id: hashing a large one takes long
        self._held: dict[Examiner, int] = {}
        self._in_a_row: collections.Counter[Examiner] = collections.Counter()
        self._closed = False

    def put(self, order: _Order) -> None:
        with self._state:
            self._orders.setdefault(id(order.job.problem), collections.deque()).append(order)
            self._state.notify()

    def close(self) -> None:
        """Have `get` return None once no job waits."""
        with self._state:
            self._closed = True
            self._state.notify_all()

    def get(self, examiner: Examiner) -> _Order | None:
        """Wait for an examiner's next job; None if there will be none."""
        with self._state:
            self._state.wait_for(lambda: self._orders or self._closed)
            if not self._orders:
                return None
            self._in_a_row[examiner] += 1
            if (problem := self._held.get(examiner)) not in self._orders or self._in_a_row[examiner] > _MOST_IN_A_ROW:
                self._in_a_row[examiner] = 0
                held = set(self._held.values())
                problem = max(self._orders, key=lambda problem: (problem not in held, self._cost(problem)))
                self._held[examiner] = problem
            orders = self._orders[problem]
            order = orders.popleft()
            if not orders:
                del self._orders[problem]
            return order

    def _cost(self, problem: int) -> float:
        reference = self._orders[problem][0].job.reference
        return reference.cpu_time_s if reference is not None else 0.0


class Pool(FuturePool):
    """The workers of this machine, started at once and kept until the end: a thread for each examiner process.

    Of the jobs that wait, the one whose reference took the most CPU time is done first.

    Args:
        num_workers: answers judged at once; by default the usable cores.
        level: of the sandboxes; `auto` is the strongest that works here.

    Raises:
        UserError: no sandbox works here.
    """

    def __init__(self, num_workers: int | None = None, level: Level | Literal["auto"] = "auto") -> None:
        self.level: Level = detect_level() if level == "auto" else level
        self.num_workers = num_workers or usable_cores()
        self._examiners = [Examiner(self.level) for _ in range(self.num_workers)]
        self._waiting = _Waiting()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for examiner in self._examiners:
            examiner.start()
            thread = threading.Thread(target=self._work, args=(examiner,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *error: object) -> None:
        for examiner in self._examiners:
            examiner.close()  # whatever waits ends at once from now on, as not judged
        self._waiting.close()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Job) -> Future[Verdict]:
        """Hand in a job; see `FuturePool.submit`."""
        future: Future[Verdict] = Future()
        stopping = threading.Event()

        def end_if_cancelled(future: Future[Verdict]) -> None:
            if future.cancelled():
                stopping.set()
                for examiner in self._examiners:
                    examiner.interrupt(stopping)

        future.add_done_callback(end_if_cancelled)
        self._waiting.put(_Order(job, stopping, future))
        return future

    def _work(self, examiner: Examiner) -> None:
        while (order := self._waiting.get(examiner)) is not None:
            job, stopping, future = order
            try:
                settle(future, examiner.examine(job, stopping))
            except BaseException as error:  # given to the reader, which would otherwise wait forever
                settle(future, error)


def open_pool(num_workers: int | None, level: Level, ray: str | None = None) -> FuturePool:
    """Return the pool of this machine, or of the Ray cluster at an address."""
    if ray is None:
        return Pool(num_workers, level)
    from ibft.execution.ray import RayPool

    return RayPool(ray, num_workers, level)


def _next(done: queue.SimpleQueue[Item]) -> Item:
    # A Ctrl-C between Python's look for signals and a wait without end would be lost: 6 of 240 were.
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=_AWAKE_S)
