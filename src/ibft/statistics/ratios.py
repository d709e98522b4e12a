"""How sure a ratio of sums is, the difference of two, and a mean change, where examples of one group are dependent.

Variance and quantile are those of the AUROCs' intervals (`statistics.groups`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ibft.statistics.groups import grouped_quantile, grouped_variance, unseen_reach
from ibft.statistics.interval import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ibft.statistics.groups import Codes, Floats

__all__ = ["Difference", "Ratio", "change_interval", "ratio_difference", "ratio_interval"]

_NO_ERROR = 1e-12
"""Below this, the values are equal but for rounding."""


class Ratio(NamedTuple):
    """The sum of N numerators by the sum of N denominators, which is above 0; equal codes are one group.

    With denominators of 1 it is a mean.
    """

    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]
    groups: NDArray[np.int64]

    @property
    def value(self) -> float:
        """The ratio; NaN without examples."""
        if not len(self.numerators):
            return math.nan
        return float(self.numerators.sum() / self.denominators.sum())

    @property
    def influences(self) -> NDArray[np.float64]:
        """How much each example moves the ratio, to first order (the delta method); they sum to 0."""
        influences: NDArray[np.float64] = self.numerators - self.value * self.denominators
        influences /= self.denominators.sum()
        return influences


class Difference(NamedTuple):
    """How much larger one ratio is than another, with its 95% interval."""

    value: float
    interval: Interval


def ratio_interval(ratio: Ratio) -> Interval:
    """Return the 95% interval of a ratio; NaN with fewer than two groups.

    Where no variance is seen, it reaches as far as Wilson's of a share of 0.
    """
    return _around(ratio.value, [ratio.influences], [ratio.groups])


def ratio_difference(a: Ratio, b: Ratio) -> Difference:
    """Return how much larger `a` is than `b`, whose groups are equal where their codes are.

    Where no variance is seen, the interval reaches as far as Wilson's of a share of 0; it is NaN where one of the two
    has fewer than two groups.
    """
    value = a.value - b.value
    return Difference(value, _around(value, [a.influences, -b.influences], [a.groups, b.groups]))


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

    numbers = np.asarray(changes, np.float64)
    interval = ratio_interval(Ratio(numbers, np.ones(len(numbers)), np.asarray(groups, np.int64)))
    low, high = np.clip(interval, -1, 1).tolist()
    return Interval(low, high)


def _around(value: float, influences: list[NDArray[np.float64]], codes: list[NDArray[np.int64]]) -> Interval:
    """Return the interval around an estimate: influences and codes are those of `grouped_variance`."""
    error = math.sqrt(grouped_variance(influences, codes))
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    reach = unseen_reach(codes) if error < _NO_ERROR else grouped_quantile(codes) * error
    return Interval(value - reach, value + reach)
