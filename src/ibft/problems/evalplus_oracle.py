"""Judging one EvalPlus problem: what the candidate returns against what the canonical solution returns.

The loader puts this file's text into a problem's `setup`, so it uses only the standard library and nothing of ibft.
It gives the verdicts of EvalPlus 0.3.1 (evalplus/eval/__init__.py, unsafe_execute; eval/_special_oracle.py;
data/mbpp.py, mbpp_deserialize_inputs), with these deviations:

- a call's time is CPU time, so that load decides nothing, and is not asked for where the tests run inside;
- a tolerance that EvalPlus raises for one float result is not kept for the results after it;
- nested sequences must have equal lengths at every level, where `numpy.allclose` would broadcast; and they may be
  ragged, and integers may exceed 64 bits, where it would fail;
- HumanEval/32 can be passed, where EvalPlus never counts an input of it as passed;
- the problems' special rules see the inputs as they were before the call.
"""

from __future__ import annotations

import cmath
import contextlib
import copy
import hashlib
import io
import itertools
import json
import marshal
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Oracle", "agrees", "shaped"]

RELATIVE_TOLERANCE = 1e-7  # numpy.testing.assert_allclose's
FLOAT_TOLERANCE = 1e-6  # where a float is expected and the problem names no tolerance
LEAST_CALL_S = 1.0  # a call may take so long, or so many times as long as the canonical solution's
CALL_FACTOR = 4.0


class Oracle:
    """A problem's inputs, in the groups `base` and `plus`, and what its canonical solution makes of them.

    Args:
        program: the canonical solution, a whole program.
        entry_point: its function.
        inputs: JSON, the lists of arguments by group.
        shapes: how each argument is brought from JSON into its type (`shaped`); the last one is for all that follow.
        rule: the name of the problem's special rule, "" for none (`agrees`).
        tolerance: the absolute tolerance for numbers, 0 for exact results.
        folder: where results are kept from one run to the next, if anywhere.
    """

    def __init__(
        self,
        program: str,
        entry_point: str,
        inputs: str,
        shapes: Sequence[str],
        rule: str,
        tolerance: float,
        folder: str | None = None,
    ) -> None:
        self.rule = rule
        self.tolerance = tolerance
        arguments = {
            group: [[shaped(value, shapes[min(n, len(shapes) - 1)]) for n, value in enumerate(row)] for row in rows]
            for group, rows in json.loads(inputs).items()
        }
        key = repr(("with seconds", program, entry_point, inputs, tuple(shapes), sys.version))
        results, seconds = _kept(folder, key, lambda: _results(program, entry_point, arguments))
        self.cases = {group: list(zip(rows, results[group], strict=True)) for group, rows in arguments.items()}
        self.limits_s = {
            group: [max(LEAST_CALL_S, CALL_FACTOR * of_call) for of_call in of_group]
            for group, of_group in seconds.items()
        }
        self.kept: dict[str, list[Any]] = {group: [] for group in arguments}  # for what stands for a candidate

    def check(self, candidate: Callable[..., Any], group: str) -> None:
        """Call the candidate on every input of a group.

        Raises:
            AssertionError: a result is wrong; names the input.
            Exception: whatever the candidate raises.
        """
        cases = self.cases[group]
        rows = [arguments for arguments, _ in cases]
        # What stands for a candidate in a sandbox can be asked for many calls at once.
        each = getattr(candidate, "__each__", None)
        outputs = each(rows, self.limits_s[group], self.kept[group]) if each else itertools.starmap(candidate, rows)
        # strict: a case without an output would count as right.
        for number, ((arguments, expected), output) in enumerate(zip(cases, outputs, strict=True)):
            if not agrees(output, expected, arguments, self.rule, self.tolerance):
                wanted = "" if self.rule else f", expected {_short(expected)}"
                raise AssertionError(f"{group} input {number}: got {_short(output)}{wanted}")


def _results(
    program: str, entry_point: str, arguments: dict[str, list[list[Any]]]
) -> tuple[dict[str, list[Any]], dict[str, list[float]]]:
    """Return, by group, what the program makes of each row of arguments, and the seconds of CPU that it takes."""
    namespace: dict[str, Any] = {"__name__": "canonical_solution"}
    with contextlib.redirect_stdout(io.StringIO()):  # a canonical solution may print
        exec(compile(program, "<canonical solution>", "exec"), namespace)
        results: dict[str, list[Any]] = {group: [] for group in arguments}
        seconds: dict[str, list[float]] = {group: [] for group in arguments}
        for group, rows in arguments.items():
            for row in rows:
                own = copy.deepcopy(row)  # a solution may change its arguments, which the candidate gets after it
                start = time.process_time()
                results[group].append(namespace[entry_point](*own))
                seconds[group].append(time.process_time() - start)
        return results, seconds


