"""HumanEval+ and MBPP+ (EvalPlus, arXiv 2305.01210), as released and as on the Hugging Face hub.

As released (HumanEvalPlus.jsonl.gz, MbppPlus.jsonl.gz) a problem has inputs and a canonical solution. Expected is what
that solution returns; the problem's `setup` computes it, with the code of `problems/evalplus_oracle.py`. On the hub
(evalplus/humanevalplus, evalplus/mbppplus) a problem has a program `test` instead.
"""

from __future__ import annotations

import ast
import importlib.resources
import json
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import read_lines
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.benchmarks.humaneval import HumanEvalRow
from ibft.problems.benchmarks.mbpp import MbppRow

__all__ = ["load_evalplus"]

_MBPP = "Mbpp/"


class _ReleasedRow(msgspec.Struct, frozen=True):
    """A row of the released files: arguments of the calls, as JSON."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    base_input: list[list[Any]]
    plus_input: list[list[Any]] | dict[str, Any] = []  # an empty object where no inputs were found
    atol: float = 0


class _HubMbppRow(MbppRow, frozen=True, kw_only=True):
    test: str


# The types of the arguments, by task, in the letters of `evalplus_oracle.shaped`; the last is for all that follow.
_SHAPES = {
    ("t",): (
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424,
        429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809,
    ),
    ("lt",): (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    ("tt",): (259, 401, 445),
    ("to",): (278,),
    ("a",): (580, 615, 791),
    ("ls",): (115,),
    ("c",): (252,),
    ("f", "c"): (124,),
    ("t", ""): (250, 307, 405, 446, 617, 720, 763, 808),
    ("lt", ""): (75, 413, 444, 753),
    ("dt", ""): (722,),
    ("", "t"): (106, 750),
}  # fmt: skip
_SHAPES_OF_TASK = {f"{_MBPP}{number}": shapes for shapes, numbers in _SHAPES.items() for number in numbers}

# Rules of `evalplus_oracle.agrees`, by function as in EvalPlus.
_MBPP_RULES = {
    "are_equivalent": "anything",
    "sum_div": "or_zero",
    "surface_Area": "or_pyramid",
    "digit_distance_nums": "or_padded",
    **dict.fromkeys(("similar_elements", "find_char_long", "common_in_nested_lists"), "same_elements"),
    **dict.fromkeys(("extract_singly", "larg_nnum", "intersection_array", "find_dissimilar", "Diff"), "same_elements"),
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "is_not_none"),
}
_HUMANEVAL_RULES = {"find_zero": "root"}


def load_evalplus(path: Path) -> list[Problem]:
    """Return the problems of a HumanEval+ or MBPP+ file, `.jsonl` or `.jsonl.gz`, in either layout.

    Raises:
        UserError: the file is missing, or a line is malformed or has no tests (names file and line).
    """
    problems = []
    for number, line in read_lines(path):
        try:
            row = json.loads(line)  # Python's own: the files hold NaN, infinity and integers of any size
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}. Each line must be one JSON object.") from None
        try:
            problems.append(_to_problem(row))
        except (msgspec.ValidationError, ValueError) as error:
            raise UserError(
                f"{path}, line {number}: {error}. Expected a problem of HumanEval+ or MBPP+, either as EvalPlus "
                "releases them (base_input, plus_input) or as on the Hugging Face hub (test)."
            ) from None
    return problems


def _to_problem(row: Any) -> Problem:
    fields = row if isinstance(row, dict) else {}
    if "base_input" in fields:
        return _from_release(msgspec.convert(row, _ReleasedRow))
    if "code" in fields:
        return _from_hub_mbpp(msgspec.convert(row, _HubMbppRow))
    return msgspec.convert(row, HumanEvalRow).to_problem()


def _from_release(row: _ReleasedRow) -> Problem:
    is_mbpp = row.task_id.startswith(_MBPP)
    inputs = {"base": row.base_input, "plus": list(row.plus_input)}
    if not any(inputs.values()):
        raise ValueError(f"task {row.task_id} has no inputs, so nothing could fail")
    # It becomes a part of the program below, and must not be anything but a name.
    if not row.entry_point.isidentifier():
        raise ValueError(f"task {row.task_id} has the entry point {row.entry_point!r}, which is not a function's name")
    rules = _MBPP_RULES if is_mbpp else _HUMANEVAL_RULES
    arguments = (
        row.prompt + row.canonical_solution,
        row.entry_point,
        json.dumps(inputs),
        _SHAPES_OF_TASK.get(row.task_id, ("",)),
        rules.get(row.entry_point, ""),
        row.atol,
    )
    # The oracle has a namespace of its own, so that no name of a candidate can replace one of its names.
    source = importlib.resources.files("ibft.problems").joinpath("evalplus_oracle.py").read_text(encoding="utf-8")
    made = f"evalplus['Oracle'](*{arguments!r}, globals().get('__kept__'))"
    setup = f"evalplus = {{}}\nexec({source!r}, evalplus)\noracle = {made}\n"
    # `reached` says afterwards how far a failed sample came: EvalPlus reports the base tests apart.
    steps = [f"reached = {group!r}\noracle.check({row.entry_point}, {group!r})\n" for group in inputs]
    return Problem(
        task_id=row.task_id,
        prompt=row.prompt,
        setup=setup,
        tests="".join(steps),
        entry_point=row.entry_point,
        canonical_solution=row.canonical_solution,
        values_only=True,  # what comes back is all that EvalPlus looks at, too
    )


def _from_hub_mbpp(row: _HubMbppRow) -> Problem:
    """Return MBPP's problem with the row's own tests, whose inputs and expected values become part of the setup."""
    problem = row.to_problem()
    prepared, tests = _split_at_first_use(row.test, problem.entry_point)
    setup = "".join(f"{line}\n" for line in row.test_imports) + prepared
    return msgspec.structs.replace(problem, setup=setup, tests=tests)


def _split_at_first_use(program: str, name: str) -> tuple[str, str]:
    """Split a program before its first statement that uses `name`."""
    try:
        statements = ast.parse(program).body
    except SyntaxError as error:
        raise ValueError(f"the test is not valid Python ({error})") from None
    lines = program.splitlines(keepends=True)
    for statement in statements:
        # The text is searched first: walking through a megabyte of inputs takes a second.
        text = "".join(lines[statement.lineno - 1 : statement.end_lineno])
        if name and name in text and any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(statement)):
            return "".join(lines[: statement.lineno - 1]), "".join(lines[statement.lineno - 1 :])
    raise ValueError(f"the test never uses the tested function ({name or 'none found'})")
