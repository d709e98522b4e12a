"""Read what a problem's prompt asks for and brings along: its open function, its helpers, the name to define."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from ibft.artifacts.rows import Problem
from ibft.text.answers.syntax import compiles, names_in, parse

__all__ = ["Asked", "asked", "before_entry_point", "leaves_function_open", "without_decorators"]

# Not a closing bracket, which may end a signature of several lines.
_TOP_LEVEL_LINE = re.compile(r"(?m)^[^\s\)\]\}].*")
_PLACEHOLDER = "_the_definition_that_is_asked_for"


class Asked(NamedTuple):
    """A description of what an answer to a problem has to be.

    Attributes:
        prompt: the problem's prompt.
        names: what a program of its own must define: the function or class to write, or the class whose method it is;
            for a problem without an entry point, what its tests use and do not define.
        preamble: imports and helpers of the prompt, which such a program may count on.
        is_open: the prompt ends inside a function or class, so that a body continues it.
        method: the method to write, where the entry point is inside a class of the prompt.
    """

    prompt: str
    names: frozenset[str]
    preamble: str
    is_open: bool
    method: str = ""


def asked(problem: Problem) -> Asked:
    """Read a Python problem."""
    is_open = leaves_function_open(problem.prompt)
    name = problem.entry_point
    if not name:
        return Asked(problem.prompt, _names_tested(problem), "", is_open)
    owner = _class_around(problem.prompt, name)
    outer = owner or name
    preamble = before_entry_point(problem.prompt, outer)
    return Asked(problem.prompt, frozenset({outer}), preamble, is_open, name if owner else "")


def leaves_function_open(prompt: str) -> bool:
    """Decide whether Python source ends inside a function or class, so that what follows is its body."""
    top_level = [match.group() for match in _TOP_LEVEL_LINE.finditer(prompt)]
    return bool(top_level) and re.match(r"(async\s+def|def|class)\b", top_level[-1]) is not None


def before_entry_point(prompt: str, entry_point: str) -> str:
    """Return what stands before the entry point's definition in a prompt: a program of its own, "" if there is none.

    The prompt may end inside the function or class. Where what stands before does not compile alone, it is "".
    """
    before = ""
    tree = parse(prompt)
    if tree is not None:
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if statement.name != entry_point:
                    continue
                # A definition's line is that of its `def`: decorators stand above it.
                first = min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
                before = "".join(prompt.splitlines(keepends=True)[: first - 1])
                break
    # A prompt that ends behind the signature does not parse.
    elif definition := re.search(rf"(?m)^(?:async[ \t]+def|def|class)[ \t]+{re.escape(entry_point)}\b", prompt):
        before = without_decorators(prompt[: definition.start()])
    return before if before.strip() and compiles(before) else ""


def without_decorators(before: str, indent: str = "") -> str:
    """Return what stands before a definition, without its decorators, which no other definition may inherit.

    Args:
        before: source up to the definition.
        indent: that of the definition, if it is a method.
    """
    # Parsed with a definition behind it, since decorators alone are not a program.
    tree = parse(f"{before}{indent}def {_PLACEHOLDER}(): ...\n")
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == _PLACEHOLDER and node.decorator_list:
            first = min(decorator.lineno for decorator in node.decorator_list)
            return "".join(before.splitlines(keepends=True)[: first - 1])
    return before


def _class_around(prompt: str, name: str) -> str:
    """Return the class of the prompt that has the function `name` as a method; "" where it is not one."""
    definition = rf"(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b"
    if re.search(rf"(?m)^(?:{definition}|class[ \t]+{re.escape(name)}\b)", prompt):
        return ""
    method = re.search(rf"(?m)^[ \t]+{definition}", prompt)
    owners = re.findall(r"(?m)^class[ \t]+(\w+)", prompt[: method.start()]) if method else []
    return owners[-1] if owners else ""


def _names_tested(problem: Problem) -> frozenset[str]:
    from_setup, _ = names_in(problem.setup)
    _, used = names_in(problem.tests)
    return used - from_setup
