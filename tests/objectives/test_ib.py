"""The objective's algebra; tests/training/test_trainer.py compares the whole loss with a float64 reference."""

from __future__ import annotations

import torch

from ibft.objectives.ib import bottleneck_loss, total_loss


def test_weights_multiply_the_terms_they_are_named_after() -> None:
    assert bottleneck_loss(3.0, 50.0, beta=0.02) == 4.0
    assert total_loss(1.0, 3.0, 50.0, alpha=0.5, beta=0.02) == 3.0


def test_alpha_zero_is_the_plain_loss_exactly() -> None:
    ce = torch.tensor(1.2345678)
    assert torch.equal(total_loss(ce, torch.tensor(9.0), torch.tensor(5.0), alpha=0.0, beta=1.0), ce)


def test_gradients_carry_the_weights() -> None:
    ce, kl, ce_bottleneck = (torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 3.0))
    total_loss(ce, kl, ce_bottleneck, alpha=0.25, beta=0.5).backward()
    assert [term.grad.item() for term in (ce, kl, ce_bottleneck) if term.grad is not None] == [1.0, 0.25, 0.125]
