"""LiveCodeBench's code generation (arXiv 2403.07974): `test.jsonl`, `test2.jsonl`, ... of code_generation_lite.

A problem has public test cases as JSON, and private ones as JSON or, since they are large, as JSON in a pickle,
compressed, in base64. Both kinds count, as in LiveCodeBench's own runner.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import io
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import read_lines
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.contests import function_problem, program_problem

__all__ = ["load_livecodebench"]

_EXPECTED = "Expected a problem as in LiveCodeBench's code_generation_lite."


class _TestCase(msgspec.Struct, frozen=True):
    input: str
    output: str
    testtype: str


class _Row(msgspec.Struct, frozen=True):
    question_id: str
    question_content: str
    contest_date: str
    public_test_cases: str
    private_test_cases: str = "[]"
    starter_code: str = ""
    metadata: str = "{}"
    platform: str = ""
    difficulty: str = ""

    def to_problem(self) -> Problem:
        """Return the problem; its task id is the `question_id`.

        Raises:
            ValueError: its test cases cannot be read, or there are none.
        """
        tests = [
            *msgspec.json.decode(self.public_test_cases, type=list[_TestCase]),
            *msgspec.json.decode(_private(self.private_test_cases), type=list[_TestCase]),
        ]
        if not tests:
            raise ValueError("no test cases, so nothing could fail")
        if all(test.testtype == "stdin" for test in tests):
            cases = [(test.input, test.output) for test in tests]
            return program_problem(self.question_id, self.question_content, cases, comparison="lines")
        calls = [([json.loads(line) for line in test.input.split("\n")], json.loads(test.output)) for test in tests]
        name = json.loads(self.metadata or "{}").get("func_name", "")
        return function_problem(
            self.question_id, self.question_content, calls, function=name, starter=self.starter_code
        )


def load_livecodebench(
    path: Path, *, since: str = "", until: str = "", platform: str = "", difficulty: str = ""
) -> list[Problem]:
    """Return the problems of a file, or of all `test*.jsonl` of a folder.

    Args:
        path: the file (`.gz` too) or the folder.
        since: keep problems of contests on this day or later, such as 2024-08-01.
        until: keep problems of contests on this day or earlier.
        platform: keep those of `leetcode`, `atcoder` or `codeforces`.
        difficulty: keep those that are `easy`, `medium` or `hard`.

    Raises:
        UserError: a file is missing or malformed (names file and line), a date is not one, or no problem is left.
    """
    first, last = _day(since or "0001-01-01", "since"), _day(until or "9999-12-31", "until")
    problems = []
    for place, row in _rows(path):
        if platform not in ("", row.platform) or difficulty not in ("", row.difficulty):
            continue
        try:
            if first <= datetime.datetime.fromisoformat(row.contest_date).date() <= last:
                problems.append(row.to_problem())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{place}: {error}. Expected a problem as in LiveCodeBench's code_generation_lite."
            ) from None
    if not problems:
        raise UserError(f"problems: {path} has no LiveCodeBench problems of that time and kind. Widen the options.")
    return problems


def _rows(path: Path) -> Iterator[tuple[str, _Row]]:
    """Yield the rows, each with its place for the errors."""
    files = sorted(path.glob("test*.jsonl*"), key=lambda file: (len(file.name), file.name)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"problems: {path} has no test*.jsonl, the files of LiveCodeBench's code_generation_lite.")
    decoder = msgspec.json.Decoder(_Row)
    for file in files:
        for number, line in read_lines(file):
            try:
                row = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise UserError(f"{file}, line {number}: {error}. {_EXPECTED}") from None
            yield f"{file}, line {number}", row


def _day(text: str, option: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"problems: livecodebench: {option}={text} is not a day. Write it as 2024-08-01.") from None


def _private(text: str) -> str:
    """Return the private test cases as JSON.

    Raises:
        ValueError: they are neither that nor the packed form of it.
    """
    if text.lstrip()[:1] in ("", "["):
        return text or "[]"
    try:
        value: Any = _TextUnpickler(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, IndexError, KeyError) as error:
        raise ValueError(f"private_test_cases cannot be unpacked ({error})") from None
    if not isinstance(value, str):
        raise ValueError("private_test_cases hold something else than JSON")
    return value


class _TextUnpickler(pickle.Unpickler):
    """Reads a pickle of plain values. A pickle may name any function to be called, and this one refuses all."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse.

        Raises:
            UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"it calls for {module}.{name}, which no test case needs")
