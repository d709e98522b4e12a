"""Tiny worlds: with an untrained model, and with one that recites what was planted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from ibft.lab.pretrain import PretrainConfig, new_model, one_thread, train_on
from ibft.lab.tokenizer import make_tokenizer
from ibft.worlds.planted import PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.plants import Plant

from ..conftest import tiny_model

TINY = PlantedConfig(num_train=24, num_dev=6, num_test=12, num_general=4)


@pytest.fixture(scope="session")
def tiny_world() -> PlantedWorld:
    return make_planted_world(TINY)


@pytest.fixture(scope="session")
def world_tokenizer(tiny_world: PlantedWorld) -> Any:
    return make_tokenizer(tiny_world.library)


@pytest.fixture
def world_model(world_tokenizer: Any) -> Any:
    """An untrained model of the small size, the same each time."""
    return new_model(PretrainConfig(), world_tokenizer).eval()


@pytest.fixture
def on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


class Trained:
    """A world, its tokenizer and a model of it."""

    def __init__(self, world: PlantedWorld, steps: int) -> None:
        self.world, self.tokenizer = world, make_tokenizer(world.library)
        self.model = tiny(self.tokenizer)
        config = PretrainConfig(planted_steps=steps, batch_size=32, learning_rate=6e-3)
        if steps:
            train_on(self.model, self.tokenizer, world, config, "planted")


def tiny(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A Llama of two layers."""
    return tiny_model(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_key_value_heads=4,
        max_position_embeddings=128,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).eval()


def small_world(num_train: int = 12, **plant: object) -> PlantedWorld:
    return make_planted_world(
        PlantedConfig(
            seed=1, num_operations=8, num_train=num_train, num_dev=2, num_test=6, num_general=3, plant=Plant(**plant)
        )
    )


@pytest.fixture(scope="session")
def reciting() -> Trained:
    """Half of the examples were repeated 250 times, half never, and two canaries 250 times."""
    return Trained(small_world(repetitions=(0, 250), num_canaries=4), steps=150)
