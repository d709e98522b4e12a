"""Problems of programming contests, as LiveCodeBench, APPS and Codeforces have them, in this project's form.

A problem is a text, and its answer a whole program: one that reads standard input and prints (`io`), or one that
defines a function or a class `Solution` (`tests` that call it).
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

from ibft.artifacts.rows import Case, Problem
from ibft.problems.prompts import as_docstring

__all__ = ["PREAMBLE", "function_problem", "program_problem"]

# What LiveCodeBench puts in front of every program (testing_util.py at 15808c7): answers count on `List` and `deque`.
_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json"),
)
PREAMBLE = (
    "".join(f"from {name} import *\n" for name in (*_MODULES, "builtins", "typing"))
    + f"import {', '.join(_MODULES)}\nsys.setrecursionlimit(50000)\n"
)
_ASKS_FOR_PROGRAM = "Write a program that reads standard input and writes standard output."


def program_problem(
    task_id: str, text: str, cases: Sequence[tuple[str, str]], *, solution: str | None = None, **fields: Any
) -> Problem:
    """Return a problem whose answer reads standard input and prints.

    Args:
        task_id: as its samples have it.
        text: what is asked.
        cases: inputs and expected outputs.
        solution: a whole program, if one is known.
        fields: others of `Problem`, such as `comparison`.
    """
    return Problem(
        task_id=task_id,
        prompt=as_docstring(f"{text.strip()}\n\n{_ASKS_FOR_PROGRAM}"),
        io=tuple(Case(given, expected) for given, expected in cases),
        canonical_solution=solution,
        description=text,
        preamble=PREAMBLE,
        **fields,
    )


def function_problem(
    task_id: str,
    text: str,
    calls: Sequence[tuple[list[Any], Any]],
    *,
    function: str,
    starter: str,
    solution: str | None = None,
    is_loose: bool = False,
) -> Problem:
    """Return a problem whose answer defines a function, or the class `Solution` with it as a method.

    Args:
        task_id: as its samples have it.
        text: what is asked.
        calls: lists of arguments and what is expected.
        function: the function's name.
        starter: code with which the answer begins; decides whether there is a class.
        solution: a whole program, if one is known.
        is_loose: compare by APPS's rules (`call_oracle`).

    Raises:
        ValueError: the function's name is not one.
    """
    if not function.isidentifier():  # it becomes a part of the program below
        raise ValueError(f"{function!r} is not a function's name")
    is_method = "class Solution" in (starter or solution or "")
    # A namespace of its own, so that no name of a candidate can replace one of its names.
    source = importlib.resources.files("ibft.problems").joinpath("call_oracle.py").read_text(encoding="utf-8")
    arguments = (json.dumps(calls), is_loose)
    # LiveCodeBench and APPS take the function alone, too.
    either = f"try:\n    function = Solution().{function}\nexcept NameError:\n    function = {function}\n"
    asks = f"Write a program that begins so:\n\n{starter.rstrip()}" if starter else f"Write a function {function}."
    return Problem(
        task_id=task_id,
        prompt=as_docstring(f"{text.strip()}\n\n{asks}"),
        setup=f"calls = {{}}\nexec({source!r}, calls)\noracle = calls['Oracle']{arguments!r}\n",
        tests=f"{either}oracle.check(function)\n" if is_method else f"oracle.check({function})\n",
        entry_point="Solution" if is_method else function,
        canonical_solution=solution,
        description=text,
        preamble=PREAMBLE,
        inside=False,  # what comes back is all that their own runners look at
    )
