"""Codeforces (open-r1/codeforces): rows as JSON Lines, with official tests and, for many right outputs, a checker."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import numbered_rows
from ibft.artifacts.rows import Problem
from ibft.problems.contests import program_problem

__all__ = ["load_codeforces"]

_log = logging.getLogger(__name__)


class _TestCase(msgspec.Struct, frozen=True):
    input: str
    output: str


class _Row(msgspec.Struct, frozen=True):
    id: str
    title: str = ""
    description: str | None = None
    input_format: str | None = None
    output_format: str | None = None
    interaction_format: str | None = None
    note: str | None = None
    examples: list[_TestCase] | None = None
    official_tests: list[_TestCase] | None = None
    generated_checker: str | None = None
    time_limit: float | None = None
    input_mode: str | None = None

    def to_problem(self) -> Problem | None:
        """Return the problem; None for one that no input and output decide: interactive, of files, without tests."""
        tests = self.official_tests or self.examples
        if not tests or self.interaction_format or self.input_mode not in (None, "stdio"):
            return None
        parts = [self.title, self.description, self.input_format, self.output_format, self.note]
        for test in self.examples or ():
            parts += [f"Input:\n{test.input.strip()}", f"Output:\n{test.output.strip()}"]
        return program_problem(
            self.id,
            "\n\n".join(part for part in parts if part),
            [(test.input, test.output) for test in tests],
            checker=self.generated_checker or "",
            time_limit_s=self.time_limit or 0.0,
        )


def load_codeforces(path: Path) -> list[Problem]:
    """Return the problems that input and output decide; how many others there are is logged.

    Raises:
        UserError: the file is missing, or a line is malformed (names file and line).
    """
    problems, num_others = [], 0
    for _, row in numbered_rows(path, _Row):
        problem = row.to_problem()
        if problem is None:
            num_others += 1
        else:
            problems.append(problem)
    if num_others:
        _log.warning("%s: %d problems are left out: interactive, with files, or without tests", path, num_others)
    return problems
