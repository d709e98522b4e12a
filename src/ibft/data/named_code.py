"""The names in a pair's Python code: where they stand, what they are for, and which may be renamed. Pure."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ibft.artifacts.rows import Pair
from ibft.text.names import free_names

__all__ = ["FENCED", "NamedCode", "Offsets", "Role", "Segment", "Use", "parse", "read_names", "texts_of"]

FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
"""A fenced block of Markdown: group 2 is what stands inside; its info string lies between the groups."""

Role = Literal["variable", "loop", "parameter", "function", "class", "error"]
"""What a name is for; `loop`: of `for`, `error`: of `except`."""

_SEES_NAMES = frozenset({"locals", "globals", "vars", "eval", "exec"})
_KEPT = frozenset({"self", "cls", "args", "kwargs", "kw", "_"})
_MAX_DEPTH = 200  # `ast.dump` takes up to three frames a level of Python's 1,000, of which the caller has some too
_WITHOUT_PLACE = frozenset({"MatchAs", "MatchStar", "MatchMapping", "TypeVar", "ParamSpec", "TypeVarTuple"})
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Segment(NamedTuple):
    """Code inside of a text: `texts[text][start:end]`, which begins at `at` of the joined code."""

    text: int
    start: int
    end: int
    at: int


class Use(NamedTuple):
    """A name, and where it stands in the joined code."""

    name: str
    start: int


@dataclass(frozen=True)
class NamedCode:
    """A pair's code: `code` is made of the `segments` of its texts, `uses` is every place of a name to rename."""

    code: str
    tree: ast.Module
    segments: list[Segment]
    uses: list[Use]
    roles: dict[str, Role]


def texts_of(pair: Pair) -> list[str]:
    """The prompt, or its turns, and the completion."""
    return [
        *([pair.prompt] if isinstance(pair.prompt, str) else [turn.content for turn in pair.prompt]),
        pair.completion,
    ]


def read_names(pair: Pair) -> NamedCode | None:
    """The names that may be renamed; None where there is no Python code with such names.

    The code is prompt and completion together where they are Python, else the completion, else its fenced Python
    blocks and those of the prompt. `rename_identifiers` says which names are kept.
    """
    texts = texts_of(pair)
    for separator, segments in _ways_to_read(texts, isinstance(pair.prompt, str)):
        code = separator.join(texts[one.text][one.start : one.end] for one in segments)
        tree = parse(code)
        if tree is not None:
            uses = _uses_to_rename(tree, code)
            return NamedCode(code, tree, segments, uses, _roles(tree, uses)) if uses else None
    return None


def _ways_to_read(texts: list[str], is_continued: bool) -> Iterator[tuple[str, list[Segment]]]:
    """Which parts of the texts may be the code, and what to join them with; the first that parses counts."""
    last = len(texts) - 1
    whole = [(number, 0, len(text)) for number, text in enumerate(texts)]
    if is_continued:
        yield "", _joined(whole, 0)
        yield "\n", _joined(whole, 1)
    yield "", _joined(whole[last:], 0)
    # Last, since a docstring may hold a fence, but Markdown with a fence is no Python.
    fenced = [
        (number, match.start(2), match.end(2))
        for number, text in enumerate(texts)
        for match in FENCED.finditer(text)
        if parse(match.group(2)) is not None
    ]
    if any(number == last for number, _, _ in fenced):
        yield "\n", _joined(fenced, 1)


def _joined(places: list[tuple[int, int, int]], separator_length: int) -> list[Segment]:
    ends = itertools.accumulate((end - start + separator_length for _, start, end in places), initial=0)
    return [Segment(*place, at) for place, at in zip(places, ends, strict=False)]


def parse(code: str) -> ast.Module | None:
    """The tree; None where it is no Python, or too deep."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody's strings
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return None if _is_deep(tree) else tree


def _is_deep(tree: ast.Module) -> bool:
    """A limit of our own, since where Python's is reached depends on the caller: each pass must find the same names."""
    level: list[ast.AST] = [tree]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


def _roles(tree: ast.Module, uses: list[Use]) -> dict[str, Role]:
    """What each used name is for; of several things, the most telling."""
    roles: dict[str, Role] = dict.fromkeys((use.name for use in uses), "variable")
    found: list[tuple[str, Role]] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            found += [(one.id, "loop") for one in ast.walk(node.target) if isinstance(one, ast.Name)]
        elif isinstance(node, ast.ExceptHandler):
            found.append((node.name or "", "error"))
        elif isinstance(node, ast.arg):
            found.append((node.arg, "parameter"))
        elif isinstance(node, (*_Function, ast.ClassDef)):
            found.append((node.name, "class" if isinstance(node, ast.ClassDef) else "function"))
    order: tuple[Role, ...] = ("loop", "error", "parameter", "function", "class")
    for name, role in sorted(found, key=lambda one: order.index(one[1])):
        if name in roles:
            roles[name] = role
    return roles


