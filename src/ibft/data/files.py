"""The rows of data files: JSON Lines, JSON, Parquet, CSV and TSV, one at a time where the format allows it.

A row that cannot be read is handed on as the error that it is, so that whoever reads can leave it out.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ibft.artifacts.json_lines import opened, read_content, read_lines
from ibft.errors import RowError, UserError

__all__ = ["FILE_SUFFIXES", "NumberedRow", "rows_of_file", "without_nulls"]

NumberedRow = tuple[str, Any]
"""Where a row is, for people, and the row: a JSON value, or the `RowError` that it is."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
FILE_SUFFIXES = (
    *(suffix + zipped for suffix in (".jsonl", ".ndjson", ".json", ".csv", ".tsv") for zipped in ("", ".gz")),
    ".parquet",
)


def rows_of_file(path: Path) -> Iterator[NumberedRow]:
    """Yield the rows of a file whose name ends in one of `FILE_SUFFIXES`.

    Raises:
        UserError: the file as a whole cannot be read.
    """
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        yield from _numbered(f"{path}, row", _parquet_rows(path))
    elif kind in _DELIMITERS:
        yield from _table_rows(path, _DELIMITERS[kind])
    elif kind == ".json":
        content = _decoded(read_content(path), str(path))
        if isinstance(content, RowError):
            raise content
        if not isinstance(content, list):
            raise UserError(f"{path}: a .json file must hold a list of objects, not {type(content).__name__}.")
        yield from _numbered(f"{path}, item", content)
    else:
        for number, line in read_lines(path):
            yield f"{path}, line {number}", _decoded(line, f"{path}, line {number}")


def _decoded(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return RowError(f"{place}: JSON that is nested too deeply to be read. Correct or remove the line.", "bad JSON")
    except ValueError as error:  # not JSONDecodeError alone: bytes may be no text, and numbers too long
        return RowError(f"{place}: not valid JSON ({error}). Correct or remove the line.", "bad JSON")


def _numbered(label: str, rows: Iterable[Any]) -> Iterator[NumberedRow]:
    for number, row in enumerate(rows, start=1):
        yield f"{label} {number}", row


def _parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from map(without_nulls, batch.to_pylist())
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}).") from None


def _table_rows(path: Path, delimiter: str) -> Iterator[NumberedRow]:
    csv.field_size_limit(sys.maxsize)  # the default, 131,072 characters, is less than a long answer
    with opened(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise UserError(f"{path}: two columns are called {twice!r}. Rename one, or name both otherwise.")
            for number, cells in enumerate(reader, start=1):
                place = f"{path}, row {number}"
                if len(cells) == len(header):
                    yield place, dict(zip(header, cells, strict=True))
                elif cells:
                    message = f"{place}: {len(cells)} cells, and the header has {len(header)}. Correct its quotes."
                    yield place, RowError(message, "cells that do not fit the header")
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable behind line {reader.line_num} ({error}).") from None


def without_nulls(row: Any) -> Any:
    """Return a row of Arrow without the fields that are null in its turns and tools.

    Arrow gives every turn the fields of all turns, and every call of a tool the arguments of all.
    """
    if not isinstance(row, dict):
        return row
    return {key: _cleaned(value) if isinstance(value, list | dict) else value for key, value in row.items()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        # A turn's null content is its own: some templates ask for it.
        return {key: _cleaned(item) for key, item in value.items() if item is not None or key == "content"}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
