"""One row of a tool's file, which holds one answer or several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["SampleRow", "text_of"]


class SampleRow(msgspec.Struct, frozen=True):
    """The fields of a row that are read."""

    tool: ClassVar[str]
    """Who writes such rows, for messages."""
    expected: ClassVar[str]
    """How a row has to look, as a sentence that ends an error."""

    @property
    def variant(self) -> str:
        """The name of the row's variant, where a file has the same answers in several: the first one is read."""
        return ""

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the row's answers, with the benchmark's task id where the benchmark has the task.

        Raises:
            ValueError: the row has no answers, or does not say to which task.
        """
        raise NotImplementedError


def text_of(content: Any) -> str:
    """Return the text of a chat message's content, which is a string, a list of parts, or null.

    Parts of reasoning and of other kinds are left out.
    """
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text"))
        return "".join(str(part.get("text") or "") for part in parts)
    return content if isinstance(content, str) else ""
