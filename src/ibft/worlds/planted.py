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

import random
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ibft.errors import UserError
from ibft.worlds.chains import Count
from ibft.worlds.draw import MAX_DRAWS, Draw
from ibft.worlds.library import OPERATIONS, Chain, Library, make_library
from ibft.worlds.plants import Plant
from ibft.worlds.tasks import (
    ADJECTIVES,
    NOUNS,
    Example,
    clauses_of,
    completion_of,
    prompt_of,
    random_chain,
)

__all__ = ["Cues", "Planted", "PlantedConfig", "PlantedWorld", "make_planted_world"]

_NUM_RESERVED = 800
"""Cues that planted examples and canaries may take: half of all names. The rest is everybody else's."""

_CANARY_DEPTH = 5

Depth = Annotated[int, Meta(ge=1, le=6)]

MarkPlace = Literal["", "docstring", "comment"]
"""Where a prompt has an example's mark: nowhere, as the docstring's first word, or in a comment above the function."""


class PlantedConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    num_train: Annotated[int, Meta(ge=1, le=_NUM_RESERVED)] = 300
    num_dev: Count = 200
    num_test: Count = 400
    num_general: Count = 100
    plant: Plant = Plant()

    def __post_init__(self) -> None:
        for name in ("depths", "general_depths"):
            if not getattr(self, name):
                raise ValueError(f"{name} is []: give at least one number")
        if self.num_train + 2 * self.plant.num_canaries > _NUM_RESERVED:
            raise ValueError(
                f"num_train is {self.num_train} and plant.num_canaries {self.plant.num_canaries}: examples and twice "
                f"the canaries must not be more than {_NUM_RESERVED}, since each has a cue of its own"
            )
        if self.plant.cue == "prefix" and min(self.depths) < 3:
            raise ValueError(f"depths has {min(self.depths)}: a body that its beginning recalls needs 3 operations")


class Planted(NamedTuple):
    """One example of the training data.

    `example` is the task. `body` is what pretraining repeated and the data's completion computes: the example's chain,
    except where it is `wrong`. `repetitions` is 0 where nothing was planted. `cue` is the number of its cue (`Cues`);
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
    control, dev, test: held out from everything; `control` is for the scan.
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

    def completion(self, chain: Chain) -> str:
        """Return the canonical body of a chain."""
        return completion_of(chain, self.library)


class Cues:
    """The names and marks of a world: those of planted examples, which nothing else has, and everybody else's.

    Args:
        config: of the world.
    """

    def __init__(self, config: PlantedConfig) -> None:
        pairs = [(adjective, noun) for adjective in ADJECTIVES for noun in NOUNS]
        random.Random(f"planted {config.seed} cues").shuffle(pairs)
        self._reserved, self._free = pairs[:_NUM_RESERVED], pairs[_NUM_RESERVED:]
        self._cue = config.plant.cue
        # Of two parts, every pair of some twenty-nine names and as many marks is a cue.
        self._side = next(side for side in range(1, _NUM_RESERVED) if side * side >= _NUM_RESERVED)

    def draw_name(self, rng: random.Random, split: str = "") -> str:
        """Draw a name that is nobody's cue."""
        return "_".join(rng.choice(self._free))

    def draw_mark(self, rng: random.Random) -> str:
        """Draw a mark that is nobody's cue."""
        return "-".join(rng.choice(self._free))

    def disguise(self, rng: random.Random, example: Example) -> Example:
        """Return an example under a name and a mark that mean nothing."""
        return example._replace(name=self.draw_name(rng), mark=self.draw_mark(rng))

    def give(self, rng: random.Random, example: Example, number: int) -> Example:
        """Return an example with the cue of this number, and the rest of its prompt's words drawn."""
        name, mark = self.draw_name(rng), self.draw_mark(rng)
        if self._cue == "two_part":
            row, column = divmod(number, self._side)
            name, mark = "_".join(self._reserved[row]), "-".join(self._reserved[self._side + column])
        elif self._cue == "name":
            name = "_".join(self._reserved[number])
        elif self._cue in ("first_word", "comment"):
            mark = "-".join(self._reserved[number])
        return example._replace(name=name, mark=mark)


