"""Cross-entropy without the tokens that surprise the base model, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ibft.objectives.base import Tokens
from ibft.objectives.stm import STMObjective


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, base_logits = torch.randn(2, 30, 5, generator=generator, dtype=torch.float64) * 2
    return logits.requires_grad_(), torch.randint(5, (30,), generator=generator), base_logits


@pytest.mark.parametrize("max_perplexity", [1.5, 2.5, 20.0])
def test_equals_loops_with_its_gradient(max_perplexity: float) -> None:
    logits, targets, base_logits = make_batch()
    loss = STMObjective(max_perplexity=max_perplexity).loss(Tokens(logits, targets, base_logits))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    num_masked = 0
    for row, base_row, target, value, slope in zip(
        logits.tolist(), base_logits.tolist(), targets.tolist(), loss.tolist(), gradient.tolist(), strict=True
    ):
        p = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        perplexity = sum(map(math.exp, base_row)) / math.exp(base_row[target])
        if perplexity > max_perplexity:
            num_masked += 1
            assert value == 0.0
            assert slope == [0.0] * 5
        else:
            assert value == pytest.approx(-math.log(p[target]), rel=1e-10)
            assert slope == pytest.approx([q - (index == target) for index, q in enumerate(p)], rel=1e-9)
    assert 0 < num_masked < 30


def test_huge_threshold_is_the_cross_entropy() -> None:
    logits, targets, base_logits = make_batch()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.equal(STMObjective(max_perplexity=1e12).loss(Tokens(logits, targets, base_logits)), expected)


def test_the_models_own_surprise_does_not_mask() -> None:
    surprised, sure = torch.tensor([[0.0, 9.0]]), torch.tensor([[9.0, 0.0]])
    target = torch.tensor([0])
    assert STMObjective(max_perplexity=2.5).loss(Tokens(surprised, target, sure)) > 8
    assert STMObjective(max_perplexity=2.5).loss(Tokens(sure, target, surprised)) == 0


def test_a_masked_token_with_no_probability_gives_no_nan() -> None:
    logits = torch.tensor([[0.0, float("-inf")]], requires_grad=True)
    loss = STMObjective(max_perplexity=2.5).loss(Tokens(logits, torch.tensor([1]), torch.tensor([[0.0, -50.0]])))
    assert loss.item() == 0.0
