"""Names that stand for code: ours, found by being a file of a folder, and that of other packages, by entry points."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ibft.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "classes_in", "files_in"]

Item = TypeVar("Item")


def files_in(package: str, attribute: Callable[[str], str] = str.upper) -> dict[str, str]:
    """Return `module:attribute` by name for the files of one of our folders, so that a new one is a file and no list.

    The file `shell.py` is the name `shell` and holds `SHELL`; `verilog_eval.py` is `verilog-eval`. A file whose name
    begins with an underscore is not listed. Nothing is imported.

    Args:
        package: the folder's dotted name, `ibft.execution.languages`.
        attribute: from a file's name to that of what it holds.
    """
    return {name.replace("_", "-"): f"{package}.{name}:{attribute(name)}" for name in _modules(package)}


def classes_in(package: str, base: type[Item]) -> list[type[Item]]:
    """Return the subclasses of `base` that the files of one of our folders define. All of its files are imported."""
    modules = [importlib.import_module(f"{package}.{name}") for name in _modules(package)]
    return [
        value
        for module in modules
        for value in vars(module).values()
        # A file also holds the classes that it imports.
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]


def _modules(package: str) -> list[str]:
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    return sorted(path.stem for path in folder.glob("[!_]*.py"))


class Registry(Generic[Item]):
    """Items by name. A package adds one by an entry point, as in its pyproject.toml:

        [project.entry-points."ibft.languages"]
        ruby = "my_package.ruby:RUBY"

    Ours come first: nobody replaces `python`.

    Args:
        kind: what an item is, for the error: `language`.
        group: of the entry points.
        built_in: `module:attribute` by name, so that nothing is imported before it is needed.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self._kind, self._group, self._built_in = kind, group, built_in
        self._items: dict[str, Item] = {}

    def names(self) -> list[str]:
        """Return the known names: ours, then those of installed packages. Nothing is imported."""
        return list(dict.fromkeys([*self._built_in, *(point.name for point in self._entry_points())]))

    def is_built_in(self, name: str) -> bool:
        """Decide whether a name is one of ours."""
        return name in self._built_in

    def __contains__(self, name: str) -> bool:
        return name in self._built_in or name in self.names()

    def __getitem__(self, name: str) -> Item:
        """Return the item with a name.

        Raises:
            UserError: the name is unknown; lists the known ones. Or another package's item cannot be loaded; names
                the package and the error.
        """
        if name not in self._items:
            self._items[name] = self._load(name)
        return self._items[name]

    def _load(self, name: str) -> Any:
        if name in self._built_in:
            module, _, attribute = self._built_in[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        for entry_point in self._entry_points():
            if entry_point.name == name:
                try:
                    return entry_point.load()
                except Exception as error:  # whatever another package's module does
                    package = entry_point.dist.name if entry_point.dist is not None else "a package"
                    raise UserError(
                        f"The {self._kind} {name} of {package} ({entry_point.value}) cannot be loaded: "
                        f"{type(error).__name__}: {error}. Repair that package, or uninstall it."
                    ) from error
        raise UserError(
            f"{name!r} is not a known {self._kind}. Known are {', '.join(self.names())}; another package can add one "
            f"by an entry point of the group {self._group}."
        )

    def _entry_points(self) -> Iterable[EntryPoint]:
        # Imported here: it takes 20 ms, in every process that judges, and our own names do not need it.
        import importlib.metadata

        return importlib.metadata.entry_points(group=self._group)
