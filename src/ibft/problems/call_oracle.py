"""Judging a function by what calls of it return, as LiveCodeBench and APPS do.

The loaders put this file's text into a problem's `setup`, so it uses only the standard library and nothing of ibft.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["Oracle"]


class Oracle:
    """The calls of a problem: arguments, and what is expected.

    Equal values count as right, and a tuple counts as a list: what JSON expects never is one. As LiveCodeBench
    (lcb_runner/evaluation/testing_util.py at 15808c7, `grade_call_based`), and as APPS (testing_util.py) where it is
    loose: an expected list may wrap the value, tuples inside of a list count as lists too, and a dictionary that is the
    only argument has integers for keys where its keys read so.

    Args:
        calls: JSON, a list of pairs of arguments and the value that is expected.
        is_loose: by APPS's rules.
    """

    def __init__(self, calls: str, is_loose: bool = False) -> None:
        self.calls = json.loads(calls)
        self.is_loose = is_loose

    def check(self, function: Callable[..., Any]) -> None:
        """Call the function with all arguments.

        Raises:
            AssertionError: a result is wrong; names the call.
            Exception: whatever the function raises.
        """
        for number, (arguments, expected) in enumerate(self.calls, start=1):
            if self.is_loose and len(arguments) == 1 and isinstance(arguments[0], dict):
                arguments = [_with_integers(arguments[0])]
            result = function(*arguments)
            if not self._agrees(list(result) if isinstance(result, tuple) else result, expected):
                place = f"call {number} of {len(self.calls)}"
                raise AssertionError(f"{place}: got {_short(result)}, expected {_short(expected)}")

    def _agrees(self, result: Any, expected: Any) -> bool:
        if result == expected:
            return True
        if not self.is_loose or not isinstance(expected, list) or not expected:
            return False
        if isinstance(result, list):
            result = [list(item) if isinstance(item, tuple) else item for item in result]
        return bool(result == expected[0] or result == expected)


def _with_integers(table: dict[str, Any]) -> dict[Any, Any]:
    try:
        return {int(key): value for key, value in table.items()}
    except ValueError:
        return table


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
