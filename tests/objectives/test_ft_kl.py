"""CE + kl_weight * KL(base || model) against torch.distributions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from ibft.objectives.base import Tokens
from ibft.objectives.ft_kl import FTKLObjective


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, base_logits = torch.randn(2, 5, 11, generator=generator, dtype=torch.float64) * 3
    return logits.requires_grad_(), torch.tensor([0, 10, 3, 3, 7]), base_logits.requires_grad_()


def test_equals_torch_distributions_with_its_gradient() -> None:
    logits, targets, base_logits = make_batch()
    loss = FTKLObjective(kl_weight=0.3).loss(Tokens(logits, targets, base_logits))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    model, base = Categorical(logits=logits), Categorical(logits=base_logits.detach())
    expected = -model.log_prob(targets) + 0.3 * kl_divergence(base, model)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])
    # In closed form: p - onehot of the CE, p - p_base of the KL, which pulls towards the base.
    p, p_base = logits.softmax(-1), base_logits.softmax(-1)
    onehot = torch.nn.functional.one_hot(targets, 11)
    torch.testing.assert_close(gradient, (p - onehot + 0.3 * (p - p_base)).detach())


def test_no_gradient_reaches_the_base() -> None:
    logits, targets, base_logits = make_batch()
    FTKLObjective(kl_weight=1.0).loss(Tokens(logits, targets, base_logits)).sum().backward()
    assert base_logits.grad is None


def test_direction_is_from_the_base() -> None:
    """KL(base || model) is infinite where the model excludes what the base allows, and finite the other way round."""
    spread, peaked = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -float("inf")]])
    target = torch.tensor([0])
    assert FTKLObjective(kl_weight=1.0).loss(Tokens(peaked, target, spread)).isinf().all()
    ce = -spread.log_softmax(-1)[:, 0]
    torch.testing.assert_close(
        FTKLObjective(kl_weight=1.0).loss(Tokens(spread, target, peaked)), ce + torch.tensor(1.5).log()
    )


def test_weight_zero_is_the_cross_entropy() -> None:
    logits, targets, base_logits = make_batch()
    loss = FTKLObjective(kl_weight=0.0).loss(Tokens(logits, targets, base_logits))
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


def test_the_base_itself_pays_no_kl() -> None:
    logits, targets, _ = make_batch()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(FTKLObjective(kl_weight=100.0).loss(Tokens(logits, targets, logits)), expected)
