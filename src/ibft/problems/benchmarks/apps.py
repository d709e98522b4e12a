"""APPS (arXiv 2105.09938): rows of codeparrot/apps, `train.jsonl` or `test.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import read_lines
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.contests import function_problem, program_problem

__all__ = ["load_apps"]


class _Row(msgspec.Struct, frozen=True):
    question: str
    input_output: str
    id: int | None = None
    problem_id: int | None = None
    solutions: str = ""
    starter_code: str = ""
    difficulty: str = ""

    def to_problem(self) -> Problem | None:
        """Return the problem, `APPS/0` and so on; None for one without test cases, of which APPS has some.

        Raises:
            ValueError: its test cases or solutions cannot be read.
        """
        number = self.problem_id if self.id is None else self.id
        if number is None:
            raise ValueError("it has neither id nor problem_id")
        if not self.input_output.strip():
            return None
        cases: dict[str, Any] = json.loads(self.input_output)
        if not cases.get("inputs"):
            return None
        pairs = list(zip(cases["inputs"], cases["outputs"], strict=True))
        solution = next(iter(json.loads(self.solutions or "[]")), None)
        name = cases.get("fn_name")
        if name is None:
            texts = [(_text(given), _text(expected)) for given, expected in pairs]
            return program_problem(f"APPS/{number}", self.question, texts, solution=solution, comparison="floats")
        return function_problem(
            f"APPS/{number}",
            self.question,
            pairs,
            function=name,
            starter=self.starter_code,
            solution=solution,
            is_loose=True,
        )


def load_apps(path: Path, *, difficulty: str = "") -> list[Problem]:
    """Return the problems that have test cases.

    Args:
        path: the file (`.gz` too).
        difficulty: keep those that are `introductory`, `interview` or `competition`.

    Raises:
        UserError: the file is missing, or a line is malformed (names file and line).
    """
    problems = []
    for number, line in read_lines(path):
        try:
            row = msgspec.convert(json.loads(line), _Row)  # Python's own: integers of any size, infinity
            if difficulty in ("", row.difficulty) and (problem := row.to_problem()) is not None:
                problems.append(problem)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}. Expected a problem as in codeparrot/apps.") from None
    return problems


def _text(value: str | list[str]) -> str:
    """Return an input or output, which may be a list of lines."""
    return value if isinstance(value, str) else "\n".join(map(str, value))
