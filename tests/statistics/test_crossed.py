"""The mean of seeds by problems: against the textbook, and what its intervals hold in simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ibft.statistics.crossed import Parts, cross


def test_the_mean_squares_are_those_of_the_textbook() -> None:
    table = np.array([[1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 5.0, 7.0], [0.0, 3.0, 4.0, 9.0]])
    found = cross(table)
    assert found.value == pytest.approx(table.mean())
    grand, rows, columns = table.mean(), table.mean(1), table.mean(0)
    seeds = 4 * ((rows - grand) ** 2).sum() / 2
    problems = 3 * ((columns - grand) ** 2).sum() / 3
    rest = ((table - rows[:, None] - columns + grand) ** 2).sum() / 6
    assert found.parts.rest == pytest.approx(rest)
    assert found.parts.seeds == pytest.approx(max(0.0, (seeds - rest) / 4))
    assert found.parts.problems == pytest.approx((problems - rest) / 3)
    total = max(seeds + problems - rest, seeds, problems)
    freedom = total**2 / (seeds**2 / 2 + problems**2 / 3 + rest**2 / 6)
    expected = max(
        stats.t.ppf(0.975, 2) * math.sqrt(seeds / 12),
        stats.t.ppf(0.975, 3) * math.sqrt(problems / 12),
        stats.t.ppf(0.975, max(freedom, 2)) * math.sqrt(total / 12),
    )
    low, high = found.interval()
    assert (low, high) == (pytest.approx(grand - expected), pytest.approx(grand + expected))


def test_where_only_seeds_differ_it_is_the_t_test_of_their_means() -> None:
    means = np.array([0.02, 0.05, 0.03, 0.01])
    found = cross(np.repeat(means[:, None], 50, axis=1))
    expected = stats.ttest_1samp(means, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()))
    assert found.parts.seeds == pytest.approx(means.var(ddof=1))
    assert (found.parts.problems, found.parts.rest) == (0, pytest.approx(0))


def test_test_and_interval_never_disagree() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        found = cross(rng.normal(rng.normal(0, 0.1), 0.3, (int(rng.integers(2, 6)), int(rng.integers(2, 40)))))
        for alpha in (0.05, 0.01):
            low, high = found.interval(alpha)
            assert (low <= 0 <= high) == (found.p_value > alpha)


def test_equal_tables_show_nothing() -> None:
    found = cross(np.zeros((3, 20)))
    assert (found.value, found.p_value, found.interval()) == (0, 1, (0, 0))
    with pytest.raises(ValueError, match="two seeds"):
        cross(np.zeros((1, 20)))


def test_what_more_of_each_would_bring() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(0, 1, (5, 40)) + rng.normal(0, 1, 40) + rng.normal(0, 1, (5, 1))
    found = cross(table, np.full((5, 40), 0.5))
    parts = found.parts
    assert parts.seeds > 0  # else the expected table is not this one
    low, high = found.interval()
    assert parts.reach(5, 40) == pytest.approx((high - low) / 2)
    # Of 1,000 seeds the problems are left, and of many samples what they did not bring.
    assert parts.reach(1000, 40) == pytest.approx(stats.t.ppf(0.975, 39) * math.sqrt(parts.problems / 40), rel=0.02)
    fewer = Parts(parts.seeds, parts.problems, parts.rest - 0.5, 0.0)
    assert parts.reach(5, 40, samples_factor=1e9) == pytest.approx(fewer.reach(5, 40))
    for unknown in (None, np.full((5, 40), math.nan)):
        assert math.isnan(cross(table, unknown).parts.samples)
        assert math.isnan(cross(table, unknown).parts.reach(5, 40, samples_factor=2))


def drawn(
    rng: np.random.Generator, shape: tuple[int, int, int], num_samples: int, seed: float, problem: float, both: float
) -> NDArray[np.float64]:
    """Differences of pass rates of two arms whose means are equal: shape (studies, seeds, problems), in logits."""
    studies, seeds, problems = shape
    level = rng.normal(0, 1.5, (studies, 1, problems))
    lead = (
        rng.normal(0, seed, (studies, seeds, 1))
        + rng.normal(0, problem, (studies, 1, problems))
        + rng.normal(0, both, shape)
    )
    a, b = (rng.binomial(num_samples, 1 / (1 + np.exp(-level - side * lead / 2))) for side in (1, -1))
    return (a - b) / num_samples


SHARES = [(0, 0, 0), (0, 1, 0), (0.5, 0, 0), (0.5, 0.5, 0.5), (1, 1, 0), (0, 0, 1), (0.2, 1, 0.5), (1, 0, 0)]


def held(seeds: int, problems: int, num_samples: int, studies: int) -> dict[tuple[float, float, float], float]:
    """The share of studies whose interval holds the truth, 0, for each mixture of variances."""
    rng = np.random.default_rng(seeds * problems + num_samples)
    shares = {}
    for spreads in SHARES:
        tables = drawn(rng, (studies, seeds, problems), num_samples, *spreads)
        shares[spreads] = float(np.mean([cross(table).p_value > 0.05 for table in tables]))
    return shares


@pytest.mark.parametrize(("seeds", "problems", "num_samples"), [(3, 20, 10), (3, 80, 1), (10, 40, 10)])
def test_intervals_hold_the_truth(seeds: int, problems: int, num_samples: int) -> None:
    # Within chance of 94%: a share of 600 has a standard error of one point.
    assert min(held(seeds, problems, num_samples, 600).values()) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("problems", [20, 80, 164])
@pytest.mark.parametrize("num_samples", [1, 10])
def test_intervals_hold_the_truth_in_every_cell(seeds: int, problems: int, num_samples: int) -> None:
    found = held(seeds, problems, num_samples, 4000)
    assert min(found.values()) >= 0.94 - 2.5 * math.sqrt(0.05 * 0.95 / 4000), found
