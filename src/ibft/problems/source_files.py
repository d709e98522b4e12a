"""The text files of a benchmark that is a folder."""

from __future__ import annotations

from pathlib import Path

from ibft.artifacts.json_lines import read_content
from ibft.errors import UserError

__all__ = ["read_source"]


def read_source(path: Path) -> str:
    r"""Return a file's text, its line ends as `\n`.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_content(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}).") from None
