"""How sure a mean over problems is: seeded percentile bootstrap over problems.

The problems are resampled, not the samples: the question is how the score would change on other problems of
the same kind. The error of estimating each problem from few samples is inside that variation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Difference", "Interval", "auroc_interval", "bootstrap_means", "paired_difference"]

_CHUNK_CELLS = 4_000_000  # resamples x problems held at once: 32 MB


class Interval(NamedTuple):
    """A 95% interval; both ends are NaN where the value is undefined."""

    low: float
    high: float


class Difference(NamedTuple):
    """Mean of (a - b) over the same problems, with its 95% interval; positive where `a` is better."""

    value: float
    interval: Interval


def bootstrap_means(
    metrics: Sequence[Sequence[float]], *, num_resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """95% percentile intervals of each metric's mean over problems.

    Args:
        metrics: M sequences of P values, one value a problem. All share the resampled problems, so the M
            intervals can be compared. A metric with a NaN has NaN for its interval.
        num_resamples: bootstrap resamples.
        seed: of `numpy.random.default_rng`; equal seeds give equal intervals.

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
    means_RM = _resampled_means(values_PM, num_resamples, seed)
    low_M, high_M = np.percentile(means_RM, [2.5, 97.5], axis=0)
    return [Interval(float(low), float(high)) for low, high in zip(low_M, high_M, strict=True)]


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0
) -> Difference:
    """How much better arm `a` is than arm `b` on the same problems, in the same order.

    Resampling whole problems keeps each problem's pair together, so difficulty that both arms share cancels.
    NaN where either arm has an undefined problem.

    Raises:
        ValueError: the arms differ in length, or num_resamples < 1.
    """
    if len(a) != len(b):
        raise ValueError(f"the arms have {len(a)} and {len(b)} problems: pair them on the same problems first")
    differences = [left - right for left, right in zip(a, b, strict=True)]
    [interval] = bootstrap_means([differences], num_resamples=num_resamples, seed=seed)
    return Difference(math.fsum(differences) / len(differences) if differences else math.nan, interval)


def auroc_interval(
    lower: Sequence[float], higher: Sequence[float], *, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """95% percentile interval of P(a value of `lower` < one of `higher`) + half of P(equal).

    Both samples are resampled, each for itself. NaN where either is empty.

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
    chunk = max(1, _CHUNK_CELLS // len(places))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        lower_RU = _resampled_counts(places[: len(lower)], len(different_U), size, rng)
        higher_RU = _resampled_counts(places[len(lower) :], len(different_U), size, rng)
        below_RU = np.cumsum(lower_RU, axis=1) - lower_RU / 2
        areas.append((below_RU * higher_RU).sum(axis=1) / (len(lower) * len(higher)))
    low, high = np.percentile(np.concatenate(areas), [2.5, 97.5])
    return Interval(float(low), float(high))


def _resampled_counts(
    places: NDArray[np.int64], num_places: int, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """How often each place is drawn in each of R draws of all values with replacement: shape R x places."""
    import numpy as np

    draws_RN = places[rng.integers(len(places), size=(num_resamples, len(places)))]
    draws_RN = draws_RN + np.arange(num_resamples)[:, None] * num_places
    return np.bincount(draws_RN.ravel(), minlength=num_resamples * num_places).reshape(num_resamples, num_places)


def _resampled_means(values_PM: NDArray[np.float64], num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of each metric over `num_resamples` draws of P problems with replacement: shape R x M.

    How often each problem is drawn is counted once, so that one product of counts and values gives all the means.
    """
    import numpy as np

    num_problems = len(values_PM)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // num_problems)
    means = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        draws_RP = rng.integers(num_problems, size=(size, num_problems))
        # A range of its own for each resample's problems: one count then serves all resamples.
        draws_RP += np.arange(size)[:, None] * num_problems
        counts_RP = np.bincount(draws_RP.ravel(), minlength=size * num_problems).reshape(size, num_problems)
        means.append(counts_RP @ values_PM / num_problems)
    return np.concatenate(means)
