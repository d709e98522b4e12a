"""A tiny world with an untrained model, for tests that take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ibft.lab.pretrain import PretrainConfig, new_model, one_thread
from ibft.lab.tokenizer import make_tokenizer
from ibft.worlds.planted import PlantedConfig, PlantedWorld, make_planted_world

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
