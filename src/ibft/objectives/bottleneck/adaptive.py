"""`adaptive`: compress an example the more strongly, the better the base model predicts it already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["compression_weights"]


def compression_weights(scores: Sequence[float | None]) -> list[float]:
    """The weight of each example's KL by how predictable the base model finds it: 2 for the most, 0 for the least.

    Linear in the rank of the score (ties share their mean rank), so that the mean over the data is 1 whatever the
    scores' distribution, and alpha means what it means without weights. An example without a score weighs 1.

    Args:
        scores: each training example's Min-K% Prob (lower = more memorized); None where it has none.
    """
    weights = np.ones(len(scores))
    has = np.array([score is not None for score in scores], bool)
    num = int(has.sum())
    if num > 1:
        known = [score for score in scores if score is not None]
        _, group, counts = np.unique(known, return_inverse=True, return_counts=True)
        mean_rank = (np.cumsum(counts) - (counts + 1) / 2)[group]
        weights[has] = 2 * (1 - mean_rank / (num - 1))
    return [float(weight) for weight in weights]
