"""Training and control examples of similar length in pairs, so that length no longer separates the two."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ibft.findings.columns import Columns
    from ibft.statistics.groups import Codes

__all__ = ["Matches", "match_by_length", "match_columns"]

CALIPER = 1.1
"""The longer of a pair has at most this many times the tokens of the shorter."""


class Matches(NamedTuple):
    """Pairs (train[i], control[i]) as two arrays of P row numbers; no row occurs twice. Sorted by `train`."""

    train: NDArray[np.int64]
    control: NDArray[np.int64]
    num_unmatched_train: int
    num_unmatched_control: int


def match_by_length(train_tokens: Codes, control_tokens: Codes, *, seed: int = 0) -> Matches:
    """Pair training and control examples 1:1 by length, without replacement; the nearest in log length come first.

    Greedy matching (Rosenbaum 1989): examples of equal length are paired by chance; of the rest, always the two that
    are nearest, within the caliper. O(n log n).

    Args:
        train_tokens: tokens of each training example, at least 1.
        control_tokens: tokens of each control example, at least 1.
        seed: random seed of the choice among examples of equal length.

    Raises:
        ValueError: a length is below 1.
    """
    sides = [np.asarray(train_tokens, np.int64), np.asarray(control_tokens, np.int64)]
    if any(len(side) and side.min() < 1 for side in sides):
        raise ValueError("a length is below 1: leave out examples without tokens first")
    rng = np.random.default_rng(seed)
    orders = [_by_length(side, rng) for side in sides]
    equal = _pair_equal(*[side[order] for side, order in zip(sides, orders, strict=True)])
    train, control = (order[chosen] for order, chosen in zip(orders, equal, strict=True))
    left = [np.delete(order, chosen) for order, chosen in zip(orders, equal, strict=True)]
    # Not the largest matching, which finds more pairs by pairing the short of one side with the long of the other.
    near = _pair_near(np.log(sides[0][left[0]]), np.log(sides[1][left[1]]), math.log(CALIPER))
    train = np.concatenate([train, left[0][near[:, 0]]])
    control = np.concatenate([control, left[1][near[:, 1]]])
    by_train = np.argsort(train)
    return Matches(train[by_train], control[by_train], len(sides[0]) - len(train), len(sides[1]) - len(train))


def match_columns(
    train: Columns, control: Columns, score: str, *, is_dated: bool = False, seed: int = 0
) -> tuple[Matches, dict[str, int]]:
    """Pair the rows of two sets that have a score; code that is in both is left out.

    Args:
        train, control: the two sets, which have this score.
        score: its name.
        is_dated: dates vouch for the control set, which then stays whole.
        seed: as in `match_by_length`.

    Returns:
        The pairs, and how many rows of each subset with this score the other one has too.
    """
    has_score = {"train": np.isfinite(train.scores[score]), "control": np.isfinite(control.scores[score])}
    # Dates vouch for the control set, so it stays whole: both sets may then be one file.
    in_both = {"train": train.also_in(control), "control": control.also_in(train) & (not is_dated)}
    rows = {name: np.flatnonzero(has_score[name] & ~in_both[name]) for name in in_both}
    matches = match_by_length(train.num_tokens[rows["train"]], control.num_tokens[rows["control"]], seed=seed)
    matches = matches._replace(train=rows["train"][matches.train], control=rows["control"][matches.control])
    return matches, {name: int((has_score[name] & in_both[name]).sum()) for name in in_both}


def _by_length(tokens: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return row numbers in the order of length, those of equal length in a random order."""
    shuffled = rng.permutation(len(tokens))
    # Stable: examples of equal length stay shuffled.
    return shuffled[np.argsort(tokens[shuffled], kind="stable")]


def _pair_equal(train: NDArray[np.int64], control: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places in two sorted arrays of the pairs of equal length: for each length, the first of both sides."""

    def paired(side: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
        rank = np.arange(len(side)) - np.searchsorted(side, side)
        return np.flatnonzero(rank < np.searchsorted(other, side, "right") - np.searchsorted(other, side))

    return paired(train, control), paired(control, train)


def _pair_near(train: NDArray[np.float64], control: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Return the places (in train, in control) of the greedily nearest pairs of two sorted arrays: shape P x 2."""
    # The nearest pair are neighbors among all that are left, so a heap of neighbors and a linked list suffice.

    values = np.concatenate([train, control])
    order = np.argsort(values, kind="stable")
    ordered, is_train = values[order].tolist(), (order < len(train)).tolist()
    before, after = list(range(-1, len(order) - 1)), list(range(1, len(order) + 1))
    heap: list[tuple[float, int, int]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < len(ordered) and is_train[left] != is_train[right]:
            distance = ordered[right] - ordered[left]
            # A ratio of exactly the caliper counts, whatever its logarithms are rounded to.
            if distance <= reach + 1e-12:
                heapq.heappush(heap, (distance, left, right))

    for right in range(1, len(ordered)):
        offer(right - 1, right)
    pairs, is_gone = [], [False] * len(ordered)
    while heap:
        _, left, right = heapq.heappop(heap)
        if is_gone[left] or is_gone[right]:
            continue
        is_gone[left] = is_gone[right] = True
        outer_left, outer_right = before[left], after[right]
        if outer_left >= 0:
            after[outer_left] = outer_right
        if outer_right < len(ordered):
            before[outer_right] = outer_left
        offer(outer_left, outer_right)
        pairs.append((left, right) if is_train[left] else (right, left))
    places: NDArray[np.int64] = order[np.array(pairs, np.int64).reshape(-1, 2)]
    places[:, 1] -= len(train)
    return places
