"""Finds the classes that the files of a folder define, so that a new one is one file and no list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["classes_in"]

Base = TypeVar("Base")


def classes_in(package: str, folders: Iterable[str], base: type[Base]) -> list[type[Base]]:
    """Return every class below `base` that a module of a package defines; a module's own imports do not count.

    Args:
        package: its dotted name.
        folders: its `__path__`.
        base: the class that they derive from, or itself defined elsewhere.
    """
    found: list[type[Base]] = []
    for name in sorted(module.name for module in pkgutil.iter_modules(folders)):
        module = importlib.import_module(f"{package}.{name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        ]
    return found
