"""Choose which examples to drop: the most memorized ones, or as many others as a control. Pure.

The paper (arXiv 2510.16022, figure 4) drops the 10% most memorized examples and sees a better Pass@1. Without controls
that says little: such examples are often short, or copies of one another, and fewer examples alone change a training
run. So each control drops the same number for another reason. Scores are by id, in the order of the data; lower = more
memorized.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibft.artifacts.score_table import ScoredRow
from ibft.curation.duplicates import Duplicate

__all__ = ["Dropped", "drop_duplicates", "drop_length_matched", "drop_lowest", "drop_random"]

_RANK = {"exact": 0, "code": 1, "near": 2}


class Dropped(NamedTuple):
    """An example to leave out, and why."""

    id: str
    reason: str


def drop_lowest(scores: Mapping[str, ScoredRow], count: int) -> list[Dropped]:
    """Drop the `count` most memorized examples, the most memorized first; equal scores in the order of the data."""
    ordered = sorted(scores, key=lambda identity: scores[identity].value)
    return [Dropped(identity, f"score {scores[identity].value:.6g}") for identity in ordered[:count]]


def drop_random(scores: Mapping[str, ScoredRow], count: int, seed: int) -> list[Dropped]:
    """Drop `count` examples by chance, whether they are memorized or not."""
    return [Dropped(identity, "random") for identity in random.Random(seed).sample(list(scores), count)]


def drop_length_matched(scores: Mapping[str, ScoredRow], count: int, seed: int) -> list[Dropped]:
    """Drop, for each of the `count` most memorized examples, one of the others that is nearest to it in length.

    No example is taken twice. Fewer than `count` are dropped where the others are fewer: that is, where more than half
    of the data would be dropped.
    """
    lowest = [dropped.id for dropped in drop_lowest(scores, count)]
    chance = random.Random(seed)
    others = list(scores.keys() - set(lowest))
    others.sort()  # the order of a set is not the same in each process
    chance.shuffle(others)
    others.sort(key=lambda identity: scores[identity].num_tokens)  # stable: equal lengths stay shuffled
    lengths = [scores[identity].num_tokens for identity in others]
    chance.shuffle(lowest)  # so that no kind of example has the first choice
    dropped = []
    for identity in lowest[: len(others)]:
        length = scores[identity].num_tokens
        at = bisect.bisect_left(lengths, length)
        if at == len(lengths) or (at > 0 and length - lengths[at - 1] < lengths[at] - length):
            at -= 1
        dropped.append(Dropped(others.pop(at), f"length of {identity} ({length}): {lengths.pop(at)}"))
    return dropped


def drop_duplicates(duplicates: Sequence[Duplicate], count: int) -> list[Dropped]:
    """Drop up to `count` duplicates, the most redundant first: exact ones, equal code, then by falling similarity."""
    ordered = sorted(duplicates, key=lambda duplicate: (_RANK[duplicate.kind], -duplicate.similarity))
    return [
        Dropped(duplicate.id, f"duplicate of {duplicate.of} ({duplicate.kind}, {duplicate.similarity:.2f})")
        for duplicate in ordered[:count]
    ]
