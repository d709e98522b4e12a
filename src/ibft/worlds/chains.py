"""A world of chains: small Python tasks, each a sequence of operations of an invented library (`worlds.library`).

    from vizbok import *


    def amber_heron(xs):
        \"\"\"First keep the even numbers, then add three to each, then reverse the order.\"\"\"
        # keep the even numbers
        xs = tazkul(xs)
        # add three to each
        xs = pogfin(xs, 3)
        # reverse the order
        xs = nifmav(xs)
        return xs

The prompt ends after the docstring's line, as HumanEval's do; the rest is the completion. Whoever has learned the
library's names from the training data can write chains that were never seen.

Train, dev and test are split by composition, which is the sequence of operations without their numbers: none of
test or dev occurs in train, nor does a chain that computes the same as one of theirs by other operations. In every
chain each operation matters: without it the chain computes something else. A world is a pure function of its settings.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ibft.errors import UserError
from ibft.worlds.library import NUMBER_WORDS, OPERATIONS, Chain, Library, Step, make_library
from ibft.worlds.probes import behavior, is_sound

__all__ = ["ChainsConfig", "Example", "World", "describe", "make_world"]

# Draws before a split is called impossible. Nine in ten of two operations are sound, one in twenty of twelve.
_MAX_DRAWS = 2_000

_ADJECTIVES = (
    "amber bold brisk calm clear cold crisp deep dry dusty eager early faint fair fine firm fresh gentle grand green "
    "happy icy keen kind late light lone loud lucky mild noble north odd olive pale plain proud quick quiet rapid ripe"
)
_NOUNS = (
    "badger bear bee bison boar camel carp cat cobra crab crane crow deer dove duck eagle eel elk falcon ferret finch "
    "fox frog gecko goat goose gull hare hawk heron horse ibex jackal koala lark lemur lion llama lynx magpie mink mole"
)

Count = Annotated[int, Meta(ge=1)]


class ChainsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a world of chains; the same settings give the same world, byte for byte.

    seed: draws the chains, their phrasings and the functions' names.
    library_seed: draws the names in the library, so that several worlds can share one.
    min_depth, max_depth: operations of a chain; all depths are equally frequent.
    num_phrasings: how many of an operation's phrasings are used.
    comments: repeat each clause of the docstring as a comment above its statement. Without them a model also has to
        line up clauses and statements, which takes far more steps (docs/worlds.md).
    num_train, num_dev, num_test: examples; those of dev and test have a composition each, train repeats compositions
        with other numbers and phrasings.
    """

    seed: Annotated[int, Meta(ge=0)] = 0
    library_seed: Annotated[int, Meta(ge=0)] = 0
    min_depth: Annotated[int, Meta(ge=1, le=12)] = 2
    max_depth: Annotated[int, Meta(ge=1, le=12)] = 4
    num_phrasings: Annotated[int, Meta(ge=1, le=min(len(operation.phrasings) for operation in OPERATIONS))] = 3
    comments: bool = True
    num_train: Count = 1000
    num_dev: Count = 60
    num_test: Count = 100

    def __post_init__(self) -> None:
        if self.min_depth > self.max_depth:
            raise ValueError(
                f"min_depth is {self.min_depth} and max_depth {self.max_depth}: min_depth must not be the larger one"
            )


class Example(NamedTuple):
    """One task: the `name` of its function, the `chain` that it computes, and one of the `clauses` for each step."""

    id: str
    name: str
    chain: Chain
    clauses: tuple[str, ...]

    @property
    def docstring(self) -> str:
        """The function's purpose, as a sentence."""
        text = f"{', then '.join(self.clauses)}."
        return f"First {text}" if len(self.clauses) > 1 else text[0].upper() + text[1:]


class World(NamedTuple):
    """A library and the tasks of the three splits; and whether completions have `comments`."""

    library: Library
    comments: bool
    train: list[Example]
    dev: list[Example]
    test: list[Example]

    def prompt(self, example: Example) -> str:
        """Return what a model continues: the import, the function's head and its docstring."""
        return f'from {self.library.name} import *\n\n\ndef {example.name}(xs):\n    """{example.docstring}"""\n'

    def completion(self, example: Example) -> str:
        """Return the canonical body: a statement for each step."""
        lines = []
        for clause, step in zip(example.clauses, example.chain, strict=True):
            if self.comments:
                lines.append(f"# {clause}")
            lines.append(f"xs = {self.library.call(step)}")
        return "".join(f"    {line}\n" for line in [*lines, "return xs"])