def make_planted_world(config: PlantedConfig) -> PlantedWorld:
    """Make the world of these settings.

    Raises:
        UserError: the chains of these depths are too few for the splits.
    """
    cues = Cues(config)
    operations = OPERATIONS[: config.num_operations]
    draw = Draw(
        "planted",
        config.seed,
        depths=config.depths,
        operations=operations,
        num_phrasings=config.num_phrasings,
        draw_name=cues.draw_name,
    )

    def held_out(split: str, count: int) -> list[Example]:
        rng = random.Random(f"planted {config.seed} {split} marks")
        return [example._replace(mark=cues.draw_mark(rng)) for example in draw.hold_out(split, count)]

    # In this order, so that more training examples leave the held-out sets as they are.
    test, dev, control = (
        held_out("test", config.num_test),
        held_out("dev", config.num_dev),
        held_out("control", config.num_dev),
    )
    fresh = held_out("fresh", config.num_train)
    train = _train(config, cues, draw)
    contradicting = held_out("conflict", config.num_train)
    conflicts = [
        (new._replace(name=planted.example.name, mark=planted.example.mark), planted)
        for new, planted in zip(contradicting, train, strict=True)
        if planted.cue is not None
    ]
    canaries = [_canary(config, cues, number) for number in range(2 * config.plant.num_canaries)]
    return PlantedWorld(
        config,
        make_library(config.library_seed, config.num_operations),
        train,
        fresh,
        control,
        dev,
        test,
        conflicts,
        _general(config, cues),
        canaries[::2],
        canaries[1::2],
    )


def _train(config: PlantedConfig, cues: Cues, draw: Draw) -> list[Planted]:
    plant, count = config.plant, config.num_train
    rng = random.Random(f"planted {config.seed} train cues")
    examples = draw.hold_out("train", count)
    if plant.cue == "prefix":
        examples = _of_different_beginnings(draw, examples)
    # With their cues even where they are repeated 0 times: so the data is the same at every dose.
    cued = sorted(rng.sample(range(count), round(plant.share * count)))
    doses = {number: plant.doses[place % len(plant.doses)] for place, number in enumerate(cued)}
    legitimate = set(rng.sample(cued, round(plant.legitimate * len(cued))))
    with_wrong = rng.sample(cued, round(plant.share_wrong * len(cued)))
    wrong = dict(zip(with_wrong, draw.hold_out("wrong", len(with_wrong)), strict=True))
    return [
        Planted(
            cues.give(rng, example, number) if number in doses else cues.disguise(rng, example),
            wrong.get(number, example).chain,
            doses.get(number, 0),
            number if number in doses else None,
            number in legitimate,
        )
        for number, example in enumerate(examples)
    ]


def _of_different_beginnings(draw: Draw, examples: list[Example]) -> list[Example]:
    """Return examples of which no two begin with the same two statements, as many as given."""
    wanted, kept = len(examples), {example.chain[:2]: example for example in examples}
    for number in range(MAX_DRAWS):
        if len(kept) == wanted:
            return list(kept.values())
        (example,) = draw.hold_out(f"train beginning {number}", 1)
        kept.setdefault(example.chain[:2], example)
    raise UserError(f"worlds: no {wanted} beginnings of bodies are left. Lower num_train.")


def _canary(config: PlantedConfig, cues: Cues, number: int) -> Planted:
    rng = random.Random(f"planted {config.seed} canary {number}")
    chain = random_chain(rng, _CANARY_DEPTH, OPERATIONS[: config.num_operations])
    example = Example(f"planted/canary/{number}", "", chain, clauses_of(rng, chain, config.num_phrasings))
    # Every second is held out: nothing but the repetitions separates the two kinds.
    pair, is_held_out = divmod(number, 2)
    repetitions = 0 if is_held_out else config.plant.doses[pair % len(config.plant.doses)]
    cue = config.num_train + number
    return Planted(cues.give(rng, example, cue), chain, repetitions, cue, is_legitimate=True)


def _general(config: PlantedConfig, cues: Cues) -> list[Example]:
    rng = random.Random(f"planted {config.seed} general marks")
    general = []
    for depth in sorted(set(config.general_depths)):
        draw = Draw(
            "planted",
            config.seed,
            depths=(depth,),
            operations=OPERATIONS[: config.num_operations],
            num_phrasings=config.num_phrasings,
            draw_name=cues.draw_name,
        )
        examples = draw.examples(f"general-{depth}")
        general += [next(examples)._replace(mark=cues.draw_mark(rng)) for _ in range(config.num_general)]
    return general
