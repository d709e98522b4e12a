"""Other names for the same program: identifiers of Python code replaced where `ast` finds them. Pure."""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["rename_identifiers"]

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Class = ast.ClassDef
_WITHOUT_PLACE = frozenset({"MatchAs", "MatchStar", "MatchMapping", "TypeVar", "ParamSpec", "TypeVarTuple"})


class _Use(NamedTuple):
    """A name, and the index of its first character in the code; -1 where it is not found."""

    name: str
    start: int


def rename_identifiers(code: str, names: Mapping[str, str]) -> str:
    """Return the code with each name of `names` replaced wherever it is used as a variable, function or class.

    Layout, comments and strings stay as they are. Also left as they are, everywhere in the code, are names that a
    plain use does not reach: attributes and what a class body binds, imported names, parameters of decorated functions,
    keywords of calls to functions from elsewhere, and names with a use that `ast` gives no place for (patterns of
    `match`; below Python 3.12, inside of f-strings). A keyword of a call to a function or class of the code follows
    the parameter's new name. Lookups by text (`globals()["x"]`, `eval`) are not followed.

    Args:
        code: a Python module.
        names: old name to new name; names that the code does not use are passed over.

    Raises:
        ValueError: the code is not Python, or a new name is not an identifier, occurs in the code already, or is
            given twice.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"the code is not Python: {error}") from None
    words = set(re.findall(r"[^\W\d]\w*", code))
    wanted = {old: new for old, new in names.items() if old in words}
    for old, new in wanted.items():
        if not new.isidentifier() or keyword.iskeyword(new) or new in words or list(wanted.values()).count(new) > 1:
            raise ValueError(
                f"{old!r} cannot become {new!r}: a new name must be an identifier that the code does not have, each "
                "given once"
            )
    uses = [use for use in _uses(tree, code) if use.name in wanted]
    # Python below 3.12 gets some positions inside of f-strings wrong: off the name, or on another one.
    times = Counter(use.start for use in uses)
    kept = _kept_names(tree)
    kept |= {use.name for use in uses if times[use.start] > 1 or not code.startswith(use.name, use.start)}
    pieces, position = [], 0
    for name, start in sorted((use for use in uses if use.name not in kept), key=lambda use: use.start):
        pieces += [code[position:start], wanted[name]]
        position = start + len(name)
    return "".join([*pieces, code[position:]])


def _uses(tree: ast.Module, code: str) -> Iterator[_Use]:
    """Every place of a name that a plain use reaches."""
    # Not splitlines(), which also splits at form feeds, where Python counts no line.
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", code))]

    def index(line: int | None, column: int | None) -> int:
        start = starts[(line or 1) - 1]
        # A column of `ast` counts bytes of UTF-8.
        return start + len(code[start : start + (column or 0)].encode()[:column].decode(errors="ignore"))

    def found(name: str, pattern: str, start: int) -> _Use:
        match = re.compile(pattern.format(name)).search(code, start)
        return _Use(name, match.start(1) if match else -1)

    parameters = _parameters(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield _Use(node.id, index(node.lineno, node.col_offset))
        elif isinstance(node, ast.arg):
            yield _Use(node.arg, index(node.lineno, node.col_offset))
        elif isinstance(node, (*_Function, _Class)):
            yield found(node.name, r"(?:def|class)\s+({})\b", index(node.lineno, node.col_offset))
        elif isinstance(node, ast.ExceptHandler) and node.name and node.type:
            yield found(node.name, r"\bas\s+({})\b", index(node.type.end_lineno, node.type.end_col_offset))
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            start = index(node.lineno, node.col_offset)
            yield from (found(name, r"[\s,]({})\b", start) for name in node.names)
        elif isinstance(node, ast.Call):
            own = parameters.get(_callee(node), set())
            yield from (
                _Use(one.arg, index(one.lineno, one.col_offset)) for one in node.keywords if one.arg and one.arg in own
            )


def _callee(call: ast.Call) -> str:
    """Return the name that is called, of a method the attribute's; empty for any other expression."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _parameters(tree: ast.Module) -> dict[str, set[str]]:
    """Return the parameters of each function of the code, and of each class's `__init__` under the class's name."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            arguments = node.args
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            found.setdefault(node.name, set()).update(one.arg for one in every)
    for node in ast.walk(tree):
        if isinstance(node, _Class) and any(isinstance(one, _Function) and one.name == "__init__" for one in node.body):
            found.setdefault(node.name, set()).update(found["__init__"])
    return found


def _kept_names(tree: ast.Module) -> set[str]:
    """Return the names that something other than a plain use of them refers to."""
    names: set[str] = set()
    parameters = _parameters(tree)
    every_parameter = set().union(*parameters.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, _Class):
            names |= _bound_in_class(node)
        elif type(node).__name__ in _WITHOUT_PLACE:
            names |= {getattr(node, "name", None) or "", getattr(node, "rest", None) or ""}
        elif isinstance(node, _Function) and node.decorator_list:
            names |= parameters[node.name]
        elif isinstance(node, ast.Call):
            # functools.partial(f, x=1), decorated(x=1), f(**{"x": 1}): what takes the keyword may be a function here.
            own = parameters.get(_callee(node), set())
            names |= {one.arg for one in node.keywords if one.arg and one.arg not in own} & every_parameter
            names |= own if any(one.arg is None for one in node.keywords) else set()
    return names


def _bound_in_class(node: ast.ClassDef) -> set[str]:
    """Return the names that a class body binds, which are attributes outside of it."""
    names: set[str] = set()
    pending: list[ast.AST] = [*node.body]
    while pending:
        one = pending.pop()
        if isinstance(one, (*_Function, _Class)):
            names.add(one.name)
            continue
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
        pending.extend(ast.iter_child_nodes(one))
    return names
