"""A user's own problem files: the fields of `rows.Problem`, one JSON object per line (docs/problems.md)."""

from __future__ import annotations

from pathlib import Path

from ibft.artifacts.json_lines import numbered_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.execution.languages import LANGUAGES

__all__ = ["load_own"]


def load_own(path: Path) -> list[Problem]:
    """Return the problems of a file, checked, with the fields that they leave out filled in.

    Raises:
        UserError: the file is missing, a line is malformed, or a problem could not be judged as meant; says why.
    """
    problems = []
    for number, problem in numbered_rows(path, Problem):
        try:
            problems.append(LANGUAGES[problem.language].completed(problem))
        except ValueError as error:
            raise UserError(f"problems: {path}, line {number}: {error}") from None
        except (RecursionError, MemoryError):  # the latter is what ast.parse raises on 100,000 nested signs
            raise UserError(
                f"problems: {path}: the code of {problem.task_id} is nested too deeply to be read. Simplify it."
            ) from None
    return problems
