"""MultiPL-E (arXiv 2208.08227): HumanEval and MBPP in other languages, of which C++ is judged here."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import numbered_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError

__all__ = ["load_multipl_e"]

_CANDIDATE = re.compile(r"\bauto\s+candidate\s*=\s*(\w+)\s*;")


class _Row(msgspec.Struct, frozen=True):
    name: str
    language: str
    prompt: str
    tests: str


def load_multipl_e(path: Path) -> list[Problem]:
    """Return the problems of a file with rows as in the hub's data set `nuprl/MultiPL-E`, configuration `*-cpp`.

    The prompt ends inside the function, which the tests' first brace closes; they call it by the name that they give
    to `candidate`. The stop strings of the rows are not needed: an answer ends with its function.

    Raises:
        UserError: the file is missing or malformed, or holds another language.
    """
    problems = []
    for number, row in numbered_rows(path, _Row):
        if row.language != "cpp":
            raise UserError(
                f"problems: {path}, line {number}: language {row.language!r}. Of MultiPL-E only C++ (cpp) is judged: "
                "give the file of a configuration that ends in -cpp."
            )
        candidate = _CANDIDATE.search(row.tests)
        problems.append(
            Problem(
                task_id=row.name,
                prompt=row.prompt,
                tests=row.tests,
                entry_point=candidate.group(1) if candidate else "",
                language="cpp",
            )
        )
    return problems
