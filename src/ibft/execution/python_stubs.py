"""Programs that solve nothing. Tests that one of them passes decide nothing, and the problem is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ibft.execution.python_run import passes_outside
from ibft.execution.python_tests import Prepared

__all__ = ["passing_stub"]

_LIMIT_S = 5.0


def passing_stub(prepared: Prepared) -> str:
    """Return the name of a program that solves nothing and passes the tests; "" where all fail.

    The programs are ours, so they run in this process, without a sandbox: it takes microseconds.
    """
    for stub, stand_ins in _STUBS.items():
        if passes_outside(prepared, stand_ins(prepared.names), _LIMIT_S):
            return stub
    return ""


def _raise(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError


def _return_none(*_: Any, **__: Any) -> None:
    return None


class _Hollow:
    """A class of which every method returns None."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _return_none


def _hollow(names: Iterable[str]) -> dict[str, object]:
    return {name: _Hollow if name[:1].isupper() else _return_none for name in names}


_STUBS: dict[str, Callable[[Iterable[str]], dict[str, object]]] = {
    "an empty program": lambda _: {},
    "a program that only raises": lambda names: dict.fromkeys(names, _raise),
    "a program that returns None": _hollow,
}
"""What each has for the names that tests take from it."""
