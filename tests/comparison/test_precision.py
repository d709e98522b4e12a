"""The split of the noise and what follows from it, against populations whose variances are known."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from ibft.comparison import ALPHA, Difference, Scores, compare_pair, needed_problems, needed_samples, p_value
from ibft.statistics.pass_at_k import Count


def compared(rates_a: np.ndarray, rates_b: np.ndarray, num_samples: int, seed: int = 0) -> Difference:
    rng = np.random.default_rng(seed)
    sides = [
        Scores.of_counts(
            {f"t/{i}": Count(num_samples, int(passed)) for i, passed in enumerate(rng.binomial(num_samples, rates))}
        )
        for rates in (rates_a, rates_b)
    ]
    found = compare_pair("a", sides[0], "b", sides[1])
    assert isinstance(found, Difference)
    return found


def test_the_noise_is_split_into_problems_and_samples() -> None:
    rng = np.random.default_rng(1)
    rates = rng.uniform(0.2, 0.6, 4_000)
    shifts = rng.uniform(-0.15, 0.35, 4_000)
    precision = compared(rates + shifts, rates, 4).precision
    within = float(np.mean((rates + shifts) * (1 - rates - shifts) + rates * (1 - rates))) / 4
    assert precision.variance_within == pytest.approx(within, rel=0.05)
    assert precision.variance_between == pytest.approx(0.5**2 / 12, abs=0.008)
    assert precision.standard_error == pytest.approx(math.sqrt((within + 0.5**2 / 12) / 4_000), rel=0.05)


def test_twice_the_samples_narrow_it_as_the_split_foretells() -> None:
    rng = np.random.default_rng(2)
    rates = rng.beta(0.5, 0.5, 4_000)
    others = np.clip(rates + rng.normal(0.05, 0.1, 4_000), 0, 1)
    few, many = compared(others, rates, 4).precision, compared(others, rates, 8).precision
    assert few.narrowed_by_samples == pytest.approx(1 - many.standard_error / few.standard_error, abs=0.02)
    assert few.narrowed_by_problems == pytest.approx(1 - 1 / math.sqrt(2))


def test_one_sample_cannot_tell_problems_from_samples() -> None:
    precision = compared(np.full(40, 0.5), np.full(40, 0.4), 1).precision
    assert (precision.variance_between, precision.variance_within, precision.narrowed_by_samples) == (None,) * 3
    assert math.isnan(needed_samples(precision, 0.1, 1))
    assert needed_problems(precision, 0.1, 40) > 40


@pytest.mark.parametrize(("num_problems", "num_samples"), [(20, 5), (80, 1), (80, 5), (164, 1)])
def test_the_minimum_detectable_difference_is_found_in_four_of_five_runs(num_problems: int, num_samples: int) -> None:
    rng = np.random.default_rng(3)
    rates = rng.uniform(0.1, 0.5, num_problems)
    detectable = np.median(
        [compared(rates, rates, num_samples, seed).precision.minimum_detectable or 1 for seed in range(20)]
    )
    found = 0
    for _ in range(300):
        sample = rng.uniform(0.1, 0.5, num_problems)
        won, lost = rng.binomial(num_samples, sample + detectable), rng.binomial(num_samples, sample)
        found += p_value((won - lost) / num_samples) <= ALPHA
    assert 0.7 <= found / 300 <= 0.93


def test_what_is_needed_follows_from_the_split() -> None:
    found = compared(np.linspace(0.3, 0.7, 60), np.linspace(0.28, 0.68, 60), 5)
    precision = found.precision
    assert precision.minimum_detectable is not None
    assert needed_problems(precision, precision.minimum_detectable, 60) == pytest.approx(60)
    assert needed_problems(precision, precision.minimum_detectable / 2, 60) == pytest.approx(240)
    assert needed_samples(precision, precision.minimum_detectable, 5) == pytest.approx(5)
    assert needed_problems(precision, 0.0, 60) == math.inf
    # The noise between problems is left however many samples are taken.
    noisy = msgspec.structs.replace(precision, variance_between=0.01)
    assert needed_samples(noisy, 1e-6, 5) == math.inf


def test_too_few_problems_detect_nothing() -> None:
    assert compared(np.ones(5), np.zeros(5), 5).precision.minimum_detectable is None
    none_differs = compared(np.ones(40), np.ones(40), 5).precision
    assert none_differs.standard_error == 0
    assert none_differs.minimum_detectable == pytest.approx(1.3 * 6 / 40)
    assert none_differs.narrowed_by_samples is None
