"""Installed Python packages that generated programs may import: where they are, and what they need of one another."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from ibft.errors import UserError

__all__ = ["find_packages", "mentions", "needed_packages", "require_packages"]


def require_packages(names: Iterable[str]) -> None:
    """Refuse packages that are not installed.

    Raises:
        UserError: names the first.
    """
    for name in names:
        if not find_packages([name]):
            raise UserError(f"judge.packages: {name!r} is not installed. Install it with `pip install {name}`.")


def mentions(*sources: str) -> set[str]:
    """Return every word of some programs: a package whose name is not among them is not imported."""
    return {word for source in sources for word in re.findall(r"\w+", source)}


def needed_packages(allowed: Iterable[str], words: Set[str]) -> set[str]:
    """Return NumPy and those of the allowed packages that programs with these words may import."""
    return {name for name in ("numpy", *allowed) if name in words or not words.isdisjoint(_import_names(name))}


@functools.cache
def _import_names(name: str) -> frozenset[str]:
    """Return the import names of a distribution, which may be called otherwise (`scikit-learn` is `sklearn`)."""
    try:
        return frozenset(imported for imported, _ in _imports(importlib.metadata.distribution(name)))
    except importlib.metadata.PackageNotFoundError:
        return frozenset()


def find_packages(names: Iterable[str]) -> dict[str, str]:
    """Return the paths, by import name, of packages and of all that they need. What is not installed is left out.

    Args:
        names: of distributions (`scikit-learn`) or imports (`sklearn`).
    """
    paths: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in _by_import():
                waiting += _by_import()[name]
            # One that was copied and not installed.
            elif name.isidentifier() and (spec := importlib.util.find_spec(name)) and spec.origin:
                paths[name] = str(Path(spec.origin).parent if spec.submodule_search_locations else spec.origin)
            continue
        paths.update(_imports(distribution))
        for requirement in distribution.requires or ():
            if "extra" not in requirement.partition(";")[2]:
                waiting.append(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    return dict(sorted(paths.items()))


@functools.cache
def _by_import() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()  # reads all that is installed: 0.2 s


def _imports(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, str]]:
    """Yield the import names of a distribution, each with its folder or file."""
    tops = {file.parts[0] for file in distribution.files or () if file.suffix in (".py", ".so")}
    for top in sorted(tops):
        path = Path(str(distribution.locate_file(top)))
        name, _, kind = top.partition(".")
        if name.isidentifier() and kind != "libs" and path.exists():
            yield name, str(path)
