"""Sample logs of lm-evaluation-harness (`samples_TASK_DATE.jsonl`, written with `--log_samples`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["LmEvalRow"]


class LmEvalRow(SampleRow, frozen=True):
    """One document with the answers to it.

    `filtered_resps` are the answers as the harness judges them, `resps` as the model wrote them. With several filters
    the log has each document once per filter.
    """

    tool: ClassVar[str] = "a sample log of lm-evaluation-harness"
    expected: ClassVar[str] = "Each row must have `doc` with a `task_id`, and texts as `filtered_resps` or `resps`."

    doc: dict[str, Any]
    resps: list[Any]
    filtered_resps: list[Any] | None = None
    filter_name: str = msgspec.field(default="", name="filter")

    @property
    def variant(self) -> str:
        """The name of the harness's filter."""
        return self.filter_name

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the filtered answers, without the prompt where that was put in front."""
        if not isinstance(name := self.doc.get("task_id"), (str, int)):
            raise ValueError("its `doc` has no `task_id`, so the log is not of HumanEval, MBPP or a task like them")
        prompt = self.doc.get("prompt")
        for text in _flat(self.filtered_resps or self.resps):
            if not isinstance(text, str):
                raise ValueError("an answer is not a text: the log is of a task that asks for likelihoods")
            # HumanEval's filter puts the prompt in front of each answer.
            completion = text.removeprefix(prompt) if isinstance(prompt, str) else text
            yield Sample(task_id=tasks.by_id(name), completion=completion)


def _flat(answers: list[Any]) -> Iterator[Any]:
    # One list for each request of a document, unless a filter has taken a single answer out of it.
    for answer in answers:
        yield from answer if isinstance(answer, list) else [answer]