def _kept(folder: str | None, key: str, compute: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return what was computed under this key before, or compute it and keep it: some solutions take 15 s."""
    path = os.path.join(folder, hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()) if folder else ""
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        with open(path, "rb") as file:
            results, seconds = marshal.load(file)
        return results, seconds
    found = compute()
    # The folder may be closed to us, and marshal knows values of exact builtin types alone.
    with contextlib.suppress(OSError, ValueError):
        if path:
            data = marshal.dumps(found)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(f"{path}.{os.getpid()}", "wb") as new:
                new.write(data)
            os.replace(new.name, path)
    return found


def agrees(output: Any, expected: Any, arguments: Sequence[Any], rule: str, tolerance: float) -> bool:
    """Decide whether an output counts as right.

    Equal values do, and so do numbers and sequences of the same type that are close, where the problem has a
    tolerance or floats are expected. What `rule` allows in addition, or instead:

        root           only: the output is a root of the polynomial with the given coefficients (HumanEval/32)
        anything       any output (Mbpp/164, whose text and canonical solution differ)
        or_zero        0 (Mbpp/295, whether a number divides itself)
        or_pyramid     the surface with the height taken as perpendicular (Mbpp/581)
        or_padded      the digits' distance with the shorter number padded by zeros (Mbpp/558)
        same_elements  instead of equality: the same elements in any order and number
        is_not_none    instead of equality: that there is a result, or is none, as expected; a bool is taken as it is
    """
    if rule == "root":
        # math.pow, as EvalPlus has it: it fails on a complex number, which `**` would take.
        value = sum(coefficient * math.pow(output, power) for power, coefficient in enumerate(arguments[0]))
        return bool(abs(value) <= tolerance)
    if rule == "same_elements":
        is_exact = set(output) == set(expected)
    elif rule == "is_not_none":
        expected = expected is not None
        is_exact = (output if isinstance(output, bool) else output is not None) == expected
    else:
        is_exact = bool(output == expected) or _is_allowed(output, arguments, rule, tolerance)
    if is_exact:
        return True
    if tolerance == 0 and _is_floats(expected):
        tolerance = FLOAT_TOLERANCE
    return tolerance != 0 and type(output) is type(expected) and _is_close(output, expected, tolerance)


def _is_allowed(output: Any, arguments: Sequence[Any], rule: str, tolerance: float) -> bool:
    if rule == "or_zero":
        return bool(output == 0)
    if rule == "or_pyramid":
        base, height = arguments
        slant = math.sqrt((base / 2) ** 2 + height**2)
        return bool(abs(output - round(base**2 + 4 * (base * slant) / 2)) <= tolerance)
    if rule == "or_padded":
        first, second = map(str, arguments)
        width = max(len(first), len(second))
        pairs = zip(first.zfill(width), second.zfill(width), strict=True)
        return bool(output == sum(abs(int(a) - int(b)) for a, b in pairs))
    return rule == "anything"


def _is_floats(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _is_close(output: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(output, (list, tuple))
            and len(output) == len(expected)
            and all(_is_close(a, b, tolerance) for a, b in zip(output, expected, strict=True))
        )
    if not isinstance(output, (int, float, complex)) or not isinstance(expected, (int, float, complex)):
        return False
    try:
        difference = abs(output - expected)
        return output == expected or (
            # An infinite value would make the bound infinite, and every finite output right.
            cmath.isfinite(expected) and difference <= tolerance + RELATIVE_TOLERANCE * abs(expected)
        )
    except OverflowError:  # an integer beyond a float's range, beside a float
        return False


def shaped(value: Any, shape: str) -> Any:
    """Bring a value from JSON, which has neither tuples nor sets nor complex numbers, into its type.

    One letter of `shape` stands for each level of nesting, the rest for its items: `t` tuple, `l` list, `d` dict of
    values, `s` set (EvalPlus makes an empty one a dict, and so do we), `o` tuple where it is a list and itself
    otherwise; `f` float, `c` complex (written as text); `a` tuples at all levels. Nothing more: as it is.
    """
    if not shape:
        return value
    kind, rest = shape[0], shape[1:]
    if kind == "f":
        return float(value)
    if kind == "c":
        return complex(value)
    if kind == "d":
        return {key: shaped(item, rest) for key, item in value.items()}
    if kind == "a":
        return tuple(shaped(item, "a") for item in value) if isinstance(value, list) else value
    if kind == "o" and not isinstance(value, list):
        return value
    if kind == "s":
        return set(value) if isinstance(value, list) and value else {}
    items = [shaped(item, rest) for item in value]
    return items if kind == "l" else tuple(items)


def _short(value: Any, width: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}..."
