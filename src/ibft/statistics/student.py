"""Student's distribution: the interval of a mean of few values, such as one per world."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ibft.statistics.interval import Interval

__all__ = ["student_interval", "student_quantile"]


def student_quantile(degrees_of_freedom: float) -> float:
    """Return the 97.5% quantile of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, 0.975))


def student_interval(values: Sequence[float]) -> Interval:
    """Return the 95% interval of the mean of independent values; of differences of pairs, it is the paired t interval.

    NaN for fewer than two values, whose variance is not known.
    """
    if len(values) < 2:
        return Interval(math.nan, math.nan)
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    reach = student_quantile(len(values) - 1) * math.sqrt(variance / len(values))
    return Interval(mean - reach, mean + reach)
