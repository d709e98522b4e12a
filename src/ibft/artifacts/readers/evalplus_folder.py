"""Folders of programs as EvalPlus reads them: `FOLDER/HumanEval_0/0.py`, the samples of a task in a folder of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ibft.artifacts.json_lines import error_reason
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample
from ibft.errors import UserError

__all__ = ["TOOL", "is_program_folder", "programs"]

TOOL = "a folder of EvalPlus"


def is_program_folder(folder: Path) -> bool:
    """Decide whether the folder has numbered programs in folders of it."""
    return next(_paths(folder), None) is not None


def programs(folder: Path, tasks: Tasks) -> Iterator[tuple[str, Sample]]:
    """Yield the programs, each with its place, by task and number.

    Raises:
        UserError: a file cannot be read, or is not UTF-8.
    """
    for path in sorted(_paths(folder), key=lambda path: (_natural(path.parent.name), int(path.stem))):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None
        place = str(path.relative_to(folder))
        yield place, Sample(task_id=tasks.by_id(path.parent.name), solution=text, index=int(path.stem))


def _paths(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*/*.py") if path.stem.isdecimal())


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which `HumanEval_2` comes before `HumanEval_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
