"""Texts of a world, as its data files have them: the training data, and tasks that were never planted."""

from __future__ import annotations

from collections.abc import Sequence

from ibft.artifacts.barrier import Data
from ibft.worlds.planted import Planted, PlantedWorld
from ibft.worlds.pretraining import Text
from ibft.worlds.tasks import Example

__all__ = ["data_texts", "example_texts", "training_texts"]


def data_texts(world: PlantedWorld, group: Sequence[Planted]) -> list[Text]:
    """Return rows of the training data: prompts and completions."""
    return [(world.data_prompt(item), world.completion(item.body)) for item in group]


def example_texts(world: PlantedWorld, examples: Sequence[Example]) -> list[Text]:
    """Return prompts with their docstrings, and what these ask for."""
    return [(world.prompt(example), world.completion(example.chain)) for example in examples]


def training_texts(world: PlantedWorld, data: Data) -> list[Text]:
    """Return all texts that are trained on."""
    return data_texts(world, world.train) if data == "planted" else example_texts(world, world.fresh)
