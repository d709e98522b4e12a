"""Check where the verbs on data write: folders are made, and the data itself is never overwritten."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ibft.artifacts.json_lines import error_reason
from ibft.errors import UserError

__all__ = ["make_folder", "refuse_source"]


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, unless they exist.

    Raises:
        UserError: a part of the path is a file, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: the folder {folder} cannot be made ({error_reason(error)}). Choose another.") from None


def refuse_source(source: str, outputs: Iterable[Path]) -> None:
    """Refuse outputs that are the file of the data, under this name or another one, or in its folder.

    Raises:
        UserError: an output is.
    """
    data = Path(source)
    for path in outputs:
        # By the file and not by its name, which may be a link or another spelling.
        is_same = path.exists() and data.exists() and path.samefile(data)
        if is_same or (data.is_dir() and data.resolve() in path.resolve().parents):
            raise UserError(
                f"--out: {path} is the data itself, or in its folder, and would be overwritten. Choose another name."
            )
