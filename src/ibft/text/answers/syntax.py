"""Python source as the extractor sees it: does it compile, what does it define, which of its statements are needed.

Nothing here raises on hostile text: what Python's own parser gives up on (nesting too deep) counts as not compiling.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ibft.text.names import bound_names, free_names

__all__ = [
    "Statement",
    "compiles",
    "defines",
    "in_front",
    "is_code",
    "names_in",
    "num_statements",
    "parse",
    "statements",
    "without_examples",
]

_BUILTINS = frozenset(dir(builtins))
# Besides SyntaxError: a null byte (ValueError before Python 3.12) or a lone surrogate (a ValueError, too), nesting that
# is too deep for the parser (MemoryError) or for the tree (RecursionError).
_GIVES_UP = (SyntaxError, ValueError, RecursionError, MemoryError)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_RUNNERS = frozenset({"print", "main", "test", "tests", "run_tests", "check", "exit", "quit"})
_RUNNER_METHODS = frozenset({"unittest.main", "doctest.testmod", "pytest.main", "sys.exit"})


class Statement(NamedTuple):
    """Whole lines of a program that hold one top-level statement (or several that share a line).

    `binds` are the names that it gives a value at the top level, `uses` those that it takes from elsewhere.
    """

    text: str
    binds: frozenset[str]
    uses: frozenset[str]
    is_definition: bool
    is_example: bool


@functools.lru_cache(maxsize=64)  # one answer's texts, each of which is asked about several times
def parse(source: str) -> ast.Module | None:
    """Return the syntax tree (not to be changed), or None where the source does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in generated code is not the user's business
            return ast.parse(source)
    except _GIVES_UP:
        return None


@functools.lru_cache(maxsize=64)
def compiles(source: str) -> bool:
    """Decide whether the whole source compiles: `return` outside a function parses and does not."""
    tree = parse(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if tree is not None:
                # Without the flag, this file's own import from __future__ would hold for the answer as well.
                compile(tree, "<answer>", "exec", dont_inherit=True)
    except _GIVES_UP:
        return False
    return tree is not None


def defines(source: str, names: frozenset[str]) -> bool:
    """Decide whether a program compiles and gives every one of `names` a definition that is more than a stub.

    An import does not define: `from solution import f` is an example of use.
    """
    # The names first: looking for them is cheap, compiling is not.
    if not any(name in source for name in names) or not compiles(source):
        return False
    tree = parse(source)
    return tree is not None and names <= {name for node in _top_level(tree.body) for name in _defined_by(node)}


def names_in(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a program binds at its top level, and those it takes from outside (no builtins)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return frozenset(bound_names(source)), frozenset(free_names(source)) - _BUILTINS
    except _GIVES_UP:
        return frozenset(), frozenset()


def num_statements(source: str) -> int:
    """Return the number of statements that do something, at any depth: a docstring does not."""
    tree = parse(source)
    waiting: list[ast.AST] = [tree] if tree is not None else []
    number = 0
    while waiting:
        node = waiting.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, field, [])
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        number += isinstance(node, ast.stmt) and not is_text
    return number


def in_front(before: str, source: str) -> str:
    """Put imports and helpers in front of a program."""
    # Python takes imports from __future__ at the start of a program alone, so what is put in front goes behind them.
    future = re.match(r"(?:[ \t]*(?:#[^\n]*)?\n)*(?:from __future__ import [^\n]*\n)+", source)
    if future and "__future__" not in before:
        return future.group() + before + source[future.end() :]
    return before + source


def is_code(source: str) -> bool:
    """Decide whether a piece of text that may be prose is Python: `Done` and `Note: this` parse as well."""
    tree = parse(source)
    return tree is not None and bool(tree.body) and not any(map(_may_be_prose, tree.body))


def statements(source: str, targets: frozenset[str]) -> list[Statement]:
    """Split a program that parses at its top-level statements; comments go with the statement that follows.

    Args:
        source: the program.
        targets: the names that the problem asks for, a call of which is an example of use.
    """
    tree = parse(source)
    if tree is None:
        return []
    # Not `splitlines`, which also splits at form feeds, where Python counts no line.
    lines = [f"{line}\n" for line in source.split("\n")]
    parts, start = [], 0
    for nodes in _by_lines(tree.body):
        end = max(node.end_lineno or node.lineno for node in nodes)
        text = "".join(lines[start:end])
        bound, free = names_in(text)
        parts.append(
            Statement(
                text,
                bound,
                free,
                all(isinstance(node, (*_DEFINITIONS, ast.Import, ast.ImportFrom)) for node in nodes),
                all(_is_example(node, targets) for node in nodes),
            )
        )
        start = end
    return parts


def without_examples(source: str, targets: frozenset[str]) -> str:
    """Remove the top-level statements that only show or test: `print(...)`, `assert`, `if __name__ == "__main__"`."""
    tree = parse(source)
    if tree is None or not any(_is_example(node, targets) for node in tree.body):
        return source
    lines = source.split("\n")
    for nodes in _by_lines(tree.body):
        if all(_is_example(node, targets) for node in nodes):
            for number in range(nodes[0].lineno - 1, max(node.end_lineno or node.lineno for node in nodes)):
                lines[number] = "\f"
    kept = "\n".join(line for line in lines if line != "\f").rstrip()
    return kept + "\n" if compiles(kept) else source


def _by_lines(body: Sequence[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Yield the statements, those together that share a line."""
    group: list[ast.stmt] = []
    for node in body:
        if group and node.lineno > (group[-1].end_lineno or 0):
            yield group
            group = []
        group.append(node)
    if group:
        yield group


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run in the module's namespace, those inside `if`, `try`, `with` and loops included."""
    waiting = list(reversed(body))  # no recursion, since generated code may nest deeply
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            for field in ("body", "orelse", "finalbody"):
                waiting += getattr(node, field, [])
            for handler in getattr(node, "handlers", []):
                waiting += handler.body


def _defined_by(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [] if _is_stub(node) else [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _is_stub(node: ast.stmt) -> bool:
    """Decide whether a definition has nothing to run: a signature that an explanation repeats."""
    body: list[ast.stmt] = getattr(node, "body", [])
    return all(
        (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
        or isinstance(item, ast.Pass)
        or (isinstance(item, ast.Raise) and any(getattr(n, "id", "") == "NotImplementedError" for n in ast.walk(item)))
        for item in body
    ) or (isinstance(node, ast.ClassDef) and all(isinstance(item, _DEFINITIONS) and _is_stub(item) for item in body))


def _may_be_prose(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        return not isinstance(value, ast.Call) and not _is_docstring(value)
    # "Note: this" is an annotation to Python, and "return it" a statement.
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Return)


def _is_docstring(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_example(node: ast.stmt, targets: frozenset[str]) -> bool:
    """Decide whether a top-level statement only shows or tests what the program defines."""
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.If):
        return any(isinstance(item, ast.Name) and item.id == "__name__" for item in ast.walk(node.test))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        name = called.id if isinstance(called, ast.Name) else ""
        owner = called.value if isinstance(called, ast.Attribute) else None
        path = f"{owner.id}.{called.attr}" if isinstance(owner, ast.Name) and isinstance(called, ast.Attribute) else ""
        return name in _RUNNERS | targets or name.startswith("test_") or path in _RUNNER_METHODS
    if isinstance(node, (ast.For, ast.While, ast.With)):
        return all(_is_example(item, targets) for item in node.body) and not getattr(node, "orelse", [])
    return False
