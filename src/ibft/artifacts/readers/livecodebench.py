"""Output of LiveCodeBench's runner, and what its custom evaluator takes: the programs for each question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["LiveCodeBenchRow"]


class LiveCodeBenchRow(SampleRow, frozen=True):
    """One question with the programs that LiveCodeBench found in the answers to it (`output_list`) and judges."""

    tool: ClassVar[str] = "output of LiveCodeBench"
    expected: ClassVar[str] = "Each item must have a `question_id`, and programs as `code_list`."

    question_id: str
    code_list: list[str]

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the programs."""
        for program in self.code_list:
            yield Sample(task_id=tasks.by_id(self.question_id), solution=program)
