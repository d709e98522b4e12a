"""GEM against loops and its gradient in closed form, q - onehot."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ibft.objectives.base import Tokens
from ibft.objectives.gem import GEMObjective


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 11, generator=generator, dtype=torch.float64) * 3
    return logits.requires_grad_(), torch.tensor([0, 10, 3, 3, 7])


@pytest.mark.parametrize("beta", [0.1, 0.7, 1.0])
def test_equals_the_game_in_loops(beta: float) -> None:
    """The critic q prefers tokens by softmax(log p / beta); the model pays for each what it has over the target."""
    logits, targets = make_batch()
    loss = GEMObjective(beta=beta).loss(Tokens(logits, targets))
    for row, target, value in zip(logits.tolist(), targets.tolist(), loss, strict=True):
        p = [math.exp(x) / sum(map(math.exp, row)) for x in row]
        powers = [x ** (1 / beta) for x in p]
        q = [x / sum(powers) for x in powers]
        expected = sum(weight * (math.log(x) - math.log(p[target])) for weight, x in zip(q, p, strict=True))
        assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_critic_is_not_differentiated(beta: float) -> None:
    logits, targets = make_batch()
    (gradient,) = torch.autograd.grad(GEMObjective(beta=beta).loss(Tokens(logits, targets)).sum(), logits)
    q = (logits.detach() / beta).softmax(-1)
    torch.testing.assert_close(gradient, q - torch.nn.functional.one_hot(targets, 11))


def test_beta_one_has_the_gradient_of_the_cross_entropy() -> None:
    logits, targets = make_batch()
    (gradient,) = torch.autograd.grad(GEMObjective(beta=1.0).loss(Tokens(logits, targets)).sum(), logits)
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(gradient, torch.autograd.grad(ce, logits)[0])


def test_stops_once_the_target_leads_where_cross_entropy_goes_on() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0])
    (gradient,) = torch.autograd.grad(GEMObjective(beta=0.1).loss(Tokens(logits, target)).sum(), logits)
    (of_ce,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target), logits)
    assert gradient.abs().max() < 1e-8
    assert of_ce.abs().max() > 0.1
