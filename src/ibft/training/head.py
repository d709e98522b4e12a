"""The variational head: hidden state to Gaussian code, and back (arXiv 2510.16022, section 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ibft.objectives.bottleneck.terms import Posterior

__all__ = ["VariationalHead"]


class VariationalHead(nn.Module):
    """mean, logvar: Linear(H -> D); reconstruction h_bar: Linear(D -> H).

    The architecture and initialization of the reference code (OPTML-Group/MemorizationBarrier at 160d19d,
    util/ModelWithIB.py). Deviation: the parameters are float32 and the head computes in float32 whatever the
    model's dtype.

    Args:
        hidden_size: H.
        bottleneck_dim: D.
        logvar_min: lower clamp of the log-variance. Beyond a clamp its gradient is zero.
        logvar_max: upper clamp.
        generator: draws the initial weights, so that the global generator stays where it was.
    """

    def __init__(
        self, hidden_size: int, bottleneck_dim: int, logvar_min: float, logvar_max: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.logvar_min, self.logvar_max = logvar_min, logvar_max
        self.mean = _linear(hidden_size, bottleneck_dim, generator)
        self.logvar = _linear(hidden_size, bottleneck_dim, generator)
        self.up = _linear(bottleneck_dim, hidden_size, generator)

    def encode(self, hidden: Tensor) -> Posterior:
        """Return the posterior of each position; hidden (..., H) of any float dtype."""
        # float32: mean² overflows the precision of bfloat16 where h has massive activations.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            logvar = self.logvar(hidden).clamp(self.logvar_min, self.logvar_max)
            return Posterior(self.mean(hidden), logvar)

    def decode(self, posterior: Posterior, noise: Tensor) -> Tensor:
        """Return up(mean + exp(logvar / 2) * noise), (..., H) float32; noise is standard normal, (..., D)."""
        with torch.autocast(noise.device.type, enabled=False):
            reconstruction: Tensor = self.up(posterior.mean + (posterior.logvar / 2).exp() * noise)
            return reconstruction


def _linear(num_inputs: int, num_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Make an `nn.Linear` with its usual initial distribution, uniform in ±1/sqrt(inputs), drawn from `generator`."""
    layer = nn.Linear(num_inputs, num_outputs, device="meta").to_empty(device="cpu")  # draws nothing yet
    bound = 1 / math.sqrt(num_inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
