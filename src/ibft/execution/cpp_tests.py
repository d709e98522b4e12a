"""A C++ function and its tests in two processes, so that the answer never sees what is expected of it.

The tests are compiled once for a problem, with a stand-in for the function (`wire.hpp`). They run first without an
answer, to learn which calls they make. Each answer makes these calls in a sandbox of its own, and the tests run again
on what came back. Where a call depends on an earlier answer (`decode(encode(x))`), this is repeated with the calls that
the tests make then. So an answer gains nothing by `exit`, by an `operator==` that is always true, by macros or by
reading its process's memory.

Where that does not work (the function's types do not cross, or the prompt does not end with its head), answer and
tests are one program, and the verdict is weak. `weak_program` says which tricks it stops.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ibft.artifacts.rows import Problem
from ibft.execution.sandbox import CommandResult
from ibft.text.answers.cpp import macros

__all__ = [
    "MAX_ROUNDS",
    "WIRE",
    "Calls",
    "Exchange",
    "answer_program",
    "exchange",
    "learn_calls",
    "tests_program",
    "weak_program",
]

WIRE = Path(__file__).with_name("wire.hpp").read_bytes()

Calls = tuple[bytes, ...]
"""The arguments of each call, as text of `wire.hpp`."""

Run = Callable[[bytes], CommandResult]
"""Runs a program on its standard input."""

MAX_ROUNDS = 20
"""How often calls may depend on the answers of earlier ones."""
_ASSERT = "#undef assert\n#define assert(...) ibft_wire::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__)\n"
_ASSERT_HEADER = re.compile(r"^[ \t]*#[ \t]*(?:undef[ \t]+NDEBUG|include[ \t]*<(?:assert\.h|cassert)>)[ \t]*$", re.M)
_MAIN = re.compile(r"\bint\s+main\s*\([^)]*\)\s*\{")


class Exchange(NamedTuple):
    """What came of an answer and its tests: the runs of the answer, and the last run of the tests.

    `is_lost`: the answer did not give all that the tests asked for. `tests` is None where their calls differ from run
    to run.
    """

    answers: list[CommandResult]
    tests: CommandResult | None
    is_lost: bool


def tests_program(problem: Problem) -> str | None:
    """Return the tests as a program that has a stand-in for the function; None where the prompt has not its head."""
    name, head = problem.entry_point, problem.prompt.rstrip()
    if not name or not head.endswith("{"):
        return None
    remote = f"#define {name} ibft_wire::Remote<decltype({name})>::call\n"
    return f'#include "wire.hpp"\n{head[:-1]};\n{remote}{_ASSERT}{_body(problem)}'


def answer_program(problem: Problem, source: str) -> str:
    """Return an answer as a program that makes the calls it reads."""
    serving = f"int main() {{ return ibft_wire::serve(::{problem.entry_point}); }}\n"
    # Macros of an honest answer's own, such as `#define int long long`.
    undone = "".join(f"#undef {name}\n" for name in sorted(macros(source)))
    return f'#include "wire.hpp"\n#line 1 "answer.cpp"\n{source}\n{undone}{serving}'


def weak_program(problem: Problem, source: str) -> tuple[str, str]:
    """Return answer and tests as one program, and what it prints where the tests have come to their end.

    The answer comes first and its macros are undone, so it changes no word of the tests. Their `assert` calls nothing
    that it could define. The mark is random and printed when the block of `main` is left, so that `exit`, `_exit`,
    `longjmp` and a signal do not pass. An unbalanced brace or comment does not compile.

    What this does not stop: an `operator==` or a conversion that is better than the standard's and always true; a
    handler of SIGILL that continues behind a failed assertion; code that looks for the mark in its own memory, or
    reads its own source by `.incbin`.
    """
    mark = secrets.token_hex(16)
    known = macros(problem.prompt)
    undone = "".join(f"#undef {name}\n" for name in sorted(macros(source) - known | {"assert"}))
    checking = (
        f'#define assert(...) ((__VA_ARGS__) ? (void)0 : (dprintf(2, "%s\\n", #__VA_ARGS__), __builtin_trap()))\n'
        f'struct End_{mark} {{ ~End_{mark}() {{ dprintf(1, "\\n{mark}\\n"); }} }};\n'
    )
    body = _MAIN.sub(lambda main: f"{main.group()} End_{mark} end_{mark};", _body(problem))
    return f"#include <stdio.h>\n{source}\n{undone}{checking}{body}", mark


def _body(problem: Problem) -> str:
    """Return the tests without the brace that closes the answer's function, and with their `assert` left to us."""
    tests = _ASSERT_HEADER.sub("", problem.tests)
    start = tests.lstrip()
    return start[1:] if start.startswith("}") else tests


def calls_of(output: bytes) -> Calls:
    """Return the frames of an output, up to the first that is not one."""
    frames, position = [], 0
    while (colon := output.find(b":", position, position + 20)) > 0 and output[position:colon].isdigit():
        end = colon + 1 + int(output[position:colon])
        if end > len(output):
            break
        frames.append(output[colon + 1 : end])
        position = end
    return tuple(frames)


def learn_calls(run_tests: Run) -> tuple[Calls, bool]:
    """Return the calls that the tests make as long as each is answered by an empty value, and whether that passes."""
    result = run_tests(b"")
    return calls_of(result.stdout), result.exit_code == 0


def exchange(calls: Calls, run_answer: Run, run_tests: Run) -> Exchange:
    """Let an answer make the calls of its tests, and the tests judge what came back.

    Args:
        calls: of `learn_calls`.
        run_answer: runs `answer_program`.
        run_tests: runs `tests_program`.
    """
    runs: list[CommandResult] = []
    for _ in range(MAX_ROUNDS):
        runs.append(run_answer(_frames(calls)))
        answers = calls_of(runs[-1].stdout)[: len(calls)]
        answered = calls[: len(answers)]
        tests = run_tests(_frames([part for pair in zip(answered, answers, strict=True) for part in pair]))
        made = calls_of(tests.stdout)
        is_lost = len(answers) < len(calls) and made[: len(answers) + 1] == calls[: len(answers) + 1]
        if is_lost or made == answered[: len(made)]:
            return Exchange(runs, tests, is_lost)
        calls = made
    return Exchange(runs, None, False)


def _frames(texts: Sequence[bytes]) -> bytes:
    return b"".join(b"%d:%b" % (len(text), text) for text in texts)
