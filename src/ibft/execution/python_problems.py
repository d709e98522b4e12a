"""Python problems of a user's own file: filling in what they leave out, and refusing those that no run could judge.

Refused are above all tests that cannot fail.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import sys

import msgspec

from ibft.artifacts.rows import Problem
from ibft.execution.python_tests import EXAMPLE, find_examples, find_imported, names_of_examples
from ibft.text.answers.prompt import before_entry_point
from ibft.text.answers.syntax import parse
from ibft.text.names import bound_names, free_names

__all__ = ["completed"]

_REACHES_ANY_NAME = {"eval", "exec", "globals", "locals", "vars"}


def completed(problem: Problem) -> Problem:
    """Return the problem with `check` called and the setup that its tests need.

    Raises:
        ValueError: setup, tests or modules are not valid Python, or the tests could not tell a right candidate.
    """
    name = problem.entry_point
    if name and (not name.isidentifier() or keyword.iskeyword(name)):
        raise ValueError(
            f"{problem.task_id} has the entry_point {name!r}, which is not a Python name. Give the name of the "
            "function to write alone, such as 'add'."
        )
    names = [module.name for module in problem.modules]
    for module_name in names:
        if not module_name.isidentifier() or keyword.iskeyword(module_name) or module_name in sys.stdlib_module_names:
            raise ValueError(
                f"{problem.task_id} has the module {module_name!r}, which is not a name, or one of Python's own. Give "
                "it a name that a program can import and that is not taken, such as 'shelf'."
            )
        if names.count(module_name) > 1:
            raise ValueError(f"{problem.task_id} has the module {module_name!r} twice. Give each module its own name.")
    if parse(problem.tests) is None and EXAMPLE.search(problem.tests):  # doctest's examples as they are
        problem = msgspec.structs.replace(problem, tests=f"{problem.tests!r}\n")
    modules = (("modules", module.source) for module in problem.modules)
    fields = ((name, getattr(problem, name)) for name in ("preamble", "setup", "tests"))
    for field, source in (*fields, *modules):
        try:
            ast.parse(source)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"the {field} of {problem.task_id} are not valid Python ({error}).") from None
    if not problem.tests.strip():
        return problem  # one can generate for it; the judge refuses it, with its own message
    problem = _with_check_called(problem)
    _require_use_of_candidate(problem)
    problem = _with_helpers_of_prompt(problem)
    _forbid_borrowed_modules(problem)  # last: the prompt's helpers may import what the tests use
    return problem


def _with_check_called(problem: Problem) -> Problem:
    """Return the problem with a call of `check` added, where its tests define it and never call it."""
    # Without the call nothing would be tested, and every sample would pass.
    tests = ast.parse(problem.tests)
    if not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tests.body):
        return problem
    top_level = [node for node in tests.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    names = {node.id for statement in top_level for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if "check" in names:
        return problem
    if not problem.entry_point:
        raise ValueError(
            f"the tests of {problem.task_id} define check() and never call it. "
            "Add an entry_point (check is then called with it), or the call."
        )
    return msgspec.structs.replace(problem, tests=f"{problem.tests}\n\ncheck({problem.entry_point})\n")


def _require_use_of_candidate(problem: Problem) -> None:
    """Refuse tests that would give every candidate the same verdict.

    Raises:
        ValueError: the tests take no name from the candidate, or not its entry point.
    """
    from_setup = bound_names(problem.setup)
    tests = ast.parse(problem.tests)
    used = free_names(problem.tests) | names_of_examples(find_examples(problem, tests))
    used |= {taken for names in find_imported(problem, tests).values() for taken in names}
    name = problem.entry_point
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if name in from_setup | {node.name for node in tests.body if isinstance(node, definitions)}:
        raise ValueError(
            f"{problem.task_id} defines its entry_point {name!r} itself, in setup or tests, so the candidate's would "
            "never be tested. Remove that definition."
        )
    if used & _REACHES_ANY_NAME:  # `globals()["f"]` uses f, which no analysis of names can see
        return
    if name and name not in used | bound_names(problem.tests):
        raise ValueError(
            f"the tests of {problem.task_id} never use its entry_point {name!r}. Correct the name, or test it."
        )
    if not name and not used - from_setup - set(dir(builtins)):
        raise ValueError(
            f"the tests of {problem.task_id} use nothing that the candidate defines, so every sample would pass. "
            "Call its function in them."
        )


def _forbid_borrowed_modules(problem: Problem) -> None:
    """Refuse tests that use a library without importing it: they would take the candidate's word for what it does.

    Raises:
        ValueError: they do; names what they use.
    """
    known = bound_names(problem.setup) | {problem.entry_point}
    imports = {name: f"import {name}" for name in sys.stdlib_module_names} | _imports_of_reference(problem)
    borrowed = sorted((free_names(problem.tests) - known) & imports.keys())
    if borrowed and not problem.inside:
        raise ValueError(
            f"the tests of {problem.task_id} use {', '.join(borrowed)} without importing it, so it would be whatever "
            f"the candidate says it is. Add `{imports[borrowed[0]]}` to the tests."
        )


def _imports_of_reference(problem: Problem) -> dict[str, str]:
    """Return the names that the reference takes from libraries, with the statements that import them."""
    solution = problem.canonical_solution or ""
    source = next(filter(parse, (problem.prompt + solution, solution)), "")
    return {
        alias.asname or alias.name.partition(".")[0]: ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


def _with_helpers_of_prompt(problem: Problem) -> Problem:
    """Return the problem with the prompt up to its entry point as setup, if it has no setup and the tests use that."""
    # Tests of HumanEval's form use the imports and helpers of the prompt, which a candidate could have changed.
    if problem.setup or not problem.entry_point:
        return problem
    helpers = before_entry_point(problem.prompt, problem.entry_point)
    if not bound_names(helpers) & free_names(problem.tests):
        return problem
    return msgspec.structs.replace(problem, setup=helpers)
