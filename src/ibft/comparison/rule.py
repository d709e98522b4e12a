"""The rule's test and interval for the differences of one pair; the package's docstring says why it is so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ibft.statistics.bounds import chance_not_positive, mean_below
from ibft.statistics.signs import sign_flip_p

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ALPHA", "MIN_DIFFERING", "interval", "p_value", "typical_size"]

ALPHA = 0.05
MIN_DIFFERING = 6
"""With fewer problems that differ, no two-sided paired test reaches 5% (2 / 2^5 = 6.25%)."""
_BEYOND_SEEN = 1.25
"""The far ends' unseen difference over the largest one seen. At 1 the simulated cell with the least coverage has 93.5%,
at 1.25 it has 95.1%; the others rise by up to a point."""


def p_value(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of "both arms have one mean", in (0, 1].

    Args:
        differences: shape (P,), from -1 to 1, one for each problem, none of them NaN.
    """
    import numpy as np

    exact = sign_flip_p(differences)
    sizes = np.abs(differences[differences != 0])
    # Of differences of one size, which one sample per problem gives, the guard is the same test.
    if exact == 1 or np.ptp(sizes) < 1e-12:
        return exact
    winning = _winning(differences)
    guard = 2 * chance_not_positive(winning[winning != 0], -_unseen_loss(winning))
    # Where one arm wins every problem that differs both are equal except for the integral's last digits.
    return min(1.0, guard) if guard > exact * (1 + 1e-7) else exact


def interval(differences: NDArray[np.float64], p: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of the mean difference at confidence 1 - alpha; it holds 0 exactly where p > alpha.

    Args:
        differences: shape (P,), from -1 to 1, one for each problem, none of them NaN.
        p: their `p_value`.
        alpha: two-sided error, such as 0.05.
    """
    import numpy as np

    winning = _winning(differences)
    mean = math.fsum(winning) / len(winning)
    # Arms that agree on every problem would have an interval of width 0: at 1 it is Clopper and Pearson's.
    worst = 1.0
    if np.count_nonzero(winning) >= MIN_DIFFERING:
        worst = min(1.0, _BEYOND_SEEN * float(np.abs(winning).max()))
    high = -_far_end(-winning, worst, alpha / 2)
    if p <= alpha:
        loss = _unseen_loss(winning)
        # At least a hair above 0: the root of the exact test and of the integral can differ in the last digit.
        low = max(mean_below(winning, lambda _: -loss, alpha / 2, 0.0, mean), 1e-12)
    else:
        low, high = min(_far_end(winning, worst, alpha / 2), 0.0), max(high, 0.0)
    return (low, high) if math.fsum(differences) >= 0 else (-high, -low)


def typical_size(differences: NDArray[np.float64]) -> float:
    """Return c1 of the package's docstring, between the smallest and the largest difference; 1.0 where none differs."""
    import numpy as np

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    low, high = float(sizes[0]), float(sizes[-1])
    target = float(counts.sum()) * math.log(2)
    # By bisection: the sum of the logarithms falls as the size grows.
    while high - low > 1e-12:
        middle = (low + high) / 2
        if counts @ np.log1p(sizes / middle) > target:
            low = middle
        else:
            high = middle
    return high


def _winning(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return differences if math.fsum(differences) >= 0 else -differences


def _unseen_loss(winning: NDArray[np.float64]) -> float:
    skewness = float((winning**3).sum() / (winning**2).sum())
    return typical_size(winning) + max(0.0, -skewness)


def _far_end(values: NDArray[np.float64], worst: float, chance: float) -> float:
    """Return the lower bound of the mean with -`worst` as the value that was not seen."""
    mean = math.fsum(values) / len(values)
    return mean_below(values, lambda at: -worst - at, chance, -worst, mean)
