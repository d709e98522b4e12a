"""`adaptive`: compress an example the more, the better the base model already predicts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["compression_weights"]


def compression_weights(scores: Sequence[float | None]) -> list[float]:
    """Return the weight of each example's KL: from 2 for the most predictable to 0 for the least.

    It is linear in the rank of the score; ties share their mean rank. An example without a score weighs 1.

    Args:
        scores: each training example's Min-K% Prob (lower = more memorized); None where it has none.
    """
    weights = np.ones(len(scores))
    known = [score for score in scores if score is not None]
    if len(known) > 1:
        # By rank: the mean is 1 whatever the distribution of the scores, and alpha means what it means without weights.
        _, group, counts = np.unique(known, return_inverse=True, return_counts=True)
        mean_rank = (np.cumsum(counts) - (counts + 1) / 2)[group]
        has_score = [score is not None for score in scores]
        weights[has_score] = 2 * (1 - mean_rank / (len(known) - 1))
    return [float(weight) for weight in weights]
