"""The mean of a table of differences, training seeds by problems, where both are drawn from many.

    d_sp = mu + a_s + b_p + e_sp

a: what one seed changes in all problems; b: what one problem changes at all seeds; e: the rest, with the noise of the
samples that each d averages. The mean of S seeds and P problems has the variance

    var(a) / S + var(b) / P + var(e) / (S P) = E[MS_seeds + MS_problems - MS_rest] / (S P)

in mean squares of the two-way analysis of variance. Three standard errors come of them, each with its degrees of
freedom: that sum's (Satterthwaite 1946), and those of the means by seed and by problem alone. The widest of the three
intervals is taken. Satterthwaite's alone holds the truth in as little as 92% of cases with three seeds, and the wider
one of the other two in 90% with ten: `benchmarks/seeds.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ibft.statistics.interval import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Crossed", "Parts", "cross"]


class Parts(NamedTuple):
    """Variances: between seeds, between problems, of the rest at one seed and problem, and its part by sampling.

    Estimates without bias, and 0 where that is below 0. `samples` is NaN where it is unknown: one sample per problem.
    """

    seeds: float
    problems: float
    rest: float
    samples: float

    def reach(self, num_seeds: int, num_problems: int, samples_factor: float = 1.0, alpha: float = 0.05) -> float:
        """Return the half width to expect of so many seeds and problems, with `samples_factor` times the samples."""
        rest = self.rest if samples_factor == 1 else self.rest + self.samples * (1 / samples_factor - 1)
        seeds, problems = num_problems * self.seeds + rest, num_seeds * self.problems + rest
        return _reach(_errors(seeds, problems, rest, num_seeds, num_problems), alpha)


class Crossed(NamedTuple):
    """The mean of a table, and all that its interval needs: three standard errors with their degrees of freedom."""

    value: float
    errors: tuple[tuple[float, float], ...]
    parts: Parts
    num_seeds: int
    num_problems: int

    def interval(self, alpha: float = 0.05) -> Interval:
        """Return the interval at confidence 1 - alpha; of width 0 where all differences are equal."""
        reach = _reach(self.errors, alpha)
        return Interval(self.value - reach, self.value + reach)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of "the mean is 0": at most alpha exactly where the interval leaves 0 out."""
        from scipy.special import stdtr

        if self.value == 0:
            return 1.0
        return max(
            2 * float(stdtr(degrees, -abs(self.value) / error)) if error > 0 else 0.0 for error, degrees in self.errors
        )

    def minimum_detectable(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """Return the true difference that tables of this shape and noise separate from 0 with this power."""
        from scipy.special import stdtrit

        return max(
            error * float(stdtrit(degrees, 1 - alpha / 2) + stdtrit(degrees, power)) for error, degrees in self.errors
        )


def cross(differences: NDArray[np.float64], sampling_variances: NDArray[np.float64] | None = None) -> Crossed:
    """Analyze a table of differences.

    Args:
        differences: shape (S, P), S and P at least 2.
        sampling_variances: shape (S, P), of each difference over other samples of its problem; None or NaN where
            unknown.

    Raises:
        ValueError: there are fewer than two seeds or problems.
    """
    num_seeds, num_problems = differences.shape
    if min(num_seeds, num_problems) < 2:
        raise ValueError(f"differences has the shape {differences.shape}: give at least two seeds and two problems")
    mean = float(differences.mean())
    by_seed, by_problem = differences.mean(1), differences.mean(0)
    rest = differences - by_seed[:, None] - by_problem + mean
    seeds = num_problems * float(by_seed.var(ddof=1))
    problems = num_seeds * float(by_problem.var(ddof=1))
    within = float((rest**2).sum()) / ((num_seeds - 1) * (num_problems - 1))
    errors = _errors(seeds, problems, within, num_seeds, num_problems)
    samples = math.nan if sampling_variances is None else float(sampling_variances.mean())
    parts = Parts(
        seeds=max(0.0, (seeds - within) / num_problems),
        problems=max(0.0, (problems - within) / num_seeds),
        rest=within,
        samples=samples if math.isnan(samples) else min(within, samples),  # `min` would drop a NaN
    )
    return Crossed(mean, errors, parts, num_seeds, num_problems)


def _errors(
    seeds: float, problems: float, rest: float, num_seeds: int, num_problems: int
) -> tuple[tuple[float, float], ...]:
    """Return the standard errors of a mean and their degrees of freedom, from the three mean squares."""
    size = num_seeds * num_problems
    freedom = (num_seeds - 1.0, num_problems - 1.0, (num_seeds - 1.0) * (num_problems - 1.0))
    errors = [(math.sqrt(seeds / size), freedom[0]), (math.sqrt(problems / size), freedom[1])]
    # Each of the first two estimates a part of the sum, which cannot be less.
    total = max(seeds + problems - rest, seeds, problems)
    spread = sum(square**2 / degrees for square, degrees in zip((seeds, problems, rest), freedom, strict=True))
    if spread > 0:
        errors.append((math.sqrt(total / size), max(total**2 / spread, freedom[0])))
    return tuple(errors)


def _reach(errors: Iterable[tuple[float, float]], alpha: float) -> float:
    from scipy.special import stdtrit

    return max(error * float(stdtrit(degrees, 1 - alpha / 2)) for error, degrees in errors)
