"""A future's result, given by whoever did the work."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

__all__ = ["settle"]

Item = TypeVar("Item")


def settle(future: Future[Item], result: Item | BaseException) -> None:
    """Give a future its result or its error, unless it has one or has been cancelled."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
