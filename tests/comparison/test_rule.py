"""Test and interval are one rule: they agree at every level, and with McNemar's test and exact bounds at the ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rule_cells as cells
from scipy import stats

from ibft.comparison import ALPHA, interval, p_value, sign_flip_p


def discordant(won: int, lost: int, num: int = 80) -> np.ndarray:
    return np.array([1.0] * won + [-1.0] * lost + [0.0] * (num - won - lost))


def test_seven_better_and_one_worse_of_eighty_is_not_separated() -> None:
    differences = discordant(7, 1)
    p = p_value(differences)
    low, high = interval(differences, p)
    assert p == 0.0703125
    assert low < 0 < 0.075 < high


def test_one_sample_per_problem_is_mcnemars_test_exactly() -> None:
    for won, lost in ((6, 0), (9, 2), (30, 12), (0, 3), (1, 0), (2, 11)):
        assert p_value(discordant(won, lost)) == pytest.approx(stats.binomtest(won, won + lost).pvalue, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 45])
def test_the_interval_holds_zero_exactly_where_the_test_does_not_reject(alpha: float) -> None:
    rng = np.random.default_rng(0)
    decisions = []
    for number in range(120):
        num_samples, num_problems = rng.choice([1, 2, 5, 20]), rng.integers(5, 60)
        rates = rng.beta(0.5, 0.8, num_problems)
        shift = rng.choice([0.0, 0.15, 0.4])
        better = np.clip(rates + shift * rng.random(num_problems), 0, 1)
        differences = (rng.binomial(num_samples, better) - rng.binomial(num_samples, rates)) / num_samples
        differences *= (-1) ** number
        p = p_value(differences)
        low, high = interval(differences, p, alpha)
        assert (low <= 0 <= high) == (p > alpha)
        assert -1 <= low <= differences.mean() <= high <= 1
        decisions.append(p <= alpha)
    assert 0.05 < np.mean(decisions) < 0.95


def test_at_the_edge_of_the_level_test_and_interval_agree() -> None:
    for won, lost in ((11, 0), (12, 2), (6, 0), (20, 8)):
        differences = discordant(won, lost)
        p = p_value(differences)
        for alpha in (p, p * (1 - 1e-12)):
            low, _ = interval(differences, p, alpha)
            assert (low > 0) == (p <= alpha)


def test_turning_the_arms_turns_the_interval() -> None:
    differences = np.array([0.4, 0.2, -0.2, 0.6, 0.8, 0.2, 0.2, 0.4])
    p = p_value(differences)
    low, high = interval(differences, p)
    assert p_value(-differences) == p
    assert interval(-differences, p) == (-high, -low)


@pytest.mark.parametrize("num", [1, 5, 20, 164])
def test_arms_that_agree_everywhere_are_not_called_equal(num: int) -> None:
    low, high = interval(np.zeros(num), 1.0)
    assert high == pytest.approx(stats.binomtest(0, num).proportion_ci().high, abs=1e-6)
    assert low == -high


def test_a_wider_confidence_is_a_wider_interval() -> None:
    differences = (np.random.default_rng(3).binomial(5, 0.5, 60) - 2) / 5
    p = p_value(differences)
    intervals = [interval(differences, p, alpha) for alpha in (0.2, 0.05, 0.01, 0.001)]
    for (low, high), (wider_low, wider_high) in itertools.pairwise(intervals):
        assert wider_low <= low
        assert high <= wider_high


def test_skewed_differences_are_not_taken_for_a_gain() -> None:
    # 39 problems are lost by a little and 3 won by much: signs alone would call it a loss.
    differences = np.array([-0.15] * 39 + [0.75] * 3)
    differences[:39] += np.tile([-0.05, 0.0, 0.05], 13)
    assert sign_flip_p(differences) < 0.05 < p_value(differences)


def test_fewer_than_six_differing_problems_never_separate() -> None:
    for num in range(1, 6):
        for value in (1.0, 0.05):
            assert p_value(np.array([value] * num + [0.0] * 100)) > ALPHA


TOLERANCE = 3.5
"""Standard errors of a simulated share; over about 50 cells a rule exactly at its bound crosses it with 1%."""


def most(share: float, num_draws: int) -> float:
    return share + TOLERANCE * (share * (1 - share) / num_draws) ** 0.5


@pytest.mark.parametrize("num_samples", [1, 5, 20])
def test_equal_arms_are_separated_in_at_most_five_of_a_hundred_draws(num_samples: int) -> None:
    for population in (cells.EXCHANGEABLE[3], cells.EQUAL_MEANS[1], cells.EQUAL_MEANS[5]):
        rate = cells.false_positives(population, 40, num_samples, 500, seed=1)
        assert rate <= most(0.05, 500), population.name


def test_a_family_of_equal_arms_is_separated_in_at_most_five_of_a_hundred_draws() -> None:
    assert 0 < cells.familywise(2, 40, 5, 300, seed=0) <= most(0.05, 300)
    assert cells.familywise(6, 30, 1, 300, seed=0) <= most(0.05, 300)


@pytest.mark.parametrize("num_samples", [1, 5])
def test_the_interval_covers_the_truth(num_samples: int) -> None:
    for population in (cells.UNEQUAL[0], cells.UNEQUAL[5]):
        covered = cells.coverage(population, 20, num_samples, 300, seed=1)
        assert covered >= 1 - most(0.06, 300), population.name


def test_little_power_is_lost_against_the_bare_sign_flip_test() -> None:
    for population in cells.better_arms(40, 5):
        rule, exact = cells.powers(population, 40, 5, 200, seed=1)
        assert 0.2 < exact < 0.99, population.name
        assert rule >= exact - 0.02, population.name


LONG = [
    pytest.param(population, num_problems, num_samples, id=f"{population.name}-{num_problems}-{num_samples}")
    for population in cells.EXCHANGEABLE + cells.EQUAL_MEANS
    for num_problems in (5, 10, 20, 40, 80, 164)
    for num_samples in (1, 5, 20)
    if cells.is_tail_seen(population, num_problems, num_samples)
]


@pytest.mark.slow
@pytest.mark.parametrize(("population", "num_problems", "num_samples"), LONG)
def test_false_positives_cell_by_cell(population: cells.Population, num_problems: int, num_samples: int) -> None:
    assert cells.false_positives(population, num_problems, num_samples, 1500, seed=7) <= most(0.05, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("num_arms", [2, 3, 5, 10])
@pytest.mark.parametrize(("num_problems", "num_samples"), [(20, 1), (80, 1), (20, 5)])
def test_familywise_errors_cell_by_cell(num_arms: int, num_problems: int, num_samples: int) -> None:
    assert cells.familywise(num_arms, num_problems, num_samples, 500, seed=7) <= most(0.05, 500)


@pytest.mark.slow
def test_coverage_cell_by_cell() -> None:
    shares = {}
    for population in cells.UNEQUAL:
        for num_problems, num_samples in ((5, 1), (5, 20), (20, 1), (20, 5), (20, 20), (80, 1), (80, 5), (164, 20)):
            key = (population.name, num_problems, num_samples)
            shares[key] = cells.coverage(population, num_problems, num_samples, 500, seed=7)
    assert min(shares.values()) >= 1 - most(0.06, 500), min(shares, key=shares.__getitem__)
    assert np.median(list(shares.values())) <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [1, 5, 20])
@pytest.mark.parametrize("num_problems", [10, 20, 80, 164])
def test_power_cell_by_cell(num_problems: int, num_samples: int) -> None:
    for population in cells.better_arms(num_problems, num_samples):
        rule, exact = cells.powers(population, num_problems, num_samples, 400, seed=7)
        assert rule >= exact - 0.02, population.name