def _uses_to_rename(tree: ast.Module, code: str) -> list[Use]:
    """Every place where a name stands that may be renamed, in no order; empty where nothing may."""
    try:
        free = free_names(code)
    except (SyntaxError, ValueError, RecursionError):
        return []
    if free & _SEES_NAMES:
        return []
    uses = list(_uses(tree, code))
    imported = {_bound_by(node) for node in ast.walk(tree) if isinstance(node, ast.alias)}
    kept = free | imported | _KEPT | _addressed_names(tree, free | imported)
    # Python below 3.12 gets some positions inside of f-strings wrong.
    times = Counter(use.start for use in uses)
    kept |= {use.name for use in uses if times[use.start] > 1 or not code.startswith(use.name, use.start)}
    return [use for use in uses if use.name not in kept and not use.name.startswith("__")]


def _uses(tree: ast.Module, code: str) -> Iterator[Use]:
    """The places of all names that are no attributes, keywords or imports."""
    offset = Offsets(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield Use(node.id, offset(node.lineno, node.col_offset))
        elif isinstance(node, ast.arg):
            yield Use(node.arg, offset(node.lineno, node.col_offset))
        elif isinstance(node, (*_Function, ast.ClassDef)):
            start = offset(node.lineno, node.col_offset)
            yield Use(node.name, _find(rf"(?:def|class)\s+({node.name})\b", code, start))
        elif isinstance(node, ast.ExceptHandler) and node.name and node.type:
            start = offset(node.type.end_lineno, node.type.end_col_offset)
            yield Use(node.name, _find(rf"\bas\s+({node.name})\b", code, start))
        elif isinstance(node, ast.Nonlocal):
            start = offset(node.lineno, node.col_offset)
            yield from (Use(name, _find(rf"[\s,]({name})\b", code, start)) for name in node.names)


def _find(pattern: str, code: str, start: int) -> int:
    match = re.compile(pattern).search(code, start)
    return match.start(1) if match else len(code)


class Offsets:
    """Index into the code from a line (from 1) and a column in bytes of UTF-8, as nodes of `ast` have them."""

    def __init__(self, code: str) -> None:
        # Not splitlines(), which also splits at form feeds, where Python counts no line.
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", code))]
        self._code = code
        self._is_ascii = code.isascii()

    def __call__(self, line: int | None, column: int | None) -> int:
        """The index; a node has no place (None) only where `ast` has none for its kind."""
        assert line is not None
        assert column is not None
        start = self._starts[line - 1]
        if self._is_ascii:
            return start + column
        return start + len(self._code[start : start + column].encode()[:column].decode(errors="ignore"))


def _bound_by(alias: ast.alias) -> str:
    return (alias.asname or alias.name).partition(".")[0]


def _addressed_names(tree: ast.Module, outside: set[str]) -> set[str]:
    """Names that something other than a plain use of them refers to, so that they must stay."""
    names: set[str] = set()
    functions: dict[str, set[str]] = {}
    classes: set[str] = set()
    parameters: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (*_Function, ast.Lambda)):
            own = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
            parameters |= own
            if not isinstance(node, ast.Lambda):
                functions.setdefault(node.name, set()).update(own)
                names |= own if node.decorator_list else set()
        elif isinstance(node, ast.ClassDef):
            classes.add(node.name)
            names |= _bound_in_class(node)
        elif isinstance(node, ast.Global):
            names |= set(node.names)
        elif type(node).__name__ in _WITHOUT_PLACE:
            names |= {getattr(node, "name", None) or "", getattr(node, "rest", None) or ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in functions.keys() | classes:
            names.add(node.value)
        elif isinstance(node, ast.Call):
            names |= _addressed_by_call(node, functions, classes, outside) & parameters
    return names


def _bound_in_class(node: ast.ClassDef) -> set[str]:
    """Names that a class body binds, which are attributes outside of it."""
    names: set[str] = set()
    pending: list[ast.AST] = [*node.body]
    while pending:
        one = pending.pop()
        if isinstance(one, (*_Function, ast.ClassDef)):
            names.add(one.name)
            continue
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
        pending.extend(ast.iter_child_nodes(one))
    return names


def _addressed_by_call(
    call: ast.Call, functions: Mapping[str, set[str]], classes: set[str], outside: set[str]
) -> set[str]:
    """Keywords of a call that could be parameters of a function in the text, since what is called may be that."""
    keywords = {one.arg for one in call.keywords if one.arg}
    callee = call.func
    name = callee.id if isinstance(callee, ast.Name) else callee.attr if isinstance(callee, ast.Attribute) else None
    if any(one.arg is None for one in call.keywords) and name is not None:
        keywords |= functions.get("__init__" if name in classes else name, set())
    is_handed_on = any(isinstance(one, ast.Name) and one.id in functions for one in call.args)  # functools.partial
    is_outside = name in outside if isinstance(callee, ast.Name) else name is not None and name not in functions
    return set() if is_outside and not is_handed_on else keywords
