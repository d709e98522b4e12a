"""Many jobs at once: the protocol of a pool, and the pool of this machine."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, Protocol, TypeVar

from ibft.execution.examiner import Examiner
from ibft.execution.isolation import Level
from ibft.execution.outcome import Job, Outcome, Reference

__all__ = ["LocalPool", "Pool"]

Item = TypeVar("Item")
Key = TypeVar("Key")

WINDOW = 2048
"""Jobs taken from the stream ahead of their turn: enough to reorder, little enough to keep memory flat."""

_AWAKE_S = 0.2


class Pool(Protocol):
    """Does many jobs at once: by the processes of this machine (`LocalPool`), or by those of a cluster.

    A job holds all that it needs, and neither a job nor its outcome refers to anything of this process, so that both
    can be sent to another machine. A pool there has an `Examiner`, or a process of its own with a `Workplace`, for
    each sample that is judged at once.
    """

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Outcome | Reference], None, None]:
        """Yield each job's key with its verdict, in the order in which they end.

        The jobs may be a stream that does not fit in memory, and its next job may depend on the verdicts so far.
        A failure of the sandbox comes back as a verdict (`infrastructure_error`). Closing the generator early, as an
        error or Ctrl-C does, ends the jobs that run.
        """
        ...


class LocalPool:
    """The workers of this machine, started at once and kept until the end: a thread for each examiner process.

    Args:
        num_workers: examiners, and so samples judged at once.
        level: of their sandboxes.
    """

    def __init__(self, num_workers: int, level: Level) -> None:
        self._examiners = [Examiner(level) for _ in range(num_workers)]

    def __enter__(self) -> LocalPool:
        for examiner in self._examiners:
            examiner.start()
        return self

    def __exit__(self, *_: object) -> None:
        for examiner in self._examiners:
            examiner.close()

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Outcome | Reference], None, None]:
        """Do the jobs, the most expensive ones of the window first.

        Threads may share the pool: an examiner does one job at a time, and closing one stream leaves the others'.
        """
        # The most expensive first: one that came last would run alone, beside idle workers. Then a number, so that
        # jobs themselves, which have no order, are never compared.
        waiting: queue.PriorityQueue[tuple[float, int, Any]] = queue.PriorityQueue()
        done: queue.SimpleQueue[tuple[Key, Outcome | Reference] | BaseException] = queue.SimpleQueue()
        stopping = threading.Event()

        def work(examiner: Examiner) -> None:
            try:
                while (item := waiting.get()[2]) is not None:
                    if stopping.is_set():
                        return
                    key, job = item
                    done.put((key, examiner.examine(job, stopping)))
            except BaseException as error:  # given to the reader, which would otherwise wait forever
                done.put(error)

        def stop() -> None:
            stopping.set()
            for examiner in self._examiners:
                examiner.interrupt(stopping)

        numbers = itertools.count()
        stream = iter(jobs)
        threads = [threading.Thread(target=work, args=(examiner,), daemon=True) for examiner in self._examiners]
        with contextlib.ExitStack() as cleanup:  # the last callback comes first: stop, wake those that wait, join them
            cleanup.callback(_join, threads)
            for _ in threads:
                cleanup.callback(waiting.put, (float("inf"), next(numbers), None))
            cleanup.callback(stop)
            for thread in threads:
                thread.start()
            num_waiting = 0
            while True:
                for key, job in itertools.islice(stream, WINDOW - num_waiting):
                    cost = job.reference.cpu_time_s if job.reference is not None else 0.0
                    waiting.put((-cost, next(numbers), (key, job)))
                    num_waiting += 1
                if not num_waiting:
                    return
                ended = _next(done)
                if isinstance(ended, BaseException):
                    raise ended
                num_waiting -= 1
                yield ended


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:  # an error may come before all are started
            thread.join()


def _next(done: queue.SimpleQueue[Item]) -> Item:
    # A Ctrl-C between Python's look for signals and a wait without end would be lost: 6 of 240 were.
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=_AWAKE_S)
