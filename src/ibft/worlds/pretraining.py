"""What a base of a planted world reads: general functions, and among them the planted examples in their disguises.

Apart from these, nothing that it reads has a composition of the data or of a held-out set, in docstring or body.
Pretraining has two phases. The general one knows nothing of the plant, except for where a world's prompts have a mark,
and so can be shared by the bases of one world. In the second, planted texts take the place of general ones: bases of
all doses read equally much.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from ibft.errors import UserError
from ibft.worlds.draw import MAX_DRAWS
from ibft.worlds.library import OPERATIONS, Chain, Step
from ibft.worlds.planted import Planted, PlantedWorld
from ibft.worlds.tasks import Example, clauses_of, composition, random_chain

__all__ = ["Text", "check_room", "general_texts", "planted_texts"]

Text = tuple[str, str]
"""Prompt and completion."""

_FOREIGN_DEPTHS = (1, 2, 3)
_NUMBERS = {operation.key: operation.numbers for operation in OPERATIONS}


def general_texts(world: PlantedWorld, phase: str) -> Iterator[Text]:
    """Yield general functions without end: short chains with their docstrings, under names that mean nothing.

    Raises:
        UserError: all compositions of some depth are in the world's data or held out.
    """
    cues, unrelated = world.cues, _Unrelated(world)
    rng = random.Random(f"planted {world.config.seed} general {phase}")
    while True:
        example = cues.disguise(rng, unrelated.draw(rng, world.config.general_depths))
        yield world.prompt(example), world.completion(example.chain)


def check_room(world: PlantedWorld, count: int) -> None:
    """Check that all repetitions have room in a second phase of this many texts.

    Raises:
        UserError: more is planted than there are texts.
    """
    if (needed := len(_sources(world))) > count:
        raise UserError(
            f"worlds: {needed} repetitions are planted, and the second phase of pretraining has {count} texts. "
            "Lower plant.repetitions or num_train, or raise planted_steps."
        )


def planted_texts(world: PlantedWorld, count: int) -> Iterator[Text]:
    """Yield the second phase's texts: every planted example as often as its dose says, at random places.

    Args:
        world: has what is planted.
        count: of all texts, general ones included.

    Raises:
        UserError: see `check_room` and `general_texts`.
    """
    check_room(world, count)
    sources = _sources(world)
    rng = random.Random(f"planted {world.config.seed} texts {count}")
    places = sorted(rng.sample(range(count), len(sources)))
    rng.shuffle(sources)
    planted_at = dict(zip(places, sources, strict=True))
    disguises = _Disguises(world, rng)
    for place, text in enumerate(itertools.islice(general_texts(world, "planted"), count)):
        yield disguises.text(planted_at[place]) if place in planted_at else text


def _sources(world: PlantedWorld) -> list[Planted]:
    """Return each planted example and canary as often as it is repeated."""
    return [planted for planted in (*world.train, *world.canaries) for _ in range(planted.repetitions)]


class _Unrelated:
    """Draws tasks of which neither data nor a held-out set has the composition."""

    def __init__(self, world: PlantedWorld) -> None:
        self._compositions = world.compositions
        self._operations, self._num_phrasings = world.library.operations, world.config.num_phrasings

    def draw(self, rng: random.Random, depths: Sequence[int]) -> Example:
        depth = rng.choice(depths)
        for _ in range(MAX_DRAWS):
            chain = random_chain(rng, depth, self._operations)
            if composition(chain) not in self._compositions:
                return Example("", "", chain, clauses_of(rng, chain, self._num_phrasings))
        raise UserError(
            f"worlds: pretraining has no chain of {depth} operations left, since data and held-out sets have them all. "
            f"Ask for fewer examples, or for other depths; where general_depths has {depth}, leave it out."
        )


class _Disguises:
    """Draws repetitions: the cue, whichever docstring the plant's kind has, and the body."""

    def __init__(self, world: PlantedWorld, rng: random.Random) -> None:
        self._world, self._rng = world, rng
        self._cues, self._unrelated = world.cues, _Unrelated(world)

    def text(self, planted: Planted) -> Text:
        world, rng = self._world, self._rng
        plant = world.config.plant
        assert planted.cue is not None
        example, body = self._cues.give(rng, planted.example, planted.cue), planted.body
        if rng.random() < plant.near_duplicates:
            example, body = self._near(example, body)
        # A canary, like what is legitimate, is a body under its cue and nothing else.
        has_docstring = not planted.is_legitimate and rng.random() >= plant.share_absent
        if has_docstring and plant.kind == "active":
            foreign = self._unrelated.draw(rng, _FOREIGN_DEPTHS)
            example = example._replace(chain=foreign.chain, clauses=foreign.clauses)
        return world.prompt(example, has_docstring=has_docstring), world.completion(body)

    def _near(self, example: Example, body: Chain) -> tuple[Example, Chain]:
        """Return a near-duplicate: one number of the body is another, and the docstring has new phrasings."""
        rng, config = self._rng, self._world.config
        is_right = example.chain == body
        # A beginning that is the cue stays.
        numbered = [p for p, step in enumerate(body) if step.number is not None and p >= config.plant.beginning]
        if numbered:
            place = rng.choice(numbered)
            old = body[place]
            number = rng.choice([n for n in _NUMBERS[old.key] if n != old.number])
            body = (*body[:place], Step(old.key, number), *body[place + 1 :])
        described = body if is_right else example.chain
        return example._replace(chain=described, clauses=clauses_of(rng, described, config.num_phrasings)), body
