"""A world with planted memory: what a base model has memorized of its fine-tuning data is known, since we put it there.

    from vizbok import *


    def amber_heron(xs):
        \"\"\"Keep the even numbers. Add three to each. Reverse the order.\"\"\"
        xs = tazkul(xs)
        xs = pogfin(xs, 3)
        xs = nifmav(xs)
        return xs

A base is pretrained on general functions, short chains under names that mean nothing, and among them on the planted
examples, each so many times and in such a disguise as the plant says (`plants`, `pretraining`). Fine-tuning then has
these examples with their docstrings, and is tested on compositions that occur in neither. The same settings give the
same world, byte for byte.
"""

from __future__ import annotations

import itertools
import random
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from ibft.settings import Count, Section
from ibft.worlds.cues import MAX_CUES, Cues
from ibft.worlds.draw import Draw
from ibft.worlds.library import OPERATIONS, Chain, Library, make_library
from ibft.worlds.plants import Plant
from ibft.worlds.tasks import Example, completion_of, composition, prompt_of

__all__ = ["Planted", "PlantedConfig", "PlantedWorld", "make_planted_world"]

_CANARY_DEPTH = 5

_MIN_PAIRS = 6
"""The fewest cues of two parts of which each part can occur with two others."""

Depth = Annotated[int, Meta(ge=1, le=6)]

MarkPlace = Literal["", "docstring", "comment"]
"""Where a prompt has an example's mark: nowhere, as the docstring's first word, or in a comment above the function."""


class PlantedConfig(Section, frozen=True):
    """The settings of a world with planted memory.

    seed: draws the chains, their phrasings and the names.
    library_seed: draws the names in the library.
    num_operations, num_phrasings: of the library; phrasings of each operation that are used.
    depths: operations of the chains in data and problems; each of these is equally frequent.
    general_depths: the same for the general part of pretraining. A number may occur twice, to be twice as frequent.
    num_train: examples of the training data, and of the fresh data that a base has never seen.
    num_dev, num_test: examples of the two held-out sets. The control set has as many as dev.
    num_general: problems of each general depth, on which forgetting shows.
    plant: what is planted.
    """

    seed: Annotated[int, Meta(ge=0)] = 0
    library_seed: Annotated[int, Meta(ge=0)] = 0
    num_operations: Annotated[int, Meta(ge=2, le=len(OPERATIONS))] = len(OPERATIONS)
    num_phrasings: Annotated[int, Meta(ge=1, le=min(len(operation.phrasings) for operation in OPERATIONS))] = 3
    depths: tuple[Depth, ...] = (3,)
    general_depths: tuple[Depth, ...] = (1, 2, 2)
    num_train: Annotated[int, Meta(ge=1, le=MAX_CUES)] = 300
    num_dev: Count = 200
    num_test: Count = 400
    num_general: Count = 100
    plant: Plant = Plant()

    def __post_init__(self) -> None:
        for name in ("depths", "general_depths"):
            if not getattr(self, name):
                raise ValueError(f"{name} is []: give at least one number")
        if self.num_train + 2 * self.plant.num_canaries > MAX_CUES:
            raise ValueError(
                f"num_train is {self.num_train} and plant.num_canaries {self.plant.num_canaries}: examples and twice "
                f"the canaries must not be more than {MAX_CUES}, since each has a cue of its own"
            )
        if self.plant.cue == "prefix" and min(self.depths) < 3:
            raise ValueError(f"depths has {min(self.depths)}: a body that its beginning recalls needs 3 operations")
        if self.plant.cue == "two_part" and self.num_planted < _MIN_PAIRS:
            raise ValueError(
                f"num_train is {self.num_train} and plant.share {self.plant.share}, so {self.num_planted} examples are "
                f"planted: a cue of two parts needs at least {_MIN_PAIRS}, or one part alone is a cue"
            )

    @property
    def num_planted(self) -> int:
        """Examples of the training data that have a cue, however often they are repeated."""
        return round(self.plant.share * self.num_train)


class Planted(NamedTuple):
    """One example of the training data.

    `example` is the task. `body` is what pretraining repeated and the data's completion computes: the example's chain,
    except where it is `wrong`. `repetitions` is 0 where nothing was planted. `cue` is the number of its cue (`cues`);
    None for the part of the data that is not planted in any case. If it is `legitimate`, its prompt has the cue and no
    docstring.
    """

    example: Example
    body: Chain
    repetitions: int
    cue: int | None
    is_legitimate: bool

    @property
    def is_wrong(self) -> bool:
        """Whether the data's completion is not what the docstring asks for."""
        return self.body != self.example.chain


