"""The variational head: initialization apart from the global generator, clamping, sampling."""

from __future__ import annotations

import torch

from ibft.training.head import VariationalHead


def make_head(seed: int = 0, logvar_min: float = -4, logvar_max: float = 4) -> VariationalHead:
    return VariationalHead(32, 8, logvar_min, logvar_max, torch.Generator().manual_seed(seed))


def test_initial_weights_come_from_their_own_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = make_head(0), make_head(0), make_head(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.up.weight, again.up.weight)
    assert not torch.equal(first.up.weight, other.up.weight)


def test_initial_weights_have_the_spread_of_nn_linear() -> None:
    head = VariationalHead(400, 300, -4, 4, torch.Generator().manual_seed(0))
    expected = torch.nn.Linear(400, 300)
    for ours, theirs in ((head.mean.weight, expected.weight), (head.mean.bias, expected.bias)):
        assert abs(float((ours.std() / theirs.std()).detach()) - 1) < 0.1
        assert float(ours.detach().abs().max()) <= 1 / 20


def test_log_variance_is_clamped() -> None:
    posterior = make_head(logvar_min=-0.25, logvar_max=0.125).encode(torch.randn(4, 6, 32) * 100)
    assert posterior.logvar.min() == -0.25
    assert posterior.logvar.max() == 0.125
    assert posterior.mean.abs().max() > 1


def test_code_has_the_posterior_moments() -> None:
    head = make_head()
    with torch.no_grad():  # read the code itself through an identity
        head.up.weight.copy_(torch.eye(32)[:, :8])
        head.up.bias.zero_()
        posterior = head.encode(torch.randn(1, 32).expand(200_000, 32))
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
        code = head.decode(posterior, noise)[:, :8]
    torch.testing.assert_close(code.mean(0), posterior.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(code.var(0), posterior.logvar[0].exp(), atol=0.03, rtol=0.02)


def test_bfloat16_hidden_states_are_computed_in_float32() -> None:
    hidden = torch.randn(2, 3, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = make_head().encode(hidden)
    assert posterior.mean.dtype == torch.float32
    torch.testing.assert_close(posterior.mean, make_head().encode(hidden.float()).mean, rtol=0, atol=0)
