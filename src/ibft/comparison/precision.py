"""How precise a paired difference is, where its noise comes from, and what would narrow it.

Over problems x and samples, Var(mean difference) = (Var_x E[d | x] + E_x Var(d | x)) / P: a part between problems,
which only more problems lower, and a part within them, which more samples lower, too (Miller, arXiv 2411.00640;
Wang, arXiv 2512.21326). With n samples of which a share r passes, r (1 - r) / (n - 1) estimates the variance of r
within its problem without bias.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from ibft.artifacts.report import Precision
from ibft.comparison.rule import MIN_DIFFERING, typical_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["POWER", "measure_precision", "needed_problems", "needed_samples"]

POWER = 0.8
"""The share of runs in which the minimum detectable difference is found: the "4 of 5" of all messages."""


def measure_precision(
    differences: NDArray[np.float64], sampling_variances: NDArray[np.float64], alpha: float
) -> Precision:
    """Measure the precision of a pair's mean difference.

    Args:
        differences: shape (P,), P at least 1.
        sampling_variances: shape (P,), of each difference within its problem; NaN where unknown.
        alpha: two-sided level of the pair's decision.
    """
    num = len(differences)
    variance = float(differences.var(ddof=1)) if num > 1 else 0.0
    error = math.sqrt(variance / num)
    within = float(sampling_variances.mean())
    # Both parts are estimates, so the difference can fall below 0, where the problems add next to nothing.
    between = None if math.isnan(within) else max(0.0, variance - within)
    by_samples = None
    if between is not None and between + within > 0:
        by_samples = 1 - math.sqrt((between + within / 2) / (between + within))
    return Precision(
        standard_error=error,
        variance_between=between,
        variance_within=None if between is None else within,
        minimum_detectable=_minimum_detectable(differences, error, alpha),
        narrowed_by_problems=1 - math.sqrt(0.5),
        narrowed_by_samples=by_samples,
    )


def needed_problems(precision: Precision, value: float, num_problems: int) -> float:
    """Return how many problems show a true difference of `value` in 4 of 5 runs; infinite if no number does."""
    detectable = precision.minimum_detectable
    if detectable is None or value == 0:
        return math.inf
    # The standard error falls with the root of their number.
    return num_problems * (detectable / abs(value)) ** 2


def needed_samples(precision: Precision, value: float, num_samples: float) -> float:
    """Return how many samples of each of these problems do; infinite where no number does, NaN where unknown."""
    detectable, within, between = precision.minimum_detectable, precision.variance_within, precision.variance_between
    if detectable is None or within is None or between is None:
        return math.nan
    # What the variance within problems has to fall to; the one between them stays, however many samples there are.
    left = (between + within) * (value / detectable) ** 2 - between
    return num_samples * within / left if left > 0 else math.inf


def _minimum_detectable(differences: NDArray[np.float64], error: float, alpha: float) -> float | None:
    """Return the quantiles' sum times the standard error, and the step of an exact test; never under its least lead."""
    num = len(differences)
    if num < MIN_DIFFERING:
        return None
    reach = _student(1 - alpha / 2, num - 1) + _student(POWER, num - 1)
    size = typical_size(differences)
    # This many wins and no loss separate; with a mean of about 1.3 times as many there are as many in 4 of 5 runs.
    least = 1.3 * max(MIN_DIFFERING, 1 - math.log2(alpha))
    return min(1.0, max(reach * error + size / num, least * size / num))


def _student(level: float, degrees_of_freedom: int) -> float:
    """Return Student's quantile (Abramowitz and Stegun 26.7.5), to 1% from 5 degrees of freedom on."""
    z, v = NormalDist().inv_cdf(level), degrees_of_freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
