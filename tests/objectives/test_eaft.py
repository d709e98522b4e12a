"""Cross-entropy weighted by the normalized entropy of the likeliest tokens, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ibft.objectives.base import Tokens
from ibft.objectives.eaft import EAFTObjective, normalized_top_entropy


def make_batch(vocabulary: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, vocabulary, generator=generator, dtype=torch.float64) * 3
    return logits.requires_grad_(), torch.randint(vocabulary, (6,), generator=generator)


def loop_weight(row: list[float], top_k: int) -> float:
    likeliest = sorted(row, reverse=True)[:top_k]
    total = sum(map(math.exp, likeliest))
    probabilities = [math.exp(x) / total for x in likeliest]
    return -sum(p * math.log(p) for p in probabilities) / math.log(len(likeliest))


@pytest.mark.parametrize("top_k", [2, 20, 40, 100])
def test_equals_loops_and_the_weight_is_not_differentiated(top_k: int) -> None:
    logits, targets = make_batch()
    loss = EAFTObjective(top_k=top_k).loss(Tokens(logits, targets))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    weights = torch.tensor([loop_weight(row, top_k) for row in logits.tolist()], dtype=torch.float64)
    log_probs = logits.detach().log_softmax(-1)
    torch.testing.assert_close(loss.detach(), -weights * log_probs[range(6), targets])
    onehot = torch.nn.functional.one_hot(targets, 40)
    torch.testing.assert_close(gradient, weights[:, None] * (log_probs.exp() - onehot))


def test_weight_is_between_zero_and_one() -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.0, 0.1, 1.0, 10.0, 1000.0):
        weights = normalized_top_entropy(torch.randn(200, 50, generator=generator) * scale, 20)
        assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()


def test_certain_is_zero_and_undecided_is_one() -> None:
    certain = torch.full((1, 50), -100.0)
    certain[0, 7] = 100.0
    assert normalized_top_entropy(certain, 20).item() == 0.0
    # Twenty equally likely tokens, the others far below: with the full vocabulary it would not be 1.
    undecided = torch.cat([torch.zeros(1, 20), torch.full((1, 30), -1.0)], dim=-1)
    assert normalized_top_entropy(undecided, 20).item() == pytest.approx(1.0, abs=1e-6)


def test_confident_conflict_weighs_nothing() -> None:
    conflict = torch.zeros(1, 50)
    conflict[0, 7] = 40.0
    loss = EAFTObjective(top_k=20).loss(Tokens(conflict, torch.tensor([3])))
    assert torch.nn.functional.cross_entropy(conflict, torch.tensor([3])) > 39
    assert loss.item() < 1e-10
