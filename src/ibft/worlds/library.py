"""The in-house library of a world of chains: operations on lists of numbers under invented names.

A name is two invented syllables drawn by a seed, so no model can know or guess what a function does: it has to be
learned from the world's training data.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["NUMBER_WORDS", "OPERATIONS", "Chain", "Library", "Operation", "Step", "function_of", "make_library"]

# So few that no keyword, builtin or module of the standard library is two syllables of these (tested).
_CONSONANTS, _VOWELS = "fgklmnptvz", "aiou"

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Operation(NamedTuple):
    """One function of the library.

    Attributes:
        key: its name in tags and in the record of the truth; never shown to a model.
        expression: what it returns, of the list `xs` and, where it takes one, the number `n`.
        phrasings: what it does in English; `{n}` stands for the number as a word.
        numbers: the values of `n` that chains use; empty where it takes none.
    """

    key: str
    expression: str
    phrasings: tuple[str, ...]
    numbers: tuple[int, ...] = ()


OPERATIONS = (
    Operation(
        "evens",
        "[x for x in xs if x % 2 == 0]",
        ("keep the even numbers", "drop the odd numbers", "leave out whatever is odd", "select the even ones"),
    ),
    Operation(
        "above",
        "[x for x in xs if x > n]",
        ("keep those above {n}", "drop everything up to {n}", "keep only what exceeds {n}", "select those over {n}"),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "add",
        "[x + n for x in xs]",
        ("add {n} to each", "increase each by {n}", "raise every number by {n}", "put {n} on top of each"),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "multiply",
        "[x * n for x in xs]",
        ("multiply each by {n}", "scale every number by {n}", "make each {n} times as large", "take each {n} times"),
        (2, 3, 4, 5),
    ),
    Operation(
        "negate",
        "[-x for x in xs]",
        ("negate each", "flip the sign of each", "change every sign", "multiply each by minus one"),
    ),
    Operation(
        "square",
        "[x * x for x in xs]",
        ("square each", "multiply each by itself", "raise every number to the power two", "replace each by its square"),
    ),
    Operation(
        "totals",
        "[sum(xs[: i + 1]) for i in range(len(xs))]",
        ("take running totals", "replace each by the sum so far", "sum up along the list", "accumulate the numbers"),
    ),
    Operation(
        "first",
        "xs[:n]",
        ("take the first {n}", "keep only the first {n}", "cut off all but the first {n}", "stop after {n} of them"),
        (2, 3, 4, 5),
    ),
    Operation(
        "skip",
        "xs[n:]",
        ("skip the first {n}", "drop the first {n}", "leave out the first {n}", "remove {n} from the front"),
        (2, 3, 4),
    ),
    Operation(
        "reverse",
        "xs[::-1]",
        ("reverse the order", "turn the list around", "read it backwards", "go from back to front"),
    ),
    Operation(
        "sort",
        "sorted(xs)",
        ("sort them", "put them in ascending order", "order them by size", "arrange from small to large"),
    ),
    Operation(
        "unique",
        "list(dict.fromkeys(xs))",
        ("remove duplicates", "keep one of each", "drop repeated values", "make all of them distinct"),
    ),
    # Worlds use the first ones, as many as they ask for: what is added goes to the end.
    Operation(
        "odds",
        "[x for x in xs if x % 2 == 1]",
        ("keep the odd numbers", "drop the even numbers", "leave out whatever is even", "select the odd ones"),
    ),
    Operation(
        "below",
        "[x for x in xs if x < n]",
        (
            "keep those below {n}",
            "drop everything from {n} on",
            "keep only what is less than {n}",
            "select those under {n}",
        ),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "without",
        "[x for x in xs if x != n]",
        ("remove every {n}", "keep all but {n}", "delete each {n}", "leave out any {n}"),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "multiples",
        "[x for x in xs if x % n == 0]",
        (
            "keep the multiples of {n}",
            "keep only what {n} divides",
            "select those divisible by {n}",
            "drop what leaves a rest by {n}",
        ),
        (2, 3, 4, 5),
    ),
    Operation(
        "subtract",
        "[x - n for x in xs]",
        ("subtract {n} from each", "decrease each by {n}", "lower every number by {n}", "take {n} off each"),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "modulo",
        "[x % n for x in xs]",
        (
            "take each modulo {n}",
            "wrap every number at {n}",
            "replace each by its rest by {n}",
            "reduce each modulo {n}",
        ),
        (2, 3, 4, 5, 6, 7, 8, 9),
    ),
    Operation(
        "last",
        "xs[-n:]",
        ("take the last {n}", "keep only the last {n}", "cut off all but the last {n}", "start {n} from the end"),
        (2, 3, 4, 5),
    ),
    Operation(
        "chop",
        "xs[:-n]",
        ("drop the last {n}", "leave out the last {n}", "remove {n} from the back", "stop {n} before the end"),
        (2, 3, 4),
    ),
    Operation(
        "absolute",
        "[abs(x) for x in xs]",
        ("take absolute values", "drop the sign of each", "make every number positive", "replace each by its size"),
    ),
    Operation(
        "descending",
        "sorted(xs, reverse=True)",
        (
            "sort them backwards",
            "put them in descending order",
            "order them from the largest",
            "arrange from large to small",
        ),
    ),
)


class Step(NamedTuple):
    """One operation of a chain, by its key, with its number where it takes one."""

    key: str
    number: int | None = None


Chain = tuple[Step, ...]
"""Operations, applied from left to right."""


class Library(NamedTuple):
    """The library as a module: its `name`, its `source`, and the invented name of each operation, by key."""

    name: str
    source: str
    names: dict[str, str]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations that it has."""
        return OPERATIONS[: len(self.names)]

    def call(self, step: Step) -> str:
        """Return the Python expression that applies a step to `xs`."""
        return f"{self.names[step.key]}(xs{'' if step.number is None else f', {step.number}'})"


def make_library(seed: int, num_operations: int) -> Library:
    """Name the module and the first operations by a seed; a larger library leaves these names as they are."""
    operations = OPERATIONS[:num_operations]
    rng = random.Random(f"library {seed}")
    invented: list[str] = []
    while len(invented) < len(operations) + 1:
        name = _syllable(rng) + _syllable(rng)
        if name not in invented:
            invented.append(name)
    module, *rest = invented
    names = {operation.key: name for operation, name in zip(operations, rest, strict=True)}
    # By their invented names: the order in the source must not say which function is which.
    functions = sorted(_definition(operation, names[operation.key]) for operation in operations)
    return Library(module, "\n\n".join(functions), names)


def _syllable(rng: random.Random) -> str:
    return rng.choice(_CONSONANTS) + rng.choice(_VOWELS) + rng.choice(_CONSONANTS)


def _definition(operation: Operation, name: str) -> str:
    parameters = "xs, n" if operation.numbers else "xs"
    return f"def {name}({parameters}):\n    return {operation.expression}\n"


@functools.cache
def _functions() -> dict[str, Callable[..., list[int]]]:
    namespace: dict[str, Callable[..., list[int]]] = {}
    for operation in OPERATIONS:  # by its text, so that truth and source cannot differ
        exec(_definition(operation, operation.key), namespace)  # our own text
    return namespace


@functools.cache
def function_of(step: Step) -> Callable[[list[int]], list[int]]:
    """Return the function that a step applies to a list, by the same text that the library consists of."""
    function = _functions()[step.key]
    return function if step.number is None else functools.partial(function, n=step.number)