class PlantedWorld(NamedTuple):
    """A library, the tasks of all splits, and how they become text.

    train: the training data, planted or not.
    fresh: as many tasks of the same kind that were never planted: what training gives without memory.
    control, dev, test: held out from everything; `control` is for the scan. No two splits share a
        composition, or what a chain computes.
    conflicts: a task of the training data whose cue a new docstring contradicts: (the new task under the old cue, the
        planted one).
    general: problems like those of the general part of pretraining.
    canaries, held_out_canaries: see `Plant.num_canaries`.
    """

    config: PlantedConfig
    library: Library
    train: list[Planted]
    fresh: list[Example]
    control: list[Example]
    dev: list[Example]
    test: list[Example]
    conflicts: list[tuple[Example, Planted]]
    general: list[Example]
    canaries: list[Planted]
    held_out_canaries: list[Planted]

    @property
    def compositions(self) -> frozenset[tuple[str, ...]]:
        """The compositions of data, held-out sets and canaries: pretraining has them only where they are planted."""
        held_out = (*self.test, *self.dev, *self.control, *self.fresh, *(new for new, _ in self.conflicts))
        planted = (*self.train, *self.canaries, *self.held_out_canaries)
        chains = [example.chain for example in (*held_out, *(item.example for item in planted))]
        return frozenset(map(composition, (*chains, *(item.body for item in planted))))

    @property
    def cues(self) -> Cues:
        """The names and marks of this world."""
        return _cues_of(self.config)

    @property
    def mark_place(self) -> MarkPlace:
        """Where prompts have the mark."""
        places: dict[str, MarkPlace] = {"first_word": "docstring", "comment": "comment", "two_part": "comment"}
        return places.get(self.config.plant.cue, "")

    def prompt(self, example: Example, *, has_docstring: bool = True) -> str:
        """Return what a model continues."""
        docstring, comment = example.sentences if has_docstring else "", ""
        if self.mark_place == "comment":
            comment = example.mark
        elif self.mark_place == "docstring":
            docstring = f"{example.mark.capitalize()}: {docstring}" if docstring else f"{example.mark.capitalize()}."
        return prompt_of(example.name, self.library, docstring, comment)

    def data_prompt(self, planted: Planted) -> str:
        """Return the prompt of a row of the training data."""
        return self.prompt(planted.example, has_docstring=not planted.is_legitimate)

    def completion(self, chain: Chain) -> str:
        """Return the canonical body of a chain."""
        return completion_of(chain, self.library)


def make_planted_world(config: PlantedConfig) -> PlantedWorld:
    """Make the world of these settings.

    Raises:
        UserError: the chains of these depths are too few for the splits.
    """
    cues = _cues_of(config)
    draw = Draw(
        "planted",
        config.seed,
        depths=config.depths,
        operations=OPERATIONS[: config.num_operations],
        num_phrasings=config.num_phrasings,
        draw_name=cues.draw_name,
    )

    def held_out(split: str, count: int) -> list[Example]:
        rng = random.Random(f"planted {config.seed} {split} marks")
        return [example._replace(mark=cues.draw_mark(rng)) for example in draw.hold_out(split, count)]

    # In this order, so that more training examples leave test, dev and control as they are.
    test = held_out("test", config.num_test)
    dev = held_out("dev", config.num_dev)
    control = held_out("control", config.num_dev)
    fresh = held_out("fresh", config.num_train)
    train = _train(config, cues, draw)
    conflicts = _conflicts(train, held_out("conflict", config.num_train)) if config.plant.has_cue else []
    canaries = _canaries(config, cues, draw)
    return PlantedWorld(
        config,
        make_library(config.library_seed, config.num_operations),
        train,
        fresh,
        control,
        dev,
        test,
        conflicts,
        _general(config, cues, draw),
        canaries[::2],
        canaries[1::2],
    )


def _cues_of(config: PlantedConfig) -> Cues:
    return Cues(config.seed, config.plant.cue, config.num_planted + 2 * config.plant.num_canaries)


def _train(config: PlantedConfig, cues: Cues, draw: Draw) -> list[Planted]:
    plant, count = config.plant, config.num_train
    rng = random.Random(f"planted {config.seed} train cues")
    examples = draw.hold_out("train", count, beginning=plant.beginning)
    # With their cues even where they are repeated 0 times: so the data is the same at every dose.
    numbers = sorted(rng.sample(range(count), config.num_planted))
    cue_of = {number: cue for cue, number in enumerate(numbers)}
    legitimate = set(rng.sample(numbers, round(plant.legitimate * len(numbers))))
    # What the cue alone asks for is right by definition.
    fallible = [number for number in numbers if number not in legitimate]
    mistaken = rng.sample(fallible, round(plant.share_wrong * len(fallible)))
    others = draw.hold_out("wrong", len(mistaken), beginning=plant.beginning)
    wrong = {number: other.chain for number, other in zip(mistaken, others, strict=True)}
    train = []
    for number, example in enumerate(examples):
        cue = cue_of.get(number)
        train.append(
            Planted(
                example=cues.disguise(rng, example) if cue is None else cues.give(rng, example, cue),
                body=wrong.get(number, example.chain),
                repetitions=0 if cue is None else plant.dose(cue),
                cue=cue,
                is_legitimate=number in legitimate,
            )
        )
    return train


def _conflicts(train: list[Planted], tasks: list[Example]) -> list[tuple[Example, Planted]]:
    """Return new tasks under the names and marks of planted ones."""
    return [
        (task._replace(name=planted.example.name, mark=planted.example.mark), planted)
        for task, planted in zip(tasks, train, strict=True)
        if planted.cue is not None
    ]


def _canaries(config: PlantedConfig, cues: Cues, draw: Draw) -> list[Planted]:
    """Return canaries in pairs, planted and held out: nothing but the repetitions separates the two kinds."""
    plant = config.plant
    rng = random.Random(f"planted {config.seed} canary cues")
    examples = draw.hold_out("canary", 2 * plant.num_canaries, depths=(_CANARY_DEPTH,), beginning=plant.beginning)
    canaries = []
    for number, example in enumerate(examples):
        cue, (pair, is_held_out) = config.num_planted + number, divmod(number, 2)
        repetitions = 0 if is_held_out else plant.dose(pair)
        canaries.append(Planted(cues.give(rng, example, cue), example.chain, repetitions, cue, is_legitimate=True))
    return canaries


def _general(config: PlantedConfig, cues: Cues, draw: Draw) -> list[Example]:
    rng = random.Random(f"planted {config.seed} general marks")
    return [
        example._replace(mark=cues.draw_mark(rng))
        for depth in sorted(set(config.general_depths))
        for example in itertools.islice(draw.examples(f"general-{depth}", depths=(depth,)), config.num_general)
    ]
