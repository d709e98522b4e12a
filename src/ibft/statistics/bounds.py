"""Bounds on a mean from randomly weighted data and one value that was not seen.

With weights from a uniform Dirichlet distribution over the values and one value at the lower end of what is possible,
the alpha quantile of the weighted mean is a lower bound of the population's mean (Gaffke 2005; Learned-Miller and
Thomas, arXiv 1905.06208, who conjecture that it always holds). Of 0s and 1s it is Clopper and Pearson's, which does.
Weights that are independent exponentials do as well, since only the sign of a sum is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["chance_not_positive", "mean_below"]

_NODES = 80  # with them the integral is right to eight digits
_REACH = 8.0
_NEWTON_STEPS = 10
_MAX_ROUNDS = 60
_NORMAL = NormalDist()


def chance_not_positive(values: NDArray[np.float64], unseen: float) -> float:
    """Return P(sum of E_i * value_i + E_0 * unseen <= 0), with E independent and exponential of mean 1.

    By the inversion integral of the sum's moment generating function along a vertical line through its saddle point,
    where it falls like a normal density: accurate to eight digits also where the chance is tiny (tests compare it
    with binomial and beta tails).
    """
    import numpy as np

    return _chance(*np.unique(np.append(values, unseen), return_counts=True))


def _chance(points: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    if points.min() >= 0 or points.max() <= 0:
        return 0.0 if points.max() > 0 else 1.0
    # The saddle of a sum with a negative mean lies right of 0: turned around, one formula serves both.
    if points @ counts < 0:
        return 1 - _lower_tail(-points, counts)
    return _lower_tail(points, counts)


def _lower_tail(points: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return P(sum <= 0), where the sum's mean is not negative and some points are."""
    import numpy as np

    saddle = _saddle(points, counts)
    places = (np.arange(_NODES) + 0.5) * (_REACH / _NODES)
    # Dense at the saddle, thin far out, where few values make the integrand fall slowly.
    width = _width(points, counts, saddle)
    nodes = saddle + 1j * width * np.sinh(places)
    logs = -counts @ np.log(1 - points[:, None] * nodes)
    total = (np.exp(logs) / -nodes).real @ np.cosh(places)
    return min(1.0, max(0.0, float(total) * width * (_REACH / _NODES) / math.pi))


def _saddle(points: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return about where the generating function is smallest, left of 0; any line near it gives the same integral."""
    edge = 1 / float(points.min())
    left, right, saddle = edge, 0.0, 0.0
    for _ in range(_NEWTON_STEPS):
        shares = points / (1 - saddle * points)
        slope, curvature = float(counts @ shares), float(counts @ shares**2)
        left, right = (left, saddle) if slope > 0 else (saddle, right)
        saddle -= slope / curvature
        # Newton's step can leave the bracket, beyond which the function is not defined.
        if not left < saddle < right:
            saddle = (left + right) / 2
        elif abs(slope) < 0.01 * math.sqrt(curvature):
            break
    # The integrand has a pole at 0: keep away from it, and from the edge, by a part of its width.
    return max(min(saddle, -0.3 * _width(points, counts, saddle)), 0.999 * edge)


def _width(points: NDArray[np.float64], counts: NDArray[np.int64], saddle: float) -> float:
    return 1 / math.sqrt(float((counts * (points / (1 - saddle * points)) ** 2).sum()))


def mean_below(
    values: NDArray[np.float64], unseen: Callable[[float], float], chance: float, low: float, high: float
) -> float:
    """Return the mean at which `chance_not_positive` of the values less the mean equals `chance`, from low to high.

    Args:
        values: shape (P,).
        unseen: the unseen value less the mean, for a mean.
        chance: one-sided, such as 0.025.
        low: where the search begins; returned where the chance is reached there already.
        high: where it ends.
    """
    import numpy as np

    points, counts = np.unique(values, return_counts=True)
    counts = np.append(counts, 1)

    def excess(mean: float) -> float:
        at = _chance(np.append(points - mean, unseen(mean)), counts)
        return _NORMAL.inv_cdf(min(max(at, 1e-300), 1 - 1e-16)) - target

    # On the normal distribution's scale the chance is nearly linear in the mean: few rounds are needed.
    target = _NORMAL.inv_cdf(chance)
    at_low, at_high = excess(low), excess(high)
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    # Regula falsi; an end that stays twice has its weight halved (the Illinois method).
    side = 0
    for _ in range(_MAX_ROUNDS):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = excess(middle)
        if abs(at_middle) < 1e-6 or high - low < 1e-10:
            return middle
        if at_middle > 0:
            high, at_high = middle, at_middle
            at_low, side = (at_low / 2, 1) if side == 1 else (at_low, 1)
        else:
            low, at_low = middle, at_middle
            at_high, side = (at_high / 2, -1) if side == -1 else (at_high, -1)
    return low
