"""How sure a mean over problems, an AUROC or a share is.

Means have a seeded percentile bootstrap over problems. The problems are resampled, not the samples: the question is how
the score would change on other problems of the same kind. The error of estimating each problem from few samples is
inside that variation. AUROCs and shares of many examples have closed forms, in which examples of one group (the
functions of one file) count as dependent; these need SciPy, which comes with scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ibft.statistics.groups import (
    Z95,
    effective_groups,
    grouped_quantile,
    grouped_variance,
    least_groups,
    unseen_reach,
)
from ibft.statistics.interval import Interval
from ibft.statistics.student import student_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ibft.statistics.groups import Codes, Floats

    Flags: TypeAlias = Sequence[bool] | NDArray[np.bool_]

__all__ = [
    "Difference",
    "Interval",
    "auroc",
    "auroc_difference",
    "auroc_interval",
    "bootstrap_means",
    "delong_interval",
    "effective_size",
    "wilson_interval",
]

_CHUNK_CELLS = 4_000_000  # resamples x problems held at once: 32 MB
_TAIL = 0.05  # as far down as the memorization barrier asks (`findings.barrier.EXPECTED_SHARE`)


class Difference(NamedTuple):
    """How much larger the AUROC of one score is than that of another, with its 95% interval."""

    value: float
    interval: Interval


def bootstrap_means(
    metrics: Sequence[Sequence[float]], *, num_resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """Return the 95% percentile interval of each metric's mean over problems.

    Args:
        metrics: M sequences of P values, one value per problem. All share the resampled problems, so the M
            intervals can be compared. A metric with a NaN has NaN for its interval.
        num_resamples: bootstrap resamples.
        seed: random seed; equal seeds give equal intervals.

    Raises:
        ValueError: the metrics differ in length, or num_resamples < 1.
    """
    import numpy as np

    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: it must be at least 1")
    if len({len(values) for values in metrics}) > 1:
        raise ValueError("every metric needs one value for each of the same problems")
    if not metrics or not len(metrics[0]):
        return [Interval(math.nan, math.nan) for _ in metrics]
    values_PM = np.asarray(metrics, dtype=np.float64).T
    num_problems = len(values_PM)
    rng = np.random.default_rng(seed)
    means = []
    for size in _chunk_sizes(num_resamples, num_problems):
        counts_RP = _resampled_counts(np.arange(num_problems), num_problems, size, rng)
        # How often each problem is drawn is counted once: one product then gives all the means.
        means.append(counts_RP @ values_PM / num_problems)
    low_M, high_M = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return [Interval(float(low), float(high)) for low, high in zip(low_M, high_M, strict=True)]


def auroc_interval(
    lower: Sequence[float], higher: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the 95% percentile interval of P(a value of `lower` < one of `higher`) + half of P(equal).

    Both samples are resampled, each for itself. NaN where either is empty. Where all of one are below
    all of the other, it is Wilson's of a share, of as many as the smaller sample has.

    Raises:
        ValueError: num_resamples < 1.
    """
    import numpy as np

    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: it must be at least 1")
    if not len(lower) or not len(higher):
        return Interval(math.nan, math.nan)
    # Only the order of the values counts: each becomes its place among the U different ones.
    different_U, places = np.unique(np.concatenate([lower, higher]), return_inverse=True)
    rng = np.random.default_rng(seed)
    areas = []
    for size in _chunk_sizes(num_resamples, len(places)):
        lower_RU = _resampled_counts(places[: len(lower)], len(different_U), size, rng)
        higher_RU = _resampled_counts(places[len(lower) :], len(different_U), size, rng)
        below_RU = np.cumsum(lower_RU, axis=1) - lower_RU / 2
        areas.append((below_RU * higher_RU).sum(axis=1) / (len(lower) * len(higher)))
    low, high = np.percentile(np.concatenate(areas), [2.5, 97.5])
    # No resample differs: an interval of width 0 would make a certainty of a few examples.
    if low == high:
        num = min(len(lower), len(higher))
        return wilson_interval(float(low) * num, num)
    return Interval(float(low), float(high))


def auroc(lower: Floats, higher: Floats) -> float:
    """Return P(a random value of `lower` < one of `higher`) + half of P(equal); NaN if either is empty.

    The Mann-Whitney statistic, O(n log n). Values must not be NaN.
    """
    import numpy as np

    if not len(lower) or not len(higher):
        return math.nan
    return float(np.mean(_share_above(np.asarray(lower, np.float64), np.asarray(higher, np.float64))))


def delong_interval(lower: Floats, higher: Floats, groups: tuple[Codes, Codes] | None = None) -> Interval:
    """Return the 95% interval of `auroc(lower, higher)`, O(n log n): for samples too large for `auroc_interval`.

    The variance is that of DeLong et al. (Biometrics 1988), with groups that of Obuchowski (Biometrics 1997): what the
    examples of one group add to the AUROC's error is summed up first, on both sides together.

    Args:
        lower: M values, none of them NaN.
        higher: N values.
        groups: M and N codes; equal codes are one group, also across the samples. None: all are independent.

    Returns:
        NaN where a sample has fewer than two groups.
    """
    area, *influences = _influences(lower, higher)
    codes = _codes(groups, influences)
    error = math.sqrt(grouped_variance(influences, codes))
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    # No variance is seen where every value of one side is below all of the other's: as sure as a share of this many.
    if error == 0 or not 0 < area < 1:
        num = least_groups(codes)
        return wilson_interval(area * num, num)
    # On the scale of the logit, so that both ends stay inside of [0, 1] (Pepe 2003, section 5.2).
    middle, reach = math.log(area / (1 - area)), grouped_quantile(codes) * error / (area * (1 - area))
    return Interval(_sigmoid(middle - reach), _sigmoid(middle + reach))


