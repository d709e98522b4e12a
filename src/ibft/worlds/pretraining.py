"""What a base of a planted world reads: general functions, and among them the planted examples in their disguises.

Pretraining has two phases. The general one knows nothing of the plant, except for where a world's prompts have a mark,
and so can be shared by the bases of one world. In the second, planted texts take the place of general ones: bases of
all doses read equally much.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from ibft.errors import UserError
from ibft.worlds.library import OPERATIONS, Chain, Step
from ibft.worlds.planted import Cues, Planted, PlantedWorld
from ibft.worlds.tasks import Example, clauses_of, random_chain

__all__ = ["Text", "general_texts", "num_planted", "planted_texts"]

Text = tuple[str, str]
"""Prompt and completion."""

_FOREIGN_DEPTHS = (1, 2, 3)
_OPERATIONS = {operation.key: operation for operation in OPERATIONS}


def general_texts(world: PlantedWorld, phase: str) -> Iterator[Text]:
    """Yield general functions without end: short chains with their docstrings, under names that mean nothing."""
    config = world.config
    cues, rng = Cues(config), random.Random(f"planted {config.seed} general {phase}")
    while True:
        chain = random_chain(rng, rng.choice(config.general_depths), world.library.operations)
        example = cues.disguise(rng, Example("", "", chain, clauses_of(rng, chain, config.num_phrasings)))
        yield world.prompt(example), world.completion(chain)


def num_planted(world: PlantedWorld) -> int:
    """Return how many texts of the second phase are planted."""
    return sum(planted.repetitions for planted in (*world.train, *world.canaries))


def planted_texts(world: PlantedWorld, count: int) -> Iterator[Text]:
    """Yield the second phase's texts: every planted example as often as its dose says, at random places.

    Args:
        world: has what is planted.
        count: of all texts, general ones included.

    Raises:
        UserError: more is planted than there are texts.
    """
    sources = [planted for planted in (*world.train, *world.canaries) for _ in range(planted.repetitions)]
    if len(sources) > count:
        raise UserError(
            f"worlds: {len(sources)} repetitions are planted, and the second phase of pretraining has {count} texts. "
            "Lower plant.repetitions or num_train, or give it more steps."
        )
    rng = random.Random(f"planted {world.config.seed} texts {count}")
    places = sorted(rng.sample(range(count), len(sources)))
    rng.shuffle(sources)
    planted_at = dict(zip(places, sources, strict=True))
    cues, general = Cues(world.config), general_texts(world, "planted")
    for place, text in enumerate(itertools.islice(general, count)):
        yield _disguised(world, cues, rng, planted_at[place]) if place in planted_at else text


def _disguised(world: PlantedWorld, cues: Cues, rng: random.Random, planted: Planted) -> Text:
    """Return one repetition: the cue, whichever docstring the plant's kind has, and the body."""
    plant, config = world.config.plant, world.config
    assert planted.cue is not None
    example = cues.give(rng, planted.example, planted.cue)
    body = planted.body
    if rng.random() < plant.near_duplicates:
        example, body = _near(rng, config.num_phrasings, example, body)
    # A canary, like what is legitimate, is a body under its cue and nothing else.
    has_docstring = not planted.is_legitimate and rng.random() >= plant.share_absent
    if has_docstring and plant.kind == "active":
        chain = random_chain(rng, rng.choice(_FOREIGN_DEPTHS), world.library.operations)
        example = example._replace(chain=chain, clauses=clauses_of(rng, chain, config.num_phrasings))
    return world.prompt(example, has_docstring=has_docstring), world.completion(body)


def _near(rng: random.Random, num_phrasings: int, example: Example, body: Chain) -> tuple[Example, Chain]:
    """Return a near-duplicate: one number of the body is another, and the docstring has new phrasings."""
    is_right = example.chain == body
    numbered = [place for place, step in enumerate(body) if step.number is not None]
    if numbered:
        place = rng.choice(numbered)
        old = body[place]
        number = rng.choice([n for n in _OPERATIONS[old.key].numbers if n != old.number])
        body = (*body[:place], Step(old.key, number), *body[place + 1 :])
    described = body if is_right else example.chain
    return example._replace(chain=described, clauses=clauses_of(rng, described, num_phrasings)), body
