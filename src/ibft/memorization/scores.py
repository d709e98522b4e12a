"""Memorization scores as pure functions of one example's token log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["mean_nll", "min_k_prob"]


def min_k_prob(log_probs: Sequence[float], k_percent: float = 20) -> float:
    """Min-K% Prob: the mean *negative* log-likelihood of the K% least likely tokens. Lower = more memorized.

    The sign is that of arXiv 2510.16022; the original (Shi et al., arXiv 2310.16789) averages the
    log-likelihood itself. As there, the number of tokens is rounded down; but at least one is taken, so that
    an example of fewer than 100/K tokens has a score too.

    Args:
        log_probs: natural-log probabilities of the T tokens, each <= 0.
        k_percent: K, in (0, 100].

    Returns:
        Nats a token, >= 0; NaN without tokens.

    Raises:
        ValueError: K is out of range.
    """
    if not 0 < k_percent <= 100:
        raise ValueError(f"k_percent is {k_percent}: it must be above 0 and at most 100")
    count = max(1, int(len(log_probs) * k_percent / 100))
    return mean_nll(sorted(log_probs)[:count])


def mean_nll(log_probs: Sequence[float]) -> float:
    """The mean negative log-likelihood in nats a token; NaN without tokens."""
    return -math.fsum(log_probs) / len(log_probs) if len(log_probs) else math.nan
