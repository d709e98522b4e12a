"""The information-bottleneck objective (arXiv 2510.16022, section 5): the loss from its terms, and its schedules."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

__all__ = ["penalty", "ramp", "replaced_share"]

Value = TypeVar("Value", float, Tensor)


def penalty(kl: Value, ce_bottleneck: Value, alpha: float, ce_weight: float) -> Value:
    """What is added to the cross-entropy: alpha * KL + ce_weight * CE through the bottleneck.

    Compress the hidden state, but keep what predicts the response. In the method's notation,
    alpha * (KL + beta * CE), `ce_weight` is alpha * beta, and stays so where a controller moves the KL's weight: if
    both moved together, their ratio, and with it the code that the head settles on, would not change.

    How the two are reduced depends on the form:

    - `paper`, as the reference code does (OPTML-Group/MemorizationBarrier at 160d19d, util/ModelWithIB.py): the KL
      is a mean over *all* positions of the batch, prompt and padding included, and over the D dimensions, so it does
      not grow with D. Deviation: the reference pads every example to 2,048 tokens, so its mean also runs over that
      padding; here a batch is padded to its longest example, or not at all. The cross-entropy is that of
      `lm_head(h_bar)`, without the model's final norm.
    - `corrected`, `controlled`, `in_path`: the KL is a mean over labelled tokens, as both cross-entropies are.
    - `entropy`: the matrix-based entropy stands in the KL's place, and there is no second cross-entropy.

    Args:
        kl: nats, reduced as above.
        ce_bottleneck: nats a labelled token.
        alpha: current weight of the KL.
        ce_weight: weight of `ce_bottleneck`.
    """
    return alpha * kl + ce_weight * ce_bottleneck


def ramp(step: int, num_steps: int, share: float) -> float:
    """The rise from 0 to 1 over the first `share` of `num_steps` optimizer steps; step counts from 0."""
    return min(1.0, (step + 1) / (share * num_steps)) if share * num_steps >= 1 else 1.0


def replaced_share(step: int, num_steps: int, largest: float, warmup: float) -> float:
    """`in_path`: the share of h that is replaced at a step: up over the warm-up, linearly down to 0 in the second half.

    The model that is exported has no bottleneck, so training must end without one.
    """
    return largest * ramp(step, num_steps, warmup) * min(1.0, 2 * (1 - (step + 1) / num_steps))
