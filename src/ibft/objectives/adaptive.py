"""`adaptive`: compress an example the more strongly, the better the base model predicts it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ibft.errors import UserError

__all__ = ["compression_weights"]


def compression_weights(scores: Mapping[str, float | None], ids: Sequence[str]) -> list[float]:
    """The weight of each example's KL by how predictable the base model finds it: 2 for the most, 0 for the least.

    Linear in the rank of the score among `ids` (ties share their mean rank), so that the mean over the data is 1
    whatever the scores' distribution, and alpha means what it means without weights.

    Args:
        scores: example id to its Min-K% Prob (lower = more memorized).
        ids: the training examples, in order.

    Raises:
        UserError: an example has no score.
    """
    missing = [identity for identity in ids if scores.get(identity) is None]
    if missing:
        raise UserError(
            f"objective.adaptive: {len(missing)} of {len(ids)} training examples have no score (the first: "
            f"{missing[0]}). Set scan.max_examples: null, scan the data, and leave out responses of a single token."
        )
    if len(ids) == 1:
        return [1.0]
    _, group, counts = np.unique([scores[identity] for identity in ids], return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(counts) - (counts + 1) / 2)[group]
    return [float(weight) for weight in 2 * (1 - mean_rank / (len(ids) - 1))]
