"""A folder that appears under its name by one rename: it is complete, or it is not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ibft.artifacts.json_lines import error_reason
from ibft.errors import UserError

__all__ = ["copy_files", "new_folder"]

_TRAINER_SUFFIXES = (".pt", ".pth")
"""Of optimizer, scheduler and random states in a checkpoint."""


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it gets that name at the end, and is removed if anything went wrong.

    Raises:
        UserError: `path` exists, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already. Name another folder, or remove it first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile.mkdtemp, whose folder only its owner can read, whatever the umask.
        work = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        work.mkdir()
    except OSError as error:
        raise UserError(f"{path}: cannot be created ({error_reason(error)}). Choose another folder.") from None
    try:
        yield work
        os.rename(work, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error_reason(error)}). Free space, or choose another folder."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a folder, links as what they point to; neither its folders nor what only a trainer reads."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix not in _TRAINER_SUFFIXES:
            shutil.copyfile(path, target / path.name)
