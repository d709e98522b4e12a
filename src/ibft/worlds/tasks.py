"""A task of a world of chains, as the text that a model reads and the text that it should write."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from ibft.worlds.library import NUMBER_WORDS, OPERATIONS, Chain, Library, Operation, Step

__all__ = [
    "ADJECTIVES",
    "NOUNS",
    "Example",
    "clauses_of",
    "completion_of",
    "composition",
    "describe",
    "prompt_of",
    "random_chain",
]

_ADJECTIVES = (
    "amber bold brisk calm clear cold crisp deep dry dusty eager early faint fair fine firm fresh gentle grand green "
    "happy icy keen kind late light lone loud lucky mild noble north odd olive pale plain proud quick quiet rapid ripe"
)
_NOUNS = (
    "badger bear bee bison boar camel carp cat cobra crab crane crow deer dove duck eagle eel elk falcon ferret finch "
    "fox frog gecko goat goose gull hare hawk heron horse ibex jackal koala lark lemur lion llama lynx magpie mink mole"
)
ADJECTIVES, NOUNS = tuple(_ADJECTIVES.split()), tuple(_NOUNS.split())

_PHRASINGS = {operation.key: operation.phrasings for operation in OPERATIONS}


class Example(NamedTuple):
    """One task: the `name` of its function, the `chain` that it computes, and one of the `clauses` for each step.

    `mark` is a word, such as `amber-lion`, that prompts may have beside the name and that says nothing of the chain.
    """

    id: str
    name: str
    chain: Chain
    clauses: tuple[str, ...]
    mark: str = ""

    @property
    def docstring(self) -> str:
        """The function's purpose, as one sentence."""
        text = f"{', then '.join(self.clauses)}."
        return f"First {text}" if len(self.clauses) > 1 else text[0].upper() + text[1:]

    @property
    def sentences(self) -> str:
        """The function's purpose, a sentence for each step."""
        return " ".join(f"{clause[0].upper()}{clause[1:]}." for clause in self.clauses)


def prompt_of(name: str, library: Library, docstring: str, comment: str = "") -> str:
    """Return what a model continues: the import, a comment, the function's head and its docstring; "" has none."""
    above = f"# {comment}\n" if comment else ""
    quoted = f'    """{docstring}"""\n' if docstring else ""
    return f"from {library.name} import *\n\n\n{above}def {name}(xs):\n{quoted}"


def completion_of(chain: Chain, library: Library, comments: Sequence[str] = ()) -> str:
    """Return the canonical body: a statement for each step, with a comment above each where there are comments."""
    lines = []
    for place, step in enumerate(chain):
        if comments:
            lines.append(f"# {comments[place]}")
        lines.append(f"xs = {library.call(step)}")
    return "".join(f"    {line}\n" for line in [*lines, "return xs"])


def describe(chain: Chain) -> str:
    """Return a chain as one line, such as `evens | add 3 | reverse`."""
    return " | ".join(step.key if step.number is None else f"{step.key} {step.number}" for step in chain)


def composition(chain: Chain) -> tuple[str, ...]:
    """Return the sequence of a chain's operations, without their numbers."""
    return tuple(step.key for step in chain)


def random_chain(rng: random.Random, depth: int, operations: Sequence[Operation]) -> Chain:
    """Draw a chain in which no operation follows itself."""
    chain: list[Step] = []
    while len(chain) < depth:
        operation = rng.choice(operations)
        if not chain or chain[-1].key != operation.key:
            chain.append(Step(operation.key, rng.choice(operation.numbers) if operation.numbers else None))
    return tuple(chain)


def clauses_of(rng: random.Random, chain: Chain, num_phrasings: int) -> tuple[str, ...]:
    """Draw one of the first phrasings of each step."""
    clauses = []
    for step in chain:
        phrasing = rng.choice(_PHRASINGS[step.key][:num_phrasings])
        clauses.append(phrasing if step.number is None else phrasing.format(n=NUMBER_WORDS[step.number]))
    return tuple(clauses)
