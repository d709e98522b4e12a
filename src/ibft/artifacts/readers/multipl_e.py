"""Completions of MultiPL-E: a folder with a file per problem (`HumanEval_0_has_close_elements.json.gz`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample

__all__ = ["MultiplERow", "completion_files"]


class MultiplERow(SampleRow, frozen=True):
    """One problem with the completions of its prompt, which end before the brace that closes the function."""

    tool: ClassVar[str] = "completions of MultiPL-E"
    expected: ClassVar[str] = "Each file must have a `name`, which is the task id, and texts as `completions`."

    name: str
    completions: list[str]

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the completions."""
        for text in self.completions:
            yield Sample(task_id=tasks.by_id(self.name), completion=text)


def completion_files(folder: Path) -> list[Path]:
    """Return a folder's files of completions; their results may lie beside them."""
    files = [*folder.glob("*.json.gz"), *folder.glob("*.json")]
    return sorted(file for file in files if ".results." not in file.name)
