"""A user's own problem files: the fields of `rows.Problem`, one JSON object per line (docs/problems.md)."""

from __future__ import annotations

from pathlib import Path

from ibft.artifacts.json_lines import numbered_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.execution.completing import complete

__all__ = ["load_own"]


def load_own(path: Path) -> list[Problem]:
    """Return the problems of a file, checked, with the fields that they leave out filled in.

    Raises:
        UserError: the file is missing, a line is malformed, or a problem could not be judged as meant; says why.
    """
    problems = []
    for number, problem in numbered_rows(path, Problem):
        try:
            problems.append(complete(problem))
        except ValueError as error:
            raise UserError(f"problems: {path}, line {number}: {error}") from None
    return problems
