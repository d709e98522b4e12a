"""JSON Lines and small JSON files: the one reader and the one writer, for our own rows and for other tools'."""

from __future__ import annotations

import contextlib
import gzip
import json
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from ibft.errors import UserError

__all__ = [
    "RowWriter",
    "decode_foreign",
    "error_reason",
    "is_encodable",
    "numbered_rows",
    "opened",
    "pretty_json",
    "raw_row",
    "read_content",
    "read_lines",
    "read_rows",
    "read_values",
    "write_atomically",
    "write_rows",
]

Row = TypeVar("Row", bound=msgspec.Struct)
Value = TypeVar("Value")

_GZIP_MAGIC = b"\x1f\x8b"


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, through gzip where that is what the file holds, whatever its name.

    Raises:
        UserError: the file is missing, unreadable or, also while it is read, a damaged archive.
    """
    try:
        with open(path, "rb") as file:
            is_zipped = file.peek(2).startswith(_GZIP_MAGIC)  # browsers unpack `.gz`, and tools pack without saying so
            yield gzip.open(file) if is_zipped else file  # type: ignore[misc]
    # A damaged archive shows only while it is read: cut off (EOFError) or with wrong bytes in it (zlib.error).
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def read_content(path: str | os.PathLike[str]) -> bytes:
    """Return a whole file, unpacked where it is gzipped.

    Raises:
        UserError: the file is missing, unreadable or a damaged archive.
    """
    with opened(path) as file:
        return file.read()


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file (gzipped too) that are not blank, one at a time, with their numbers from 1.

    Raises:
        UserError: the file is missing, unreadable or a damaged archive.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def read_rows(path: str | os.PathLike[str], row_type: type[Row]) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file (gzipped too), one at a time; blank lines are skipped.

    Raises:
        UserError: the file is missing or unreadable, or a line is not a `row_type`; names file and line.
    """
    return (row for _, row in numbered_rows(path, row_type))


def numbered_rows(path: str | os.PathLike[str], row_type: type[Row]) -> Iterator[tuple[int, Row]]:
    """Yield the same rows with the numbers of their lines, from 1."""
    decoder = msgspec.json.Decoder(row_type)
    for number, line in read_lines(path):
        try:
            row = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise UserError(
                f"{path}, line {number}: {error}. Each line must be one JSON object with the fields of "
                f"{row_type.__name__}: {', '.join(row_type.__struct_fields__)}."
            ) from None
        # For these two msgspec raises Python's errors, not its own.
        except RecursionError:
            raise UserError(f"{path}, line {number}: JSON that is nested too deeply to be read. Correct it.") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8 text ({error.reason}).") from None
        yield number, row


def read_values(path: str | os.PathLike[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the JSON values of a file (gzipped too), each with its place in words.

    These are the lines of JSON Lines, read one at a time, or the items of one array, or one object over several lines.

    Raises:
        UserError: the file is missing or unreadable, or is an array that is not JSON.
    """
    lines = read_lines(path)
    number, first = next(lines, (0, b""))
    if first.lstrip().startswith(b"["):
        for position, item in enumerate(_items(path), start=1):
            yield f"item {position}", item
    elif first.strip() == b"{":
        yield "its JSON", read_content(path)
    elif first:
        yield f"line {number}", first
        yield from ((f"line {number}", line) for number, line in lines)


def _items(path: str | os.PathLike[str]) -> list[bytes]:
    content = read_content(path)
    try:
        try:
            return [bytes(item) for item in msgspec.json.decode(content, type=list[msgspec.Raw])]
        except msgspec.DecodeError:  # lone surrogates, as in `decode_foreign`
            return [json.dumps(item).encode() for item in json.loads(content)]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}. It begins as a JSON array, which ends with a closing bracket.") from None


def decode_foreign(line: bytes, row_type: type[Value]) -> Value:
    """Decode JSON that another tool wrote, in which Python's json may have left lone surrogates.

    Raises:
        ValueError: it is not JSON, not UTF-8, or not a `row_type`.
    """
    try:
        return msgspec.json.decode(line, type=row_type)
    # It is a `DecodeError` as well: this line is JSON, and another reader would not help.
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # A model can emit lone surrogates, which msgspec refuses: one such answer must not cost the whole file.
        return msgspec.convert(json.loads(line), row_type)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply to be read") from None


def error_reason(error: Exception) -> str:
    """Say why a file cannot be read or written, in the system's words where it has any."""
    return getattr(error, "strerror", None) or str(error)


def is_encodable(text: str) -> bool:
    """Decide whether a text can be written as UTF-8: it has no lone surrogates, which Python's own json reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def pretty_json(value: object) -> bytes:
    """Encode a value of our types as indented JSON with a line break at its end: for files that people read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file under a temporary name, then rename it: a file that exists is complete.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    _write_parts(Path(path), [content.encode() if isinstance(content, str) else content])


def write_rows(path: str | os.PathLike[str], rows: Iterable[msgspec.Struct | msgspec.Raw]) -> None:
    """Write rows as JSON Lines, atomically; `rows` may be a stream that would not fit in memory.

    A row that is not of the project's own types comes as `raw_row` makes it.
    """
    encoder = msgspec.json.Encoder()
    _write_parts(Path(path), (encoder.encode(row) + b"\n" for row in rows))


def raw_row(row: object) -> msgspec.Raw:
    """Encode another tool's row for `write_rows`: any value of JSON; what is not one becomes its text."""
    # By Python's json: msgspec refuses integers of more than 64 bits.
    return msgspec.Raw(json.dumps(row, default=str).encode())


def _write_parts(path: Path, parts: Iterable[bytes]) -> None:
    # In the same folder: a rename replaces a file at once only within one file system.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines(parts)
            file.flush()
            # Otherwise a power cut after the rename can leave an empty file under the final name.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # of the parts too, which may be read as they are written
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"{path}: cannot be written ({error_reason(error)}). Free space or choose another folder."
        ) from None


class RowWriter:
    """Appends rows to a JSON Lines file so that a kill at any point loses at most the last batch.

    Opening it drops an unfinished last line that an earlier run left. Use it inside a stage's work folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._encoder = msgspec.json.Encoder()
        _drop_unfinished_line(self.path)
        self._file = open(self.path, "ab")

    def write(self, rows: Iterable[msgspec.Struct]) -> int:
        """Append the rows, hand them to the operating system, and return the number of bytes they took."""
        data = b"".join(self._encoder.encode(row) + b"\n" for row in rows)
        try:
            self._file.write(data)
            # Not synced to the disk: what the operating system has survives a kill of the process.
            self._file.flush()
            return len(data)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error_reason(error)}). Free space, then run again."
            ) from None

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _drop_unfinished_line(path: Path) -> None:
    # An empty file cannot be mapped.
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, "rb+") as file:
        # Mapped, so that only its end is read: a file of samples can have gigabytes.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end = content.rfind(b"\n") + 1
        file.truncate(end)
