"""Programs that solve nothing. Tests that one of them passes decide nothing, and the problem is refused."""

from __future__ import annotations

from typing import Any, NoReturn

from ibft.execution.python_run import passes_outside
from ibft.execution.python_tests import Prepared

__all__ = ["passing_stub"]

_LIMIT_S = 5.0


def passing_stub(prepared: Prepared) -> str:
    """Return the name of a program that solves nothing and passes the tests; "" where all fail.

    The programs are ours, so they run in this process, without a sandbox: it takes microseconds.
    """
    for name, stub in _STUBS.items():
        stand_ins = {} if stub is None else dict.fromkeys(prepared.names, stub)
        if stub is _return_none:
            stand_ins |= {class_: _Hollow for class_ in prepared.names if class_[:1].isupper()}
        if passes_outside(prepared, stand_ins, _LIMIT_S):
            return name
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


_STUBS: dict[str, Any] = {
    "an empty program": None,
    "a program that only raises": _raise,
    "a program that returns None": _return_none,
}
