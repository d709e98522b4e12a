"""Output files of OpenAI's batch API, of the endpoints chat completions, completions and responses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from ibft.artifacts.readers.row import SampleRow, text_of
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["OpenAIBatchRow"]


class _Body(msgspec.Struct, frozen=True):
    choices: list[dict[str, Any]] = []
    output: list[dict[str, Any]] = []


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 200
    body: Any = None


class OpenAIBatchRow(SampleRow, frozen=True):
    """The answer to one request. `custom_id` is the task id, which a number may follow (`HumanEval/0-1`)."""

    tool: ClassVar[str] = "output of OpenAI's batch API"
    expected: ClassVar[str] = "Each row must have `custom_id` with the task id, and the answer in `response.body`."

    custom_id: str
    response: _Response | None
    error: Any = None

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the choices of the response."""
        if self.error or self.response is None or self.response.status_code >= 400:
            raise ValueError(
                f"the request {self.custom_id!r} failed, so there is no answer to judge: ask again, or remove the row"
            )
        task_id = _task_id(self.custom_id, tasks)
        body = msgspec.convert(self.response.body, _Body)
        for choice in body.choices:
            message = choice.get("message")
            text = text_of(message.get("content")) if isinstance(message, dict) else text_of(choice.get("text"))
            reason = choice.get("finish_reason")
            yield Sample(task_id=task_id, completion=text, finish_reason=reason if isinstance(reason, str) else None)
        if not body.choices:
            if not body.output:
                raise ValueError(f"the response to {self.custom_id!r} has neither `choices` nor `output`")
            messages = (item for item in body.output if item.get("type") == "message")
            yield Sample(task_id=task_id, completion="".join(text_of(message.get("content")) for message in messages))


def _task_id(custom_id: str, tasks: Tasks) -> str:
    whole = tasks.by_id(custom_id)
    if whole in tasks.problems:
        return whole
    # A batch's ids are unique, so that several requests for one task are numbered.
    return tasks.by_id(re.sub(r"[\W_]+\d+$", "", custom_id)) if re.search(r"\D", custom_id) else whole
