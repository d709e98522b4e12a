"""Function pairs (signature and docstring to body) from installed Python code, by `ast`.

Real code that costs no download: the standard library is something any code model has seen, and packages
released after the model are something it has not.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from ibft import progress
from ibft.artifacts.rows import Pair
from ibft.errors import UserError

__all__ = ["function_pairs"]

# Not code a person would learn from: tests, generated tables, vendored or bundled programs.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip"}


@functools.cache  # read once for its digest and once for its pairs
def function_pairs(packages: str) -> tuple[Pair, ...]:
    """Pairs from `stdlib` or from a comma-separated list of installed packages.

    A pair is a function at module level with a docstring and a body of its own: the prompt is its signature
    (without decorators) and docstring, the completion the rest. Exact duplicates are kept once. The order is
    that of file names, then of lines, so that it is the same on every machine with the same packages.

    Raises:
        UserError: a package is not installed, or none of them has a function with a docstring.
    """
    with progress.task(f"Reading functions:{packages}", total=None):
        pairs: dict[tuple[str, str], Pair] = {}
        for package in packages.split(","):
            for path, name in _source_files(package.strip()):
                for pair in _pairs_in_file(path, name):
                    pairs.setdefault((str(pair.prompt), pair.completion), pair)
    if not pairs:
        raise UserError(f"functions:{packages}: no function with a docstring found there. Name other packages.")
    return tuple(pairs.values())


def _source_files(package: str) -> Iterator[tuple[Path, str]]:
    if package == "stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
        prefix = f"python{sys.version_info.major}.{sys.version_info.minor}"
    else:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"functions:{package}: no such package is installed here. Install it or name another one.")
        root, prefix = Path(next(iter(spec.submodule_search_locations))), package
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _LEFT_OUT.intersection(relative.parts):
            yield path, f"{prefix}/{relative.as_posix()}"


def _pairs_in_file(path: Path, name: str) -> Iterator[Pair]:
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old library code may hold invalid escape sequences
            tree = ast.parse(source)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = io.StringIO(source).readlines()  # not splitlines(), which also counts form feeds, as Python does not
    for node in tree.body:
        if (
            not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            or len(node.body) < 2
            or not ast.get_docstring(node)
        ):
            continue
        docstring_end, end = node.body[0].end_lineno, node.end_lineno
        assert docstring_end is not None
        assert end is not None
        if node.body[1].lineno <= docstring_end:  # code behind the docstring on its line
            continue
        prompt = "".join(lines[node.lineno - 1 : docstring_end])
        completion = "".join(lines[docstring_end:end]).strip("\n") + "\n"
        yield Pair(id=f"{name}:{node.lineno}:{node.name}", prompt=prompt, completion=completion)
