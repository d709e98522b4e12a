"""Fine-tuning in the lab: the project's trainer, and what it makes of a world's texts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ibft.artifacts.rows import Pair
from ibft.errors import UserError
from ibft.lab.batches import batch_of, split_texts
from ibft.lab.finetune import FinetuneConfig, Schedule, finetune
from ibft.lab.texts import training_texts
from ibft.objectives.ft import FTObjective
from ibft.objectives.gem import GEMObjective
from ibft.objectives.ib import IBObjective
from ibft.run.sections import LoraConfig
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_pair
from ibft.worlds.planted import PlantedWorld

pytestmark = pytest.mark.usefixtures("on_one_thread")

QUICK = FinetuneConfig(steps=4, batch_size=8)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def plain_loop(model: Any, tokenizer: Any, texts: Any, *, steps: int, rate: float, schedule: Schedule) -> float:
    """All texts in each step: so the order of the data has no part in it. Returns the mean loss of all steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    ids_BT, labels_BT = batch_of(*split_texts(tokenizer, texts), tokenizer)
    losses = []
    for step in range(steps):
        factor = min(1.0, step / 10)
        if schedule == "linear" and step > 10:
            factor = (steps - step) / (steps - 10)
        optimizer.param_groups[0]["lr"] = rate * factor
        logits_BTV = model(input_ids=ids_BT).logits
        loss = nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_tokens_and_labels_are_those_of_the_train_stage(tiny_world: PlantedWorld, world_tokenizer: Any) -> None:
    codec = TextCodec(world_tokenizer, "plain")
    for data in ("planted", "fresh"):
        texts = training_texts(tiny_world, data)
        for prompt, completion, text in zip(*split_texts(world_tokenizer, texts), texts, strict=True):
            encoded = encode_pair(codec, Pair(id="x", prompt=text[0], completion=text[1]))
            assert encoded.input_ids == [*prompt, *completion]
            assert encoded.trained == ((len(prompt), len(prompt) + len(completion)),)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_it_is_a_plain_loop_of_adamw(
    schedule: Schedule, tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    texts = training_texts(tiny_world, "planted")
    expected = copy.deepcopy(world_model)
    loss = plain_loop(expected, world_tokenizer, texts, steps=20, rate=1e-3, schedule=schedule)
    config = FinetuneConfig(steps=20, batch_size=len(texts), learning_rate=1e-3, schedule=schedule)
    before = weights(world_model)
    trained = finetune(world_model, world_tokenizer, texts, FTObjective(), config)
    assert trained.loss == pytest.approx(loss, abs=1e-4)
    assert not trained.model.training
    for name, parameter in expected.named_parameters():
        found = weights(trained.model)[name]
        moved = (parameter - before[name]).norm()
        assert moved > 0
        assert (found - parameter).norm() < 0.01 * moved, name


def test_the_same_arguments_give_the_same_weights_bit_for_bit(
    tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    texts = training_texts(tiny_world, "planted")

    def train(seed: int, lora: LoraConfig | None = None) -> dict[str, torch.Tensor]:
        config = FinetuneConfig(steps=4, batch_size=8, seed=seed, lora=lora)
        return weights(finetune(copy.deepcopy(world_model), world_tokenizer, texts, FTObjective(), config).model)

    for lora in (None, LoraConfig(rank=4)):
        first, again, other = (train(seed, lora) for seed in (0, 0, 1))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


def test_lora_is_merged_and_reaches_the_linear_layers_alone(
    tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    before = weights(world_model)
    config = FinetuneConfig(steps=6, batch_size=8, learning_rate=1e-2, lora=LoraConfig(rank=4, dropout=0.0))
    trained = finetune(world_model, world_tokenizer, training_texts(tiny_world, "fresh"), FTObjective(), config).model
    after = weights(trained)
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]) != name.endswith("proj.weight"), name


@pytest.mark.parametrize("objective", [IBObjective(layer=0.5, bottleneck_dim=8), GEMObjective()])
def test_other_objectives_train_otherwise_and_leave_nothing_in_the_model(
    objective: Any, tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any
) -> None:
    texts = training_texts(tiny_world, "planted")
    plain = finetune(copy.deepcopy(world_model), world_tokenizer, texts, FTObjective(), QUICK)
    trained = finetune(world_model, world_tokenizer, texts, objective, QUICK)
    assert weights(trained.model).keys() == weights(plain.model).keys()
    assert not torch.equal(trained.model.lm_head.weight, plain.model.lm_head.weight)
    # The cross-entropy alone: with the bottleneck's penalty it would be far larger.
    assert trained.loss == pytest.approx(plain.loss, abs=0.5)


def test_what_needs_a_scan_is_refused(tiny_world: PlantedWorld, world_tokenizer: Any, world_model: Any) -> None:
    with pytest.raises(UserError, match="weighs examples by a scan's scores"):
        finetune(
            world_model,
            world_tokenizer,
            training_texts(tiny_world, "planted"),
            IBObjective(form="controlled", adaptive=True),
            QUICK,
        )
