"""The KL against torch.distributions, the chunked cross-entropy against the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ibft.bottleneck import losses
from ibft.bottleneck.losses import cross_entropy_sum, kl_to_standard_normal, labelled_positions


def test_kl_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) * 4
    logvar = torch.rand(3, 5, 7, generator=generator, dtype=torch.float64) * 8 - 4
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (logvar / 2).exp()),
        torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    )
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), expected, rtol=1e-12, atol=1e-12)


def test_kl_is_zero_at_the_prior_and_positive_elsewhere() -> None:
    zero = torch.zeros(4)
    assert kl_to_standard_normal(zero, zero).tolist() == [0.0] * 4
    assert (kl_to_standard_normal(zero + 0.1, zero) > 0).all()
    assert (kl_to_standard_normal(zero, zero - 0.1) > 0).all()


def test_labelled_positions_predict_the_next_token() -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    labels = torch.tensor([[-100, -100, 5, 6], [7, 8, -100, -100]])
    states, targets = labelled_positions(hidden, labels)
    # Row 0: positions 1 and 2 predict 5 and 6. Row 1: position 0 predicts 8; token 7 has no predecessor.
    assert states.flatten().tolist() == [1.0, 2.0, 4.0]
    assert targets.tolist() == [5, 6, 8]


def _head(frozen: bool, bias: bool, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(1)
    head = nn.Linear(16, 50, bias=bias, dtype=dtype)
    return head.requires_grad_(not frozen)


@pytest.mark.parametrize("num_positions", [1, 7, 8, 20])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_chunked_cross_entropy_equals_plain(
    frozen: bool, bias: bool, num_positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK", 8)
    head = _head(frozen, bias)
    hidden = (torch.randn(num_positions, 16, generator=torch.Generator().manual_seed(2)) * 3).requires_grad_()
    targets = torch.randint(50, (num_positions,), generator=torch.Generator().manual_seed(3))
    loss = cross_entropy_sum(hidden, targets, head)
    (loss * 0.7).backward()

    exact_hidden = hidden.detach().double().requires_grad_()
    exact_head = _head(frozen, bias).double()
    log_probs = torch.log_softmax(exact_head(exact_hidden), dim=-1)
    expected = -log_probs[torch.arange(num_positions), targets].sum()
    (expected * 0.7).backward()

    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad, exact_hidden.grad, rtol=1e-5, atol=1e-6, check_dtype=False)
    if frozen:
        assert head.weight.grad is None
    else:
        torch.testing.assert_close(head.weight.grad, exact_head.weight.grad, rtol=1e-5, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("frozen", [True, False])
def test_no_labelled_position_gives_zero_and_zero_gradient(frozen: bool) -> None:
    hidden_BTH = torch.randn(2, 3, 16, requires_grad=True)
    states, targets = labelled_positions(hidden_BTH, torch.full((2, 3), -100))
    loss = cross_entropy_sum(states, targets, _head(frozen, bias=False))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden_BTH.grad is not None
    assert hidden_BTH.grad.abs().sum() == 0


def test_bfloat16_head_reduces_in_float32() -> None:
    head = _head(frozen=True, bias=False, dtype=torch.bfloat16)
    hidden = torch.randn(9, 16, requires_grad=True)
    targets = torch.arange(9)
    loss = cross_entropy_sum(hidden, targets, head)
    loss.backward()
    logits = head(hidden.detach().bfloat16()).double()
    expected = nn.functional.cross_entropy(logits, targets, reduction="sum")
    assert loss.dtype == torch.float32
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)


def test_without_gradient_nothing_is_kept() -> None:
    hidden = torch.randn(9, 16, requires_grad=True)
    with torch.no_grad():
        assert not cross_entropy_sum(hidden, torch.arange(9), _head(frozen=True, bias=False)).requires_grad
