"""The exact sign-flip test against enumeration and SciPy's binomial test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ibft.comparison import sign_flip_p


def enumerated(differences: np.ndarray) -> float:
    """Twice the share of all signs whose sum is at least the data's, by trying each of them."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
    sums = signs @ np.abs(differences)
    return min(1.0, 2 * float((sums >= abs(differences.sum()) - 1e-9).mean()))


def test_one_sample_per_problem_is_mcnemars_exact_test() -> None:
    for won, lost in itertools.product(range(12), repeat=2):
        differences = np.array([1.0] * won + [-1.0] * lost + [0.0] * 5)
        expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert sign_flip_p(differences) == pytest.approx(expected, rel=1e-12)
    assert sign_flip_p(np.array([1.0] * 7 + [-1.0] + [0.0] * 72)) == 0.0703125


@pytest.mark.parametrize("num_samples", [2, 5, 7, 20])
def test_several_samples_equal_the_enumeration_of_all_signs(num_samples: int) -> None:
    rng = np.random.default_rng(num_samples)
    for _ in range(20):
        a, b = rng.binomial(num_samples, rng.random((2, 10)))
        differences = a / num_samples - b / num_samples
        assert sign_flip_p(differences) == pytest.approx(enumerated(differences), rel=1e-12)


def test_unequal_numbers_of_samples_have_a_common_denominator() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        differences = rng.integers(0, 4, 10) / 3 - rng.integers(0, 8, 10) / 7
        assert sign_flip_p(differences) == pytest.approx(enumerated(differences), rel=1e-12)


def test_values_without_a_common_denominator_are_rounded_to_a_fine_grid() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        differences = rng.random(12) - 0.3
        assert sign_flip_p(differences) == pytest.approx(enumerated(differences), abs=2e-3)


def test_a_tiny_p_keeps_its_digits() -> None:
    assert sign_flip_p(np.ones(164)) == pytest.approx(2.0**-163, rel=1e-12)
    won, lost = 90, 20
    differences = np.array([1.0] * won + [-1.0] * lost)
    assert sign_flip_p(differences) == pytest.approx(stats.binomtest(won, won + lost).pvalue, rel=1e-9)


def test_turning_the_arms_changes_nothing_and_no_difference_is_no_evidence() -> None:
    differences = np.array([0.2, 0.4, -0.2, 0.6, 0.0])
    assert sign_flip_p(differences) == sign_flip_p(-differences)
    assert sign_flip_p(np.zeros(9)) == 1.0
    assert sign_flip_p(np.array([0.5, -0.5])) == 1.0
    # The mean is above 0 by rounding alone.
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1.0


def test_the_level_is_held_exactly_for_every_number_of_discordant_problems() -> None:
    for number in range(1, 40):
        chance = sum(
            math.comb(number, won)
            for won in range(number + 1)
            if sign_flip_p(np.array([1.0] * won + [-1.0] * (number - won))) <= 0.05
        )
        assert chance / 2**number <= 0.05
