"""Rows with the fields of vLLM's `RequestOutput`, as people write them after offline generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["VllmRow"]


class _Output(msgspec.Struct, frozen=True):
    text: str
    finish_reason: str | None = None


class VllmRow(SampleRow, frozen=True):
    """A prompt with the answers to it. `request_id` only counts requests: the prompt says which task it was."""

    tool: ClassVar[str] = "outputs of vLLM"
    expected: ClassVar[str] = "Each row must have `outputs` with a `text` each, and a `prompt` or a `task_id`."

    outputs: list[_Output]
    prompt: str | None = None
    task_id: str | int | None = None

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the outputs, as continuations of the prompt."""
        task_id = tasks.by_id(self.task_id) if self.task_id is not None else tasks.by_text(self.prompt or "")
        if task_id is None:
            raise ValueError("its prompt holds the prompt of no problem, or of several; give each row a `task_id`")
        for output in self.outputs:
            yield Sample(task_id=task_id, completion=output.text, finish_reason=output.finish_reason)
