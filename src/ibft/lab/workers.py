"""Many small computations on a few processes, one thread each, so that the numbers are the same wherever they run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from ibft.errors import UserError
from ibft.lab.pretrain import one_thread

__all__ = ["Results", "workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Results(Protocol):
    """The results of a function of each item, as they are ready."""

    def __call__(self, compute: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """Compute them."""


@contextmanager
def workers(number: int, prepare: Callable[[], None] | None = None) -> Iterator[Results]:
    """Start this many processes; 1 computes in this one.

    Args:
        number: of processes.
        prepare: each process calls it first; it must be a function of a module.

    Raises:
        UserError: one was killed.
    """
    if number == 1:
        with one_thread():
            yield map
        return
    # Not forked: threads of torch would be forked, too, and hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(number, context, initializer=_begin, initargs=(prepare,)) as pool:

        def results(compute: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
            # Processes start here, and take an interruption when they have begun: else each prints where it was.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = [pool.submit(compute, item) for item in items]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool:
                raise UserError(
                    "A worker was killed, perhaps since memory ran out. Run the same command again: it resumes. With "
                    "fewer --workers it needs less memory."
                ) from None

        try:
            yield results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else what is not begun would be computed first
            raise


def _begin(prepare: Callable[[], None] | None) -> None:
    import torch

    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Else they would wait for work for good after the main process was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
