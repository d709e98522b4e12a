"""A problem as its author wrote it, made ready to be judged; and in words, why one could not be judged as meant.

Every way in leads through here: problem files, the functions for programs of one's own, and the service.
"""

from __future__ import annotations

import ast
import functools
import math

import msgspec

from ibft.artifacts.rows import Problem
from ibft.execution.languages import LANGUAGES
from ibft.text.names import bound_names

__all__ = ["complete"]

_OF_IO = ("checker", "comparison", "tolerance", "time_limit_s")
_OF_TESTS = ("tests", "setup", "modules", "inside", "values_only")


def complete(problem: Problem) -> Problem:
    """Return a problem with the fields that it leaves out filled in. One that is complete stays as it is.

    Raises:
        ValueError: no run could judge it as meant; says why.
    """
    # Problems are keys of caches, and whoever writes one in Python may well write lists.
    fields = ((name, getattr(problem, name)) for name in problem.__struct_fields__)
    lists = {name: tuple(value) for name, value in fields if isinstance(value, list)}
    return _complete(msgspec.structs.replace(problem, **lists) if lists else problem)


@functools.lru_cache(maxsize=256)  # one that is judged again and again is read once
def _complete(problem: Problem) -> Problem:
    _require_one_kind(problem)
    try:
        return LANGUAGES[problem.language].completed(problem)
    except (RecursionError, MemoryError):  # the latter is what ast.parse raises on 100,000 nested signs
        raise ValueError(f"the code of {problem.task_id} is nested too deeply to be read. Simplify it.") from None


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
