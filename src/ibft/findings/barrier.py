"""The memorization barrier in numbers: how much of the training data is too predictable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ibft.artifacts.scan import Barrier
from ibft.findings.columns import Columns, first_copies
from ibft.findings.matching import Matches
from ibft.findings.traits import common_traits
from ibft.statistics.uncertainty import Interval, effective_size

if TYPE_CHECKING:
    from ibft.statistics.groups import Codes, Floats

__all__ = ["EXPECTED_SHARE", "MIN_CONTROL", "BarrierShare", "find_barrier", "share_below_control"]

EXPECTED_SHARE = 0.05
"""Share of the control set that is below the threshold; the same of training data that is as predictable."""
MIN_CONTROL = 19
"""With fewer values the 5th percentile would be below all of them."""
_NUM_DRAWS = 10_000


class BarrierShare(NamedTuple):
    """The control's percentile, and the share of training examples below it with its 95% interval."""

    threshold: float
    share: float
    interval: Interval


def find_barrier(train: Columns, control: Columns, matches: Matches, score: str, seed: int = 0) -> Barrier:
    """Measure the barrier on matched examples, and what the memorized ones of all have in common.

    Args:
        train: the training data's columns.
        control: the control set's.
        matches: rows of the two that are compared, at least `MIN_CONTROL` pairs.
        score: name of a score that both sets have.
        seed: random seed of the interval.
    """
    values = train.scores[score]
    matched = values[matches.train]
    codes = (train.groups[matches.train], control.groups[matches.control])
    threshold, share, interval = share_below_control(matched, control.scores[score][matches.control], codes, seed=seed)
    # What is said of the memorized ones is of all lengths: pruning drops them from all, not from the pairs alone.
    scored = np.flatnonzero(np.isfinite(values))
    is_memorized = values[scored] < threshold

    first = first_copies(train.codes)
    return Barrier(
        threshold=threshold,
        share=share,
        ci95=interval,
        num_examples=len(matched),
        num_memorized=int((matched < threshold).sum()),
        num_train=len(scored),
        num_train_memorized=int(is_memorized.sum()),
        num_copies=int((first != np.arange(len(first)))[scored].sum()),
        traits=common_traits(
            is_memorized,
            train.num_tokens[scored],
            (np.bincount(first) > 1)[first[scored]],
            [train.files[row] for row in scored.tolist()],
            [train.tags[row] for row in scored.tolist()],
            train.groups[scored],
            values[scored],
        ),
    )


def share_below_control(
    train: Floats,
    control: Floats,
    groups: tuple[Codes, Codes] | None = None,
    *,
    at: float = EXPECTED_SHARE,
    seed: int = 0,
) -> BarrierShare:
    """Return the share of training examples that score below a low percentile of the control; `at` if nothing differs.

    The interval counts the error of both sets, as a bootstrap of both would. Examples that come in groups count as
    `effective_size` says.

    Args:
        train: M scores, lower = more memorized; none NaN.
        control: N scores.
        groups: M and N codes; equal codes are one group. None: all are independent.
        at: the percentile, as a share: 5% for the barrier, 1% for the true positives at 1% false ones.
        seed: random seed of the 10,000 draws.

    Returns:
        NaN where a set is empty. With fewer than 1/at - 1 control scores (19 at 5%) the threshold is their minimum.
    """
    num_train, num_control = len(train), len(control)
    if not num_train or not num_control:
        return BarrierShare(math.nan, math.nan, Interval(math.nan, math.nan))
    below, ordered = np.sort(np.asarray(train, np.float64)), np.sort(np.asarray(control, np.float64))
    # Weibull's percentile is the one whose expectation is `at` in a sample of any size.
    threshold = float(np.quantile(ordered, at, method="weibull"))
    share = float(np.searchsorted(below, threshold)) / num_train
    codes = groups or (range(num_train), range(num_control))
    size_train = effective_size(np.asarray(train) < threshold, codes[0], train)
    size_control = effective_size(np.asarray(control) < threshold, codes[1], control)
    rng = np.random.default_rng(seed)
    # What a bootstrap of both sets converges to: the percentile's place among the N ordered control scores has a beta
    # distribution, and so has the share below a given place (Jeffreys', which has a width also where none is below).
    place = at * (size_control + 1)
    places = rng.beta(place, size_control + 1 - place, _NUM_DRAWS) * (num_control + 1)
    shares = np.concatenate([[0], np.searchsorted(below, ordered) / num_train, [1]])
    at_places = np.interp(places, np.arange(num_control + 2), shares)
    draws = rng.beta(size_train * at_places + 0.5, size_train * (1 - at_places) + 0.5)
    low, high = np.percentile(draws, [2.5, 97.5])
    # Jeffreys' interval of a share of 0 begins above 0: it is widened to hold the share itself.
    return BarrierShare(threshold, share, Interval(min(float(low), share), max(float(high), share)))
