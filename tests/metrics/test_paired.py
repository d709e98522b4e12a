import itertools
import math

import pytest

from ibft.metrics.paired import paired_test, sign_test


def enumerated(a: int, b: int) -> float:
    """The share of all outcomes of a + b fair coins that are split at least as unevenly as a : b."""
    outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=a + b)]
    return sum(abs(2 * heads - (a + b)) >= abs(a - b) for heads in outcomes) / len(outcomes)


def test_equals_the_enumeration_of_all_outcomes() -> None:
    for a, b in itertools.product(range(7), repeat=2):
        assert sign_test(a, b) == enumerated(a, b)


def test_a_textbook_value() -> None:
    # 5 against 15 discordant pairs: twice the binomial tail P(X <= 5), X ~ B(20, 1/2) = 21700 / 2^20.
    assert sign_test(5, 15) == pytest.approx(2 * 21_700 / 2**20, rel=1e-15)
    assert sign_test(0, 5) == 0.0625
    assert sign_test(0, 6) == 0.03125


def test_large_numbers() -> None:
    # The normal approximation with continuity correction, independent of binomial coefficients.
    z = (5_200 - 4_800 - 1) / math.sqrt(10_000)
    assert sign_test(4_800, 5_200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert 0 <= sign_test(0, 5_000) < 1e-300
    assert sign_test(5_000, 5_000) == 1.0


def test_no_difference_is_no_evidence() -> None:
    assert sign_test(0, 0) == 1.0
    assert paired_test([0.5, 1.0], [0.5, 1.0]) == (0, 0, 2, 1.0)


def test_is_mcnemars_test_for_single_samples_and_counts_differing_rates_otherwise() -> None:
    a = [1, 1, 1, 0, 0, 1]
    b = [0, 0, 0, 1, 0, 1]
    assert paired_test(a, b) == (3, 1, 2, sign_test(3, 1))
    assert paired_test([0.2, 0.4, 0.6], [0.3, 0.4, 0.1]) == (1, 1, 1, 1.0)


def test_an_undefined_problem_makes_it_undefined() -> None:
    assert math.isnan(paired_test([0.5, math.nan], [1.0, 1.0]).p_value)


def test_rejects_at_most_5_in_100_equal_pairs() -> None:
    # By exact summation over X ~ B(n, 1/2), for every n: the test is never liberal.
    for n in range(1, 60):
        rejected = sum(math.comb(n, x) for x in range(n + 1) if sign_test(x, n - x) <= 0.05)
        assert rejected / 2**n <= 0.05


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="-1 and 2"):
        sign_test(-1, 2)
    with pytest.raises(ValueError, match="2 and 1 problems"):
        paired_test([0, 1], [0])
