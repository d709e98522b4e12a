"""Logs of Inspect, as JSON and as `.eval`: a zip archive with a file per sample (UK AI Security Institute)."""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ibft.artifacts.json_lines import decode_foreign, error_reason
from ibft.artifacts.readers.row import SampleRow, text_of
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Sample
from ibft.errors import UserError

__all__ = ["InspectLog", "InspectSample", "archived_samples"]

_TOOL = "an Inspect log"
_ZSTANDARD = 93  # the method's number in the zip format
_NAME_LENGTH_AT = 26  # bytes into a file's own header
_STOP_REASONS = {"stop": "stop", "max_tokens": "length", "model_length": "length"}


class _Message(msgspec.Struct, frozen=True):
    content: Any = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    stop_reason: str = ""


class _Output(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


class InspectSample(SampleRow, frozen=True):
    """One sample of a log: the answer of one epoch."""

    tool: ClassVar[str] = _TOOL
    expected: ClassVar[str] = "Each sample must have an `id` and the model's answer in `output`."

    id: str | int
    output: _Output
    input: Any = None
    error: Any = None
    attachments: dict[str, str] = msgspec.field(default_factory=dict)

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the answer that Inspect scores."""
        if self.error is not None or not self.output.choices:
            raise ValueError(f"the sample {self.id!r} has no answer: complete the log with `inspect eval-retry`")
        choice = self.output.choices[0]
        text = text_of(choice.message.content)
        yield Sample(
            task_id=self._task_id(tasks),
            completion=self.attachments.get(text.removeprefix("attachment://"), text),
            finish_reason=_STOP_REASONS.get(choice.stop_reason),
        )

    def _task_id(self, tasks: Tasks) -> str:
        if isinstance(self.id, str) and not self.id.isdecimal():
            return tasks.by_id(self.id)
        # Inspect numbers samples without an id from 1: a number alone does not say which task it was.
        task_id = tasks.by_text(_asked(self.input))
        if task_id is None:
            raise ValueError(f"the sample {self.id!r} has only a number, and its input holds the prompt of no problem")
        return task_id


class InspectLog(SampleRow, frozen=True):
    """A whole log in one JSON object."""

    tool: ClassVar[str] = _TOOL
    expected: ClassVar[str] = InspectSample.expected

    samples: list[InspectSample] | None = None

    def answers(self, tasks: Tasks) -> Iterator[Sample]:
        """Yield the answers of all samples."""
        if not self.samples:
            raise ValueError("the log has no samples: run `inspect eval` with --log-samples")
        for sample in self.samples:
            yield from sample.answers(tasks)


def archived_samples(path: Path) -> Iterator[tuple[str, SampleRow]]:
    """Yield the samples of an `.eval` file, each with its place, one at a time.

    Raises:
        UserError: the archive is damaged, is not a log, or is packed in a way that cannot be read here.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")]
            kind: type[SampleRow] = InspectSample
            if not names and "header.json" in archive.namelist():
                names, kind = ["header.json"], InspectLog
            if not names:
                raise UserError(
                    f"{path}: a zip archive, but not an Inspect log with samples. Unpack it, and name the file in it."
                )
            for name in names:
                try:
                    yield name, decode_foreign(_unpacked(path, archive, name), kind)
                except ValueError as error:
                    raise UserError(f"{path}, {name}: {error}. {kind.expected}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None
    except (NotImplementedError, ImportError, RuntimeError) as error:  # the last for a password
        raise UserError(
            f"{path}: cannot be unpacked here ({error}). Install pyarrow, or convert it: "
            f"`inspect log convert {path} --to json --output-dir FOLDER`."
        ) from None


def _unpacked(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of the archive. Inspect packs by Zstandard, which Python itself reads from version 3.14 on."""
    info = archive.getinfo(name)
    if info.compress_type != _ZSTANDARD or sys.version_info >= (3, 14):
        return archive.read(name)
    import pyarrow

    with open(path, "rb") as file:
        file.seek(info.header_offset + _NAME_LENGTH_AT)
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)  # past the name and what belongs to it
        packed = file.read(info.compress_size)
    data: bytes = pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd").read()
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{name} is damaged")
    return data


def _asked(messages: Any) -> str:
    """Return the text of a sample's input: a string, or messages."""
    if isinstance(messages, list):
        return "\n".join(text_of(message.get("content")) for message in messages if isinstance(message, dict))
    return text_of(messages)
