"""When does a printed output count as the expected one? Pure comparisons, of which each says what is wrong."""

from __future__ import annotations

import decimal
import functools
import math
import re
from collections.abc import Callable, Sequence

from ibft.artifacts.rows import Problem

__all__ = ["difference", "shown"]

_SHOWN_CHARACTERS = 60
_INTEGER = re.compile(r"([+-]?)0*(\d+)", re.ASCII)
# No two parts can match the same digits: a megabyte of them must not take a megabyte of steps each.
_NUMBER = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE)


def difference(problem: Problem, expected: str, output: str) -> str:
    """Return the first difference of an output from the expected one; "" where it counts as right.

    Args:
        problem: its `comparison` and `tolerance` decide.
        expected: what was to be printed.
        output: what was.
    """
    if problem.comparison == "exact":
        return _first_difference("line", _whole_lines(expected), _whole_lines(output), str.__eq__)
    if problem.comparison == "lines":
        return _first_difference("line", _stripped_lines(expected), _stripped_lines(output), _is_same_line)
    is_same = str.__eq__
    if problem.comparison == "floats":
        is_same = functools.partial(_is_close, tolerance=problem.tolerance)
    return _first_difference("word", expected.split(), output.split(), is_same)


def shown(text: str) -> str:
    """Return the beginning of a program's text for a message, without characters that a terminal would obey."""
    text = text.strip()
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else repr(text[:_SHOWN_CHARACTERS]) + "..."


def _first_difference(
    unit: str, expected: Sequence[str], output: Sequence[str], is_same: Callable[[str, str], bool]
) -> str:
    for number, (wanted, got) in enumerate(zip(expected, output, strict=False), start=1):
        if not is_same(wanted, got):
            return f"{unit} {number} is {shown(got)}, expected {shown(wanted)}"
    if len(expected) != len(output):
        return f"{len(output)} {unit}s, expected {len(expected)}"
    return ""


def _whole_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _stripped_lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _is_same_line(wanted: str, got: str) -> bool:
    """Compare two lines as LiveCodeBench does: as text, or as decimal numbers.

    Source: LiveCodeBench, lcb_runner/evaluation/testing_util.py at 15808c7, `grade_stdio`.
    """
    if wanted == got:
        return True
    try:
        return list(map(decimal.Decimal, wanted.split())) == list(map(decimal.Decimal, got.split()))
    except decimal.InvalidOperation:  # not a number, or a signaling NaN, which compares with nothing
        return False


def _is_close(wanted: str, got: str, tolerance: float) -> bool:
    """Compare two words: integers exactly, other numbers within the tolerance (absolute or relative), else as text."""
    if wanted == got:
        return True
    integers = _INTEGER.fullmatch(wanted), _INTEGER.fullmatch(got)
    if integers[0] and integers[1]:
        # As text: Python does not read integers of more than 4,300 digits, and floats lose the last digits of 17.
        return _signed_digits(integers[0]) == _signed_digits(integers[1])
    if not _NUMBER.fullmatch(wanted) or not _NUMBER.fullmatch(got):
        return False
    first, second = float(wanted), float(got)
    if not math.isfinite(first) or not math.isfinite(second):
        return _is_close_beyond_floats(wanted, got, tolerance)
    return abs(first - second) <= tolerance * max(1.0, abs(first))


def _is_close_beyond_floats(wanted: str, got: str, tolerance: float) -> bool:
    """Compare two numbers of which one is infinite as a float: `inf` is not 10**400."""
    try:
        first, second = decimal.Decimal(wanted), decimal.Decimal(got)
        if not first.is_finite() or not second.is_finite():
            return first == second or (first.is_nan() and second.is_nan())
        return abs(first - second) <= decimal.Decimal(tolerance) * abs(first)
    except decimal.DecimalException:  # an exponent of more than six digits
        return False


def _signed_digits(integer: re.Match[str]) -> tuple[bool, str]:
    return integer[1] == "-" and integer[2] != "0", integer[2]
