"""Judging many samples at once: a thread and a sandbox for each worker."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from ibft.judging.sandbox import Sandbox
from ibft.rows import Result

__all__ = ["judge_all"]

Job = TypeVar("Job")


def judge_all(
    jobs: Sequence[Job],
    judge: Callable[[Job, Sandbox], Result],
    make_sandbox: Callable[[], Sandbox],
    num_workers: int,
) -> Generator[tuple[Job, Result], None, None]:
    """Yield each job with its result, in the order in which they end.

    Threads suffice, since they only wait for their sandboxes. Closing the generator early, as an
    error or Ctrl-C does, ends the running samples at once.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    done: queue.SimpleQueue[tuple[Job, Result] | BaseException] = queue.SimpleQueue()
    stopping = threading.Event()
    sandboxes = [make_sandbox() for _ in range(min(num_workers, len(jobs)))]

    def work(sandbox: Sandbox) -> None:
        try:
            while not stopping.is_set():
                job = waiting.get_nowait()
                done.put((job, judge(job, sandbox)))
        except queue.Empty:
            pass
        except BaseException as error:  # handed to the reader, which would otherwise wait for ever
            done.put(error)

    threads = [threading.Thread(target=work, args=(sandbox,), daemon=True) for sandbox in sandboxes]
    with contextlib.ExitStack() as cleanup:
        for sandbox in sandboxes:
            cleanup.callback(sandbox.close)
        cleanup.callback(stopping.set)
        for thread in threads:
            thread.start()
        for _ in jobs:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            yield item
