import math

import numpy as np
import pytest

from ibft.metrics.uncertainty import auroc_interval, bootstrap_means, paired_difference


def resampled_one_by_one(values: list[float], num_resamples: int, seed: int) -> tuple[float, float]:
    """The plain bootstrap: draw P problems with replacement, take the mean, again and again."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(values, size=len(values)).mean() for _ in range(num_resamples)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def test_agrees_with_plain_resampling() -> None:
    values = list(np.random.default_rng(1).beta(0.5, 1.5, size=100))
    [interval] = bootstrap_means([values], num_resamples=20_000, seed=3)
    assert interval == pytest.approx(resampled_one_by_one(values, 20_000, 4), abs=0.003)


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        [interval] = bootstrap_means([rng.binomial(1, 0.3, size=120)], num_resamples=500, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 300 <= 0.985


def test_same_seed_same_interval_and_another_seed_another() -> None:
    values = list(np.linspace(0, 1, 30))
    first = bootstrap_means([values], num_resamples=500, seed=7)
    assert bootstrap_means([values], num_resamples=500, seed=7) == first
    assert bootstrap_means([values], num_resamples=500, seed=8) != first


def test_metrics_share_their_resamples() -> None:
    values = np.linspace(0, 1, 30)
    alone = bootstrap_means([values], num_resamples=500)
    together = bootstrap_means([1 - values, values], num_resamples=500)
    assert together[1] == pytest.approx(alone[0])
    assert together[0].low == pytest.approx(1 - together[1].high)


def test_an_undefined_problem_makes_only_its_metric_undefined() -> None:
    undefined, defined = bootstrap_means([[0.5, math.nan, 1.0], [0.0, 1.0, 1.0]], num_resamples=200)
    assert all(math.isnan(end) for end in undefined)
    assert 0 <= defined.low < defined.high <= 1


def test_chunks_do_not_repeat_their_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.linspace(0, 1, 50))
    whole = bootstrap_means([values], num_resamples=2_000)
    monkeypatch.setattr("ibft.metrics.uncertainty._CHUNK_CELLS", 1_000)
    assert bootstrap_means([values], num_resamples=2_000) == whole


def test_no_problems_is_undefined() -> None:
    assert all(math.isnan(end) for end in bootstrap_means([[]])[0])


def test_pairing_is_tighter_than_the_arms_own_intervals() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.uniform(0, 0.9, size=100)
    better = difficulty + rng.uniform(0.02, 0.08, size=100)
    difference = paired_difference(better, difficulty, num_resamples=2_000)
    assert difference.value == pytest.approx(float(np.mean(better - difficulty)))
    assert 0 < difference.interval.low < difference.value < difference.interval.high < 0.08
    [own] = bootstrap_means([difficulty], num_resamples=2_000)
    assert difference.interval.high - difference.interval.low < (own.high - own.low) / 5


def test_equal_arms_differ_by_exactly_zero() -> None:
    assert paired_difference([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], num_resamples=100) == (0.0, (0.0, 0.0))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="2 and 1 problems"):
        paired_difference([0, 1], [0])
    with pytest.raises(ValueError, match="num_resamples is 0"):
        bootstrap_means([[0, 1]], num_resamples=0)
    with pytest.raises(ValueError, match="same problems"):
        bootstrap_means([[0, 1], [0]])


def test_auroc_interval_agrees_with_counting_pairs_in_each_resample() -> None:
    lower, higher = [1.0, 2.0, 2.0, 5.0], [2.0, 3.0, 4.0]
    interval = auroc_interval(lower, higher, num_resamples=400, seed=1)
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20_000):
        a, b = rng.choice(lower, 4), rng.choice(higher, 3)
        areas.append(np.mean((a[:, None] < b) + (a[:, None] == b) / 2))
    low, high = np.percentile(areas, [2.5, 97.5])
    assert interval.low == pytest.approx(low, abs=0.06)
    assert interval.high == pytest.approx(high, abs=0.03)


def test_auroc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        lower, higher = rng.normal(0, 1, 40), rng.normal(1, 1, 60)
        interval = auroc_interval(lower.tolist(), higher.tolist(), num_resamples=300, seed=trial)
        covered += interval.low <= 0.760 <= interval.high  # Phi(1 / sqrt 2)
    assert 0.88 <= covered / 200 <= 0.99


def test_auroc_interval_is_seeded_and_undefined_without_values() -> None:
    assert auroc_interval([1, 2], [2, 3], seed=5) == auroc_interval([1, 2], [2, 3], seed=5)
    assert all(math.isnan(end) for end in auroc_interval([], [1.0]))
    assert auroc_interval([0.0] * 5, [1.0] * 5) == (1, 1)
    with pytest.raises(ValueError, match="num_resamples"):
        auroc_interval([1.0], [1.0], num_resamples=0)
