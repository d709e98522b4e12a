"""DFT + kl_weight * KL(base || model), token by token in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ibft.objectives.asft import ASFTObjective
from ibft.objectives.base import Tokens
from ibft.objectives.dft import dft


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, base_logits = torch.randn(2, 5, 11, generator=generator, dtype=torch.float64) * 3
    return logits.requires_grad_(), torch.tensor([0, 10, 3, 3, 7]), base_logits


@pytest.mark.parametrize("kl_weight", [0.0, 0.05, 2.0])
def test_equals_loops(kl_weight: float) -> None:
    logits, targets, base_logits = make_batch()
    loss = ASFTObjective(kl_weight=kl_weight).loss(Tokens(logits, targets, base_logits))
    for row, base_row, target, value in zip(logits.tolist(), base_logits.tolist(), targets.tolist(), loss, strict=True):
        p, p_base = ([math.exp(x) / sum(map(math.exp, line)) for x in line] for line in (row, base_row))
        kl = sum(b * math.log(b / q) for b, q in zip(p_base, p, strict=True))
        assert value.item() == pytest.approx(-p[target] * math.log(p[target]) + kl_weight * kl, rel=1e-10)


@pytest.mark.parametrize("kl_weight", [0.0, 0.05, 2.0])
def test_probability_is_not_differentiated(kl_weight: float) -> None:
    """The gradient is p(y) * (p - onehot) + kl_weight * (p - p_base); with p(y) differentiated it would be another."""
    logits, targets, base_logits = make_batch()
    ASFTObjective(kl_weight=kl_weight).loss(Tokens(logits, targets, base_logits)).sum().backward()
    p, p_base = logits.detach().softmax(-1), base_logits.softmax(-1)
    onehot = torch.nn.functional.one_hot(targets, 11)
    p_target = p.gather(1, targets[:, None])
    torch.testing.assert_close(logits.grad, p_target * (p - onehot) + kl_weight * (p - p_base))


def test_dft_has_the_gradient_of_minus_the_probability() -> None:
    logits, targets, _ = make_batch()
    ce = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (gradient,) = torch.autograd.grad(dft(ce).sum(), logits, retain_graph=True)
    probability = logits.softmax(-1).gather(1, targets[:, None]).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(-probability, logits)[0])
    assert torch.equal(dft(torch.zeros(2)), torch.zeros(2))


def test_no_gradient_reaches_the_base() -> None:
    logits, targets, base_logits = make_batch()
    base_logits.requires_grad_()
    ASFTObjective(kl_weight=1.0).loss(Tokens(logits, targets, base_logits)).sum().backward()
    assert base_logits.grad is None
