"""How sure a mean of shares is, its change, and the difference of two means, where examples of one group are dependent.

Variance and quantile are those of the AUROCs' intervals (`statistics.groups`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ibft.statistics.groups import effective_groups, grouped_quantile, grouped_variance, unseen_reach
from ibft.statistics.uncertainty import Interval, wilson_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ibft.statistics.groups import Codes, Floats

__all__ = ["MeanDifference", "change_interval", "mean_difference", "mean_interval"]

_NO_ERROR = 1e-12
"""Below this, the values are equal but for rounding."""


class MeanDifference(NamedTuple):
    """How much larger one mean is than another, with its 95% interval."""

    value: float
    interval: Interval


def mean_interval(values: Floats, groups: Codes) -> Interval:
    """Return the 95% interval of a mean of shares.

    Where all values are equal, no variance is seen: then it is Wilson's, of as many as there are groups.

    Args:
        values: N values in [0, 1].
        groups: N codes; equal codes are one group.

    Returns:
        Within [0, 1]; NaN with fewer than two groups.
    """
    import numpy as np

    numbers, codes = np.asarray(values, np.float64), np.asarray(groups, np.int64)
    if not len(numbers):
        return Interval(math.nan, math.nan)
    mean = float(numbers.mean())
    error = math.sqrt(grouped_variance([(numbers - mean) / len(numbers)], [codes]))
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    if error < _NO_ERROR:
        num = effective_groups(codes)
        return wilson_interval(mean * num, num)
    reach = grouped_quantile([codes]) * error
    return Interval(max(0.0, mean - reach), min(1.0, mean + reach))


def change_interval(changes: Floats, groups: Codes) -> Interval:
    """Return the 95% interval of the mean change of a share, each measured twice.

    Where no variance is seen, it reaches as far as Wilson's of a share of 0.

    Args:
        changes: N values in [-1, 1].
        groups: N codes; equal codes are one group.

    Returns:
        Within [-1, 1]; NaN with fewer than two groups.
    """
    import numpy as np

    numbers, codes = np.asarray(changes, np.float64), [np.asarray(groups, np.int64)]
    if not len(numbers):
        return Interval(math.nan, math.nan)
    mean = float(numbers.mean())
    return _around(mean, [(numbers - mean) / len(numbers)], codes)


def mean_difference(a: Floats, b: Floats, groups: tuple[Codes, Codes]) -> MeanDifference:
    """Return how much larger the mean of shares `a` is than that of `b`.

    Where no variance is seen, the interval reaches as far as Wilson's of a share of 0.

    Args:
        a: M values in [0, 1].
        b: N values in [0, 1].
        groups: M and N codes; equal codes are one group, also across the samples.

    Returns:
        The interval within [-1, 1]; NaN where a sample has fewer than two groups.
    """
    import numpy as np

    samples = [np.asarray(side, np.float64) for side in (a, b)]
    codes = [np.asarray(side, np.int64) for side in groups]
    if not all(len(side) for side in samples):
        return MeanDifference(math.nan, Interval(math.nan, math.nan))
    means = [float(side.mean()) for side in samples]
    value = means[0] - means[1]
    influences = [sign * (side - mean) / len(side) for sign, side, mean in zip((1, -1), samples, means, strict=True)]
    return MeanDifference(value, _around(value, influences, codes))


def _around(value: float, influences: list[NDArray[np.float64]], codes: list[NDArray[np.int64]]) -> Interval:
    """Return the interval of a difference of shares: influences and codes are those of `grouped_variance`."""
    error = math.sqrt(grouped_variance(influences, codes))
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    reach = unseen_reach(codes) if error < _NO_ERROR else grouped_quantile(codes) * error
    return Interval(max(-1.0, value - reach), min(1.0, value + reach))
