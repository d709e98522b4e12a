"""What a training source is called, and what its content is: a file, a folder, installed code, or the hub's.

Source names are those of `data.train`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from ibft.data.functions import function_pairs
from ibft.errors import UserError
from ibft.run.digests import file_digest, folder_digest

__all__ = ["FILE_SUFFIXES", "FUNCTIONS", "data_digest", "file_of", "hub_name"]

FUNCTIONS = "functions:"
FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


def data_digest(source: str) -> str | None:
    """Return a hash of the content of a file or folder, or of the pairs of installed code; None for a hub data set.

    Raises:
        UserError: the source is a file that does not exist, or of a form that is not read.
    """
    if source.startswith(FUNCTIONS):
        pairs = function_pairs(source.removeprefix(FUNCTIONS))
        return hashlib.sha256(msgspec.json.encode(pairs)).hexdigest()
    path = file_of(source)
    if path is not None:
        return file_digest(path)
    folder = Path(hub_name(source)[0])
    return folder_digest(folder, _is_data) if folder.is_dir() else None


def _is_data(path: Path) -> bool:
    """Return False for the files that `datasets` keeps beside a saved data set for what it computes from it."""
    return not re.fullmatch(r"cache-.*\.arrow|tmp.*|.*\.lock", path.name)


def hub_name(source: str) -> tuple[str, str | None]:
    """Return name and revision of a hub data set, `owner/name@revision`, or of a local folder in its place."""
    name, _, revision = source.partition("@")
    return name, revision or None


def file_of(source: str) -> Path | None:
    """The file that a source names; None for a folder or a data set of the hub."""
    path = Path(source)
    forms = f"{', '.join(FILE_SUFFIXES[:-1])} or {FILE_SUFFIXES[-1]}"
    if not source.lower().endswith(FILE_SUFFIXES):
        if path.is_file():
            raise UserError(f"data: {path} is a file of a form that is not read. Convert it to {forms}.")
        return None
    if path.is_dir():
        return None
    if not path.is_file():
        raise UserError(
            f"data: the file {path} does not exist. Correct the path, or give a hub data set id or functions:PACKAGE."
        )
    return path
