"""The chance that a randomly weighted sum is not positive, against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ibft.statistics.bounds import chance_not_positive, mean_below


@pytest.mark.parametrize(("won", "lost"), [(7, 1), (1, 0), (2, 3), (40, 10), (100, 30), (164, 0), (3, 3)])
def test_of_equal_sizes_it_is_a_tail_of_fair_coins(won: int, lost: int) -> None:
    values = np.array([0.3] * won + [-0.3] * lost)
    # Gamma(won) <= Gamma(lost + 1): of won + lost coins at least `won` are heads.
    assert chance_not_positive(values, -0.3) == pytest.approx(stats.binom.sf(won - 1, won + lost, 0.5), rel=1e-7)


@pytest.mark.parametrize(("ones", "num", "mean"), [(3, 10, 0.3), (20, 40, 0.3), (5, 5, 0.7), (1, 164, 0.001)])
def test_of_zeros_and_ones_it_is_a_beta_tail(ones: int, num: int, mean: float) -> None:
    values = np.array([1.0] * ones + [0.0] * (num - ones)) - mean
    expected = stats.beta.cdf(mean, ones, num - ones + 1)
    assert chance_not_positive(values, -mean) == pytest.approx(expected, rel=1e-7)


def test_of_any_values_it_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        values, unseen = rng.normal(0.1, 0.4, 15), -0.3
        sums = rng.exponential(size=(200_000, 16)) @ np.append(values, unseen)
        assert chance_not_positive(values, unseen) == pytest.approx((sums <= 0).mean(), abs=0.005)


def test_of_one_sign_it_is_certain() -> None:
    assert chance_not_positive(np.array([0.1, 0.2]), 0.0) == 0.0
    assert chance_not_positive(np.array([-0.1, 0.0]), -0.2) == 1.0


@pytest.mark.parametrize(("ones", "num"), [(0, 5), (1, 20), (7, 20), (20, 20)])
def test_the_bound_of_a_share_is_clopper_and_pearsons(ones: int, num: int) -> None:
    values = np.array([1.0] * ones + [0.0] * (num - ones))
    exact = stats.binomtest(ones, num).proportion_ci().low
    share = ones / num
    assert mean_below(values, lambda at: -at, 0.025, 0.0, share) == pytest.approx(exact, abs=1e-6)
