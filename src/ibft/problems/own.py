"""A user's own problem files: the fields of `rows.Problem`, one JSON object per line (docs/problems.md)."""

from __future__ import annotations

import ast
import math
from pathlib import Path

from ibft.artifacts.json_lines import numbered_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.execution.languages import LANGUAGES
from ibft.text.names import bound_names

__all__ = ["load_own"]

_OF_IO = ("checker", "comparison", "tolerance", "time_limit_s")
_OF_TESTS = ("tests", "setup", "modules", "inside", "values_only")


def load_own(path: Path) -> list[Problem]:
    """Return the problems of a file, checked, with the fields that they leave out filled in.

    Raises:
        UserError: the file is missing, a line is malformed, or a problem could not be judged as meant; says why.
    """
    problems = []
    for number, problem in numbered_rows(path, Problem):
        try:
            _require_one_kind(problem)
            problems.append(LANGUAGES[problem.language].completed(problem))
        except ValueError as error:
            raise UserError(f"problems: {path}, line {number}: {error}") from None
        except (RecursionError, MemoryError):  # the latter is what ast.parse raises on 100,000 nested signs
            raise UserError(
                f"problems: {path}: the code of {problem.task_id} is nested too deeply to be read. Simplify it."
            ) from None
    return problems


def _require_one_kind(problem: Problem) -> None:
    """Refuse a problem that has both `io` and tests, or fields of the other kind.

    Raises:
        ValueError: says which fields.
    """
    given = {name for name in (*_OF_IO, *_OF_TESTS) if getattr(problem, name) != _DEFAULTS[name]}
    if not problem.io:
        if names := [name for name in _OF_IO if name in given]:
            raise ValueError(
                f"{problem.task_id} has {' and '.join(names)}, which is for problems with io: a list of inputs and "
                "the outputs that are expected. Add it, or remove that field."
            )
        return
    if names := [name for name in _OF_TESTS if name in given]:
        raise ValueError(
            f"{problem.task_id} has io and {' and '.join(names)}. A program that reads standard input is judged by io "
            "alone, a function by tests. Remove one of the two."
        )
    if not LANGUAGES[problem.language].judges_io:
        raise ValueError(f"{problem.task_id} has io, which {problem.language} problems cannot have. Write tests.")
    _require_sound_comparison(problem)


_DEFAULTS = {name: getattr(Problem(task_id="", prompt=""), name) for name in (*_OF_IO, *_OF_TESTS)}


def _require_sound_comparison(problem: Problem) -> None:
    """Refuse what could not decide, or would decide nothing.

    Raises:
        ValueError: says which field, and what it may be.
    """
    for name in ("tolerance", "time_limit_s"):
        value = getattr(problem, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{problem.task_id} has the {name} {value}. Give a number from 0.")
    if problem.tolerance != _DEFAULTS["tolerance"] and problem.comparison != "floats":
        raise ValueError(f"{problem.task_id} has a tolerance, which only the comparison 'floats' has. Use that.")
    if not problem.checker:
        return
    if problem.comparison != _DEFAULTS["comparison"]:
        raise ValueError(f"{problem.task_id} has a checker, which decides alone. Remove comparison and tolerance.")
    try:
        ast.parse(problem.checker)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the checker of {problem.task_id} is not valid Python ({error}).") from None
    if "argv" not in problem.checker and "check" not in bound_names(problem.checker):
        raise ValueError(
            f"the checker of {problem.task_id} neither defines check(input, output, expected) nor reads the names of "
            "three files from sys.argv (input, expected, output). Write one of the two."
        )