def auroc_difference(
    a: tuple[Floats, Floats], b: tuple[Floats, Floats], groups: tuple[Codes, Codes] | None = None
) -> Difference:
    """Return how much larger the AUROC of score `a` is than that of `b` on the same examples, O(n log n).

    `a` and `b` are each (lower, higher), with the same examples in the same order. Variance, groups and quantile as in
    `delong_interval`; the interval is symmetric. Where no variance is seen it reaches as far as Wilson's of a share of
    0. NaN where a side has fewer than two groups.

    Raises:
        ValueError: the scores differ in their numbers of examples.
    """
    if [len(side) for side in a] != [len(side) for side in b]:
        raise ValueError("both scores need a value for each of the same examples")
    area_a, *influences_a = _influences(*a)
    area_b, *influences_b = _influences(*b)
    # Example by example, so that what both scores find hard cancels.
    influences = [left - right for left, right in zip(influences_a, influences_b, strict=True)]
    value = area_a - area_b
    codes = _codes(groups, influences)
    error = math.sqrt(grouped_variance(influences, codes))
    if math.isnan(error):
        return Difference(value, Interval(math.nan, math.nan))
    reach = grouped_quantile(codes) * error if error else unseen_reach(codes)
    return Difference(value, Interval(max(-1.0, value - reach), min(1.0, value + reach)))


def wilson_interval(num_successes: float, num: float) -> Interval:
    """Return the 95% interval of a share (Wilson 1927); effective sizes may be fractional. NaN if num is 0."""
    if num <= 0:
        return Interval(math.nan, math.nan)
    share = num_successes / num
    middle = (share + Z95**2 / (2 * num)) / (1 + Z95**2 / num)
    reach = Z95 / (1 + Z95**2 / num) * math.sqrt(share * (1 - share) / num + Z95**2 / (4 * num * num))
    # Exact ends where rounding would leave 3e-17.
    return Interval(max(0.0, middle - reach) if share > 0 else 0.0, min(1.0, middle + reach) if share < 1 else 1.0)


def effective_size(flags: Flags, groups: Codes, values: Floats | None = None) -> float:
    """Return how many independent examples give the share of true flags as exactly as these, which come in groups.

    The number of examples over the design effect (Kish 1965), which is the variance with groups over that without, and
    at least 1 here. It is corrected for few groups (Korn and Graubard 1998). Where the design effect is unknown (all
    flags are equal, and no values order them), it is the effective number of groups.

    Args:
        flags: N of them.
        groups: N codes; equal codes are one group.
        values: N numbers of which the flags are about the lowest.
    """
    import numpy as np

    marked, codes = np.asarray(flags, np.float64), np.asarray(groups, np.int64)
    num = len(marked)
    if not num:
        return 0.0
    # Fewer than 5% say little of how groups share them: one flag among 1,000 examples would count as 1,000 independent
    # examples. The lowest 5% of the values are shared in much the same way.
    if values is not None and marked.mean() < _TAIL:
        numbers, last = np.asarray(values, np.float64), math.ceil(_TAIL * num) - 1
        marked = (numbers <= np.partition(numbers, last)[last]).astype(np.float64)
    share, num_groups = float(marked.mean()), effective_groups(codes)
    if share in (0, 1) or num_groups <= 1:
        return num_groups
    deviations = (marked - share) / num
    alone = float(deviations @ deviations) * num / (num - 1)
    design_effect = max(1.0, grouped_variance([deviations], [codes]) / alone)
    # The variance between few groups is known badly, so Student's quantile is larger for them than for all examples.
    return max(1.0, num / design_effect * (student_quantile(num - 1) / student_quantile(num_groups - 1)) ** 2)


def _share_above(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each value the share of `others` above it, half of the equal ones included."""
    import numpy as np

    # By binary search: the matrix of all comparisons of two sets of 100,000 has 10^10 cells.
    ordered = np.sort(others)
    twice_below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return 1 - twice_below / (2 * len(ordered))


def _influences(lower: Floats, higher: Floats) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the AUROC and each example's part in its error: DeLong's component less the mean, over M or N."""
    import numpy as np

    if not len(lower) or not len(higher):
        return math.nan, np.zeros(len(lower)), np.zeros(len(higher))
    below, above = np.asarray(lower, np.float64), np.asarray(higher, np.float64)
    of_lower, of_higher = _share_above(below, above), 1 - _share_above(above, below)
    area = float(of_lower.mean())
    return area, (of_lower - area) / len(below), (of_higher - area) / len(above)


def _codes(groups: tuple[Codes, Codes] | None, influences: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
    import numpy as np

    if groups is not None:
        return [np.asarray(side, np.int64) for side in groups]
    num_lower, num_higher = (len(side) for side in influences)
    return [np.arange(num_lower), np.arange(num_lower, num_lower + num_higher)]


def _sigmoid(logit: float) -> float:
    # exp overflows beyond 709.
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _chunk_sizes(num_resamples: int, num_values: int) -> list[int]:
    """Split the resamples into chunks that fit in memory."""
    chunk = max(1, _CHUNK_CELLS // num_values)
    return [min(chunk, num_resamples - start) for start in range(0, num_resamples, chunk)]


def _resampled_counts(
    places: NDArray[np.int64], num_places: int, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how often each place is drawn in each of R draws of all values with replacement: shape R x places."""
    import numpy as np

    draws_RN = places[rng.integers(len(places), size=(num_resamples, len(places)))]
    # A range of its own for the places of each resample: one count then serves all resamples.
    draws_RN += np.arange(num_resamples)[:, None] * num_places
    return np.bincount(draws_RN.ravel(), minlength=num_resamples * num_places).reshape(num_resamples, num_places)
