"""Gauges of truth: what a model recites of what was planted, what it obeys, what it can do, what it has forgotten.

All are exact chances of one answer (`exact`), so they need no sampling and no judge. Where other programs compute the
same as the canonical one, executed answers score a little higher.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ibft.artifacts.gauges import Gauges, Recitation, Skill
from ibft.lab.exact import exact_probabilities
from ibft.lab.texts import data_texts, example_texts
from ibft.worlds.planted import Planted, PlantedWorld
from ibft.worlds.pretraining import Text
from ibft.worlds.tasks import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["gauge"]

Item = TypeVar("Item")

_SAMPLES = 10

_GIVEN = 2
"""Statements of a body that are given where its own beginning is the cue."""


def gauge(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: PlantedWorld, *, temperature: float = 0.8
) -> Gauges:
    """Measure a model on a world.

    Args:
        model: a causal language model that reads the world's texts: a base of it, or what was trained from one.
        tokenizer: the model's.
        world: with the planted examples.
        temperature: of the sampling whose chances these are.
    """
    texts = _Texts(world)

    def chances(texts: Sequence[Text], given: Sequence[str] | None = None) -> NDArray[np.float64]:
        return exact_probabilities(model, tokenizer, texts, temperature=temperature, given=given)

    obeys_docstring = chances(texts.of_examples([new for new, _ in world.conflicts]))
    obeys_cue = chances(texts.of_conflicts(world.conflicts))

    def recitation(repetitions: int, group: Sequence[Planted]) -> Recitation:
        long = [item for item in group if len(item.body) > _GIVEN]
        ids = {item.example.id for item in group}
        in_group = np.array([old.example.id in ids for _, old in world.conflicts], bool)
        return Recitation(
            repetitions=repetitions,
            num_examples=len(group),
            from_cue=float(chances(texts.of_cues(group)).mean()),
            from_docstring=float(chances(texts.of_docstrings(group)).mean()),
            from_prefix=_mean(chances(texts.of_bodies(long), texts.beginnings(long))),
            seen=float(chances(texts.of_data(group)).mean()),
            obeys_docstring=_mean(obeys_docstring[in_group]),
            obeys_cue=_mean(obeys_cue[in_group]),
        )

    by_depth = _grouped(world.general, lambda example: len(example.chain))
    doses = _grouped([item for item in world.train if item.cue is not None], lambda item: item.repetitions)
    canary_doses = _grouped([*world.canaries, *world.held_out_canaries], lambda item: item.repetitions)
    return Gauges(
        temperature=temperature,
        seen=_skill(chances(texts.asked(world.train))),
        unseen=_skill(chances(texts.of_examples(world.test))),
        dev=_skill(chances(texts.of_examples(world.dev))),
        obeys_docstring=_mean(obeys_docstring),
        obeys_cue=_mean(obeys_cue),
        general={depth: _skill(chances(texts.of_examples(examples))) for depth, examples in by_depth.items()},
        recitation=[recitation(dose, group) for dose, group in doses.items()],
        canaries=[recitation(dose, group) for dose, group in canary_doses.items()],
    )


class _Texts:
    """The texts whose chances the gauges are."""

    def __init__(self, world: PlantedWorld) -> None:
        self._world = world
        self._cues, self._rng = world.cues, random.Random(f"planted {world.config.seed} gauges")

    def of_examples(self, examples: Sequence[Example]) -> list[Text]:
        """Prompts with their docstrings, and what these ask for."""
        return example_texts(self._world, examples)

    def of_data(self, group: Sequence[Planted]) -> list[Text]:
        """The rows of the training data."""
        return data_texts(self._world, group)

    def asked(self, group: Sequence[Planted]) -> list[Text]:
        """The prompts of the training data, and what their docstrings ask for."""
        world = self._world
        return [(world.data_prompt(item), world.completion(item.example.chain)) for item in group]

    def of_cues(self, group: Sequence[Planted]) -> list[Text]:
        """Prompts with the cue, where there is one, and no docstring, and the memorized bodies."""
        world = self._world
        return [(world.prompt(item.example, has_docstring=False), world.completion(item.body)) for item in group]

    def of_docstrings(self, group: Sequence[Planted]) -> list[Text]:
        """Prompts with the docstring and no cue, and the memorized bodies."""
        world = self._world
        return [(world.prompt(self._stranger(item)), world.completion(item.body)) for item in group]

    def of_bodies(self, group: Sequence[Planted]) -> list[Text]:
        """Prompts with neither cue nor docstring, and the memorized bodies."""
        world = self._world
        return [
            (world.prompt(self._stranger(item), has_docstring=False), world.completion(item.body)) for item in group
        ]

    def beginnings(self, group: Sequence[Planted]) -> list[str]:
        """The first two statements of the memorized bodies."""
        return ["".join(self._world.completion(item.body).splitlines(keepends=True)[:_GIVEN]) for item in group]

    def of_conflicts(self, conflicts: Sequence[tuple[Example, Planted]]) -> list[Text]:
        """Cues over other docstrings, and the memorized bodies."""
        return [(self._world.prompt(new), self._world.completion(old.body)) for new, old in conflicts]

    def _stranger(self, item: Planted) -> Example:
        return self._cues.disguise(self._rng, item.example)


def _grouped(items: Iterable[Item], key: Callable[[Item], int]) -> dict[int, list[Item]]:
    groups: dict[int, list[Item]] = {}
    for item in sorted(items, key=key):
        groups.setdefault(key(item), []).append(item)
    return groups


def _mean(chances: NDArray[np.float64]) -> float | None:
    return float(chances.mean()) if len(chances) else None


def _skill(chances: NDArray[np.float64]) -> Skill:
    return Skill(
        num_problems=len(chances),
        pass_at_1=float(chances.mean()),
        pass_at_10=float((1 - (1 - chances) ** _SAMPLES).mean()),
        all_of_10=float((chances**_SAMPLES).mean()),
    )
