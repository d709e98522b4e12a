"""The information-bottleneck objective (arXiv 2510.16022, section 5)."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

__all__ = ["bottleneck_loss", "total_loss"]

Value = TypeVar("Value", float, Tensor)


def bottleneck_loss(kl: Value, ce_bottleneck: Value, beta: float) -> Value:
    """KL + beta * CE through the bottleneck: compress the hidden state, but keep what predicts the response.

    `form: paper` reduces as the reference code does (OPTML-Group/MemorizationBarrier at 160d19d,
    util/ModelWithIB.py):

    - kl: mean over *all* positions of the batch, prompt and padding included, and over the D dimensions, so it
      does not grow with D. Deviation: the reference pads every example to 2,048 tokens, so its mean also runs
      over that padding; here a batch is padded to its longest example.
    - ce_bottleneck: cross-entropy of `lm_head(h_bar)`, without the model's final norm, over the tokens that
      the plain loss counts.

    Args:
        kl: nats a position and dimension.
        ce_bottleneck: nats a labelled token.
        beta: weight of `ce_bottleneck` inside the bottleneck's loss.
    """
    return kl + beta * ce_bottleneck


def total_loss(ce: Value, kl: Value, ce_bottleneck: Value, alpha: float, beta: float) -> Value:
    """CE + alpha * (KL + beta * CE through the bottleneck); alpha = 0 is plain fine-tuning."""
    return ce + alpha * bottleneck_loss(kl, ce_bottleneck, beta)
