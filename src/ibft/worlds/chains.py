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
from typing import Annotated, NamedTuple

from msgspec import Meta

from ibft.errors import UserError
from ibft.settings import Count, Section
from ibft.worlds.draw import MAX_DRAWS, Draw
from ibft.worlds.library import OPERATIONS, Library, make_library
from ibft.worlds.tasks import ADJECTIVES, NOUNS, Example, completion_of, prompt_of

__all__ = ["ChainsConfig", "World", "make_world"]


class ChainsConfig(Section, frozen=True):
    """The settings of a world of chains; the same settings give the same world, byte for byte.

    seed: draws the chains, their phrasings and the functions' names.
    library_seed: draws the names in the library, so that several worlds can share one.
    num_operations: how many operations the library has.
    min_depth, max_depth: operations of a chain; all depths are equally frequent.
    num_phrasings: how many of an operation's phrasings are used.
    comments: repeat each clause of the docstring as a comment above its statement. Without them a model also has to
        line up clauses and statements, which takes far more steps (docs/worlds.md).
    num_train, num_dev, num_test: examples; those of dev and test have a composition each, train repeats compositions
        with other numbers and phrasings.
    """

    seed: Annotated[int, Meta(ge=0)] = 0
    library_seed: Annotated[int, Meta(ge=0)] = 0
    num_operations: Annotated[int, Meta(ge=2, le=len(OPERATIONS))] = 12
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


class World(NamedTuple):
    """A library and the tasks of the three splits; and whether completions have `comments`."""

    library: Library
    comments: bool
    train: list[Example]
    dev: list[Example]
    test: list[Example]

    def prompt(self, example: Example) -> str:
        """Return what a model continues: the import, the function's head and its docstring."""
        return prompt_of(example.name, self.library, example.docstring)

    def completion(self, example: Example) -> str:
        """Return the canonical body: a statement for each step."""
        return completion_of(example.chain, self.library, example.clauses if self.comments else ())


def make_world(config: ChainsConfig) -> World:
    """Make the world of these settings.

    Raises:
        UserError: the chains of these depths are too few for the splits, or train is too small to show every operation.
    """
    names_held_out: set[str] = set()

    def draw_name(rng: random.Random, split: str) -> str:
        for _ in range(MAX_DRAWS):
            name = f"{rng.choice(ADJECTIVES)}_{rng.choice(NOUNS)}"
            if name not in names_held_out:
                if split != "train":
                    names_held_out.add(name)
                return name
        raise UserError(f"worlds: no name of a function is left for {split}. Lower num_test or num_dev.")

    operations = OPERATIONS[: config.num_operations]
    draw = Draw(
        "chains",
        config.seed,
        depths=range(config.min_depth, config.max_depth + 1),
        operations=operations,
        num_phrasings=config.num_phrasings,
        draw_name=draw_name,
    )
    # In this order, so that more training examples leave test and dev as they are.
    test = draw.hold_out("test", config.num_test)
    dev = draw.hold_out("dev", config.num_dev)
    train = list(itertools.islice(draw.examples("train"), config.num_train))
    missing = {operation.key for operation in operations} - {step.key for example in train for step in example.chain}
    if missing:
        raise UserError(
            f"worlds: num_train is {config.num_train}, and train then never shows {', '.join(sorted(missing))}, which "
            "test may need. Raise num_train."
        )
    return World(make_library(config.library_seed, config.num_operations), config.comments, train, dev, test)
