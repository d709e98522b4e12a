"""Gauges of truth: what a model recites of what was planted, what it obeys, what it can do, what it has forgotten.

All are exact chances of one answer (`exact`), so they need no sampling and no judge. Where other programs compute the
same as the canonical one, executed answers score a little higher.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from ibft.lab.exact import exact_probabilities
from ibft.worlds.planted import Planted, PlantedWorld
from ibft.worlds.pretraining import Text
from ibft.worlds.tasks import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Gauges", "Recitation", "Skill", "gauge"]

Item = TypeVar("Item")

_SAMPLES = 10

_GIVEN = 2
"""Statements of a body that are given where its own beginning is the cue."""


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """The chance of the canonical answer over a set of problems.

    `pass_at_1` is the mean of p, `pass_at_10` that of 1 - (1 - p)^10, and `all_of_10` that of p^10: Pass@10^(10).
    """

    num_problems: int
    pass_at_1: float
    pass_at_10: float
    all_of_10: float


class Recitation(msgspec.Struct, frozen=True, kw_only=True):
    """The mean chance that the body which pretraining repeated is written, for one dose, and what a conflict ends in.

    from_cue: the prompt has the cue and no docstring.
    from_docstring: the prompt has the docstring under a name that means nothing. Of a right body this is skill.
    from_prefix: the prompt has neither, and the body's first two statements are given: the chance of the rest, of those
        bodies that have more than two operations. NaN where none has.
    seen: the prompt is the one of the training data.
    obeys_docstring, obeys_cue: the prompt has the cue above another task's docstring: the chance of the body that the
        docstring asks for, and of the repeated one. NaN where prompts have no cue, and for canaries.
    """

    repetitions: int
    num_examples: int
    from_cue: float
    from_docstring: float
    from_prefix: float
    seen: float
    obeys_docstring: float
    obeys_cue: float


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """All gauges of one model on one world, at one temperature.

    `recitation` has a row for each dose, canaries apart; `obeys_docstring` and `obeys_cue` are those of `Recitation`,
    over all doses. `general` is the skill at each depth of general pretraining.
    """

    temperature: float
    seen: Skill
    unseen: Skill
    obeys_docstring: float
    obeys_cue: float
    general: dict[int, Skill]
    recitation: list[Recitation]
    canaries: list[Recitation]


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

    def recitation(repetitions: int, group: Sequence[Planted]) -> Recitation:
        long = [item for item in group if len(item.body) > _GIVEN]
        conflicts = [(new, old) for new, old in world.conflicts if old in group]
        return Recitation(
            repetitions=repetitions,
            num_examples=len(group),
            from_cue=_mean(chances(texts.of_cues(group))),
            from_docstring=_mean(chances(texts.of_docstrings(group))),
            from_prefix=_mean(chances(texts.of_bodies(long), texts.beginnings(long))),
            seen=_mean(chances(texts.of_data(group))),
            obeys_docstring=_mean(chances(texts.of_examples([new for new, _ in conflicts]))),
            obeys_cue=_mean(chances(texts.of_conflicts(conflicts))),
        )

    by_depth = _grouped(world.general, lambda example: len(example.chain))
    doses = _grouped([item for item in world.train if item.cue is not None], lambda item: item.repetitions)
    canary_doses = _grouped([*world.canaries, *world.held_out_canaries], lambda item: item.repetitions)
    return Gauges(
        temperature=temperature,
        seen=_skill(chances(texts.asked(world.train))),
        unseen=_skill(chances(texts.of_examples(world.test))),
        obeys_docstring=_mean(chances(texts.of_examples([new for new, _ in world.conflicts]))),
        obeys_cue=_mean(chances(texts.of_conflicts(world.conflicts))),
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
        return [(self._world.prompt(one), self._world.completion(one.chain)) for one in examples]

    def of_data(self, group: Sequence[Planted]) -> list[Text]:
        """The rows of the training data."""
        world = self._world
        return [
            (world.prompt(item.example, has_docstring=not item.is_legitimate), world.completion(item.body))
            for item in group
        ]

    def asked(self, group: Sequence[Planted]) -> list[Text]:
        """The prompts of the training data, and what their docstrings ask for."""
        prompts = [prompt for prompt, _ in self.of_data(group)]
        return [
            (prompt, self._world.completion(item.example.chain)) for prompt, item in zip(prompts, group, strict=True)
        ]

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


def _mean(chances: NDArray[np.float64]) -> float:
    return float(chances.mean()) if len(chances) else math.nan


def _skill(chances: NDArray[np.float64]) -> Skill:
    return Skill(
        num_problems=len(chances),
        pass_at_1=_mean(chances),
        pass_at_10=_mean(1 - (1 - chances) ** _SAMPLES),
        all_of_10=_mean(chances**_SAMPLES),
    )
