"""The KL against torch.distributions."""

from __future__ import annotations

import torch

from ibft.objectives.bottleneck.losses import kl_to_standard_normal


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
