"""The cosine of two sets' gradients, against one computed text by text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ibft.lab.batches import split_texts
from ibft.lab.gradients import compare_gradients, mean_gradient
from ibft.lab.texts import example_texts, training_texts
from ibft.worlds.planted import PlantedWorld
from ibft.worlds.pretraining import Text


def by_hand(model: Any, tokenizer: Any, texts: list[Text]) -> Tensor:
    """One text at a time, through the model's own logits, and its tokens one by one."""
    model.zero_grad()
    total, num_tokens = torch.zeros((), dtype=torch.float64), 0
    for prompt, completion in zip(*split_texts(tokenizer, texts), strict=True):
        log_p = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].log_softmax(-1)
        for place, token in enumerate(completion, start=len(prompt)):
            total = total - log_p[place - 1, token]
            num_tokens += 1
    (total / num_tokens).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return gradient


def test_it_is_the_gradient_of_the_mean_over_tokens(
    tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    model = world_model.double()
    ours, theirs = training_texts(tiny_world, "planted"), example_texts(tiny_world, tiny_world.dev)
    a, b = by_hand(model, world_tokenizer, ours), by_hand(model, world_tokenizer, theirs)
    found = compare_gradients(model, world_tokenizer, ours, theirs)
    assert found.norm == pytest.approx(float(a.norm()), rel=1e-6)
    assert found.held_out_norm == pytest.approx(float(b.norm()), rel=1e-6)
    assert found.cosine == pytest.approx(float(a @ b / (a.norm() * b.norm())), rel=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_batches_have_the_gradient_of_one(
    tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    model, texts = world_model.double(), training_texts(tiny_world, "planted")
    many = [*texts, *texts, *texts[:5]]  # more than a batch has
    hand = by_hand(model, world_tokenizer, many)
    found = torch.cat([part.flatten() for part in mean_gradient(model, world_tokenizer, many)])
    assert (found - hand).norm() < 1e-6 * hand.norm()
    same = compare_gradients(model, world_tokenizer, texts, texts)
    assert same.cosine == pytest.approx(1.0)


def test_without_a_gradient_there_is_no_cosine(
    tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    texts = example_texts(tiny_world, tiny_world.dev)
    with torch.no_grad():
        for parameter in world_model.parameters():
            parameter.fill_(0.0)
        # All logits are 0, and so is what the head sees.
    found = compare_gradients(world_model, world_tokenizer, texts, texts)
    assert (found.cosine, found.norm) == (None, 0.0)
