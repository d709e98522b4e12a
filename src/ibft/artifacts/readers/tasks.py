"""The benchmark's tasks by the names that other tools give them; a name that could mean two of them means none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ibft.artifacts.rows import Problem

__all__ = ["Tasks"]


class Tasks:
    """The problems that samples may answer, found by id or by text.

    Args:
        problems: of the whole benchmark, in its order.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = {problem.task_id: problem for problem in problems}
        self._by_spelling: dict[str, str | None] = {}
        self._by_number: dict[int, str | None] = {}
        self._by_prompt: dict[str, str | None] = {}
        for task_id, problem in self.problems.items():
            _add(self._by_spelling, _spelling(task_id), task_id)
            _add(self._by_prompt, problem.prompt.strip(), task_id)
            if number := re.search(r"/(\d+)$", task_id):
                _add(self._by_number, int(number[1]), task_id)

    def by_id(self, name: str | int) -> str:
        """Return the task id that a tool writes as `name` (`HumanEval_0`, `0`); the name itself if no task has it."""
        text = str(name)
        if text in self.problems:
            return text
        if text.isdecimal():
            return self._by_number.get(int(text)) or text
        return self._by_spelling.get(_spelling(text)) or text

    def by_text(self, text: str) -> str | None:
        """Return the id of the task whose prompt, or else description, the text holds; None unless it is just one."""
        stripped = text.strip()
        if stripped in self._by_prompt:
            return self._by_prompt[stripped]
        for wanted in ("prompt", "description"):
            parts = ((task_id, getattr(problem, wanted).strip()) for task_id, problem in self.problems.items())
            if matches := [task_id for task_id, part in parts if part and part in text]:
                return matches[0] if len(matches) == 1 else None
        return None


def _add(ids: dict[str, str | None] | dict[int, str | None], key: str | int, task_id: str) -> None:
    ids[key] = None if key in ids else task_id  # type: ignore[index]


def _spelling(task_id: str) -> str:
    """Return an id without what tools change in it: case, and the signs between its parts."""
    return re.sub(r"[\W_]+", "/", task_id.casefold())