def make_world(config: ChainsConfig) -> World:
    """Make the world of these settings.

    Raises:
        UserError: the chains of these depths are too few for the splits, or train is too small to show every operation.
    """
    draw = _Draw(config)
    # In this order, so that more training examples leave test and dev as they are.
    test = draw.hold_out("test", config.num_test)
    dev = draw.hold_out("dev", config.num_dev)
    train = list(itertools.islice(draw.examples("train"), config.num_train))
    missing = {operation.key for operation in OPERATIONS} - {step.key for example in train for step in example.chain}
    if missing:
        raise UserError(
            f"worlds: num_train is {config.num_train}, and train then never shows {', '.join(sorted(missing))}, which "
            "test may need. Raise num_train."
        )
    return World(make_library(config.library_seed), config.comments, train, dev, test)


def describe(chain: Chain) -> str:
    """Return a chain as one line, such as `evens | add 3 | reverse`."""
    return " | ".join(step.key if step.number is None else f"{step.key} {step.number}" for step in chain)


class _Draw:
    """Draws the examples of the splits, and remembers what is held out."""

    def __init__(self, config: ChainsConfig) -> None:
        self._config = config
        self._compositions: set[tuple[str, ...]] = set()
        self._behaviors: set[str] = set()
        self._names: set[str] = set()

    def hold_out(self, split: str, count: int) -> list[Example]:
        """Draw examples that share neither composition, behavior nor name with each other or with any drawn later."""
        examples = []
        for example in itertools.islice(self.examples(split), count):
            self._compositions.add(_composition(example.chain))
            self._behaviors.add(behavior(example.chain))
            self._names.add(example.name)
            examples.append(example)
        return examples

    def examples(self, split: str) -> Iterator[Example]:
        """Yield examples without end that share nothing with those held out; among themselves they may share all."""
        # A generator per split: how many of one are drawn changes no other.
        rng = random.Random(f"chains {self._config.seed} {split}")
        for number in itertools.count():
            chain = self._chain(rng, split)
            yield Example(f"chains/{split}/{number}", self._name(rng, split), chain, self._clauses(rng, chain))

    def _chain(self, rng: random.Random, split: str) -> Chain:
        depth = rng.randrange(self._config.min_depth, self._config.max_depth + 1)
        for _ in range(_MAX_DRAWS):
            chain = _random_chain(rng, depth)
            if (  # the cheapest first: the last two run the chain on 61 lists
                _composition(chain) not in self._compositions
                and is_sound(chain)
                and behavior(chain) not in self._behaviors
            ):
                return chain
        raise UserError(
            f"worlds: no chain of {depth} operations is left for {split} after num_test {self._config.num_test} and "
            f"num_dev {self._config.num_dev}. Lower these, or raise min_depth and max_depth."
        )

    def _name(self, rng: random.Random, split: str) -> str:
        for _ in range(_MAX_DRAWS):
            name = f"{rng.choice(_ADJECTIVES.split())}_{rng.choice(_NOUNS.split())}"
            if name not in self._names:
                return name
        raise UserError(f"worlds: no name of a function is left for {split}. Lower num_test or num_dev.")

    def _clauses(self, rng: random.Random, chain: Chain) -> tuple[str, ...]:
        clauses = []
        for step in chain:
            phrasing = rng.choice(_PHRASINGS[step.key][: self._config.num_phrasings])
            clauses.append(phrasing if step.number is None else phrasing.format(n=NUMBER_WORDS[step.number]))
        return tuple(clauses)


_PHRASINGS = {operation.key: operation.phrasings for operation in OPERATIONS}


def _composition(chain: Chain) -> tuple[str, ...]:
    return tuple(step.key for step in chain)


def _random_chain(rng: random.Random, depth: int) -> Chain:
    """Draw a chain in which no operation follows itself."""
    chain: list[Step] = []
    while len(chain) < depth:
        operation = rng.choice(OPERATIONS)
        if not chain or chain[-1].key != operation.key:
            chain.append(Step(operation.key, rng.choice(operation.numbers) if operation.numbers else None))
    return tuple(chain)
