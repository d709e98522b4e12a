"""Undoing what a problem's tests change in the process that runs them, where the next problem's tests run too."""

from __future__ import annotations

import contextlib
import decimal
import os
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["restored"]


@contextlib.contextmanager
def restored(names: Iterable[str]) -> Iterator[None]:
    """Leave this process as it was: its modules, environment, folder, warnings, random and decimal state.

    Args:
        names: of the modules whose attributes are put back, beside builtins and sys; those not loaded do not matter.
    """
    modules = dict(sys.modules)
    contents = [
        (vars(module), dict(vars(module)))
        for name in {"builtins", "sys", *names}
        if hasattr(module := modules.get(name), "__dict__")
    ]
    environment, folder = dict(os.environ), os.getcwd()
    lists: list[tuple[Any, list[Any]]] = [(values, list(values)) for values in (sys.path, sys.argv, warnings.filters)]
    limit, state, context = sys.getrecursionlimit(), random.getstate(), decimal.getcontext().copy()
    try:
        yield
    finally:
        if (mock := sys.modules.get("unittest.mock")) is not None:
            mock.patch.stopall()
        for now, before in contents:
            # What is new stays: a module that was loaded meanwhile is an attribute of its package.
            now.update({name: value for name, value in before.items() if now.get(name) is not value})
        sys.modules.update(modules)
        for values, content in lists:
            values[:] = content
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.setrecursionlimit(limit)
        random.setstate(state)
        decimal.setcontext(context)
