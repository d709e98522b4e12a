import math

import numpy as np
import pytest

from ibft.statistics.ratios import change_interval
from ibft.statistics.uncertainty import (
    auroc,
    auroc_difference,
    auroc_interval,
    bootstrap_means,
    delong_interval,
    effective_size,
    wilson_interval,
)


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
    monkeypatch.setattr("ibft.statistics.uncertainty._CHUNK_CELLS", 1_000)
    assert bootstrap_means([values], num_resamples=2_000) == whole


def test_no_problems_is_undefined() -> None:
    assert all(math.isnan(end) for end in bootstrap_means([[]])[0])


def test_bad_arguments() -> None:
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
    assert auroc_interval([0.0] * 5, [1.0] * 7) == wilson_interval(5, 5)
    with pytest.raises(ValueError, match="num_resamples"):
        auroc_interval([1.0], [1.0], num_resamples=0)


def test_auroc_equals_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    lower, higher = rng.integers(10, size=40), rng.integers(3, 13, size=30)
    pairs = (lower[:, None] < higher) + (lower[:, None] == higher) / 2
    assert auroc(lower, higher) == pytest.approx(pairs.mean(), abs=1e-14)
    assert auroc([1.0], [1.0]) == 0.5
    assert math.isnan(auroc([], [1.0]))
    assert math.isnan(auroc([1.0], []))


def delong_by_hand(lower: np.ndarray, higher: np.ndarray) -> tuple[float, float]:
    """AUROC and variance from the whole matrix of comparisons (DeLong et al. 1988, equations 4 to 6)."""
    psi = (lower[:, None] < higher) + (lower[:, None] == higher) / 2
    variance = psi.mean(axis=1).var(ddof=1) / len(lower) + psi.mean(axis=0).var(ddof=1) / len(higher)
    return psi.mean(), variance


def test_delong_interval_equals_its_definition() -> None:
    rng = np.random.default_rng(3)
    lower, higher = rng.integers(10, size=50).astype(float), rng.integers(4, 14, size=70).astype(float)
    area, variance = delong_by_hand(lower, higher)
    student = 2.0095752  # 49 degrees of freedom
    logit, reach = math.log(area / (1 - area)), student * math.sqrt(variance) / (area * (1 - area))
    expected = [1 / (1 + math.exp(-end)) for end in (logit - reach, logit + reach)]
    assert delong_interval(lower, higher) == pytest.approx(expected, abs=1e-7)


def test_delong_interval_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(5)
    lower, higher = rng.normal(0, 1, 300), rng.gamma(2, 1, 500)
    bootstrap = auroc_interval(lower.tolist(), higher.tolist(), num_resamples=4_000)
    assert delong_interval(lower, higher) == pytest.approx(bootstrap, abs=0.004)


def test_auroc_difference_agrees_with_resampling_both_scores_together() -> None:
    rng = np.random.default_rng(6)
    common = rng.normal(0, 1, 700)
    a, b = common + rng.normal(0, 0.5, 700), common + rng.normal(0, 0.7, 700)
    a[300:] += 1
    b[300:] += 0.5
    difference = auroc_difference((a[:300], a[300:]), (b[:300], b[300:]))
    assert difference.value == pytest.approx(auroc(a[:300], a[300:]) - auroc(b[:300], b[300:]))
    resampled = []
    for _ in range(3_000):
        lower, higher = rng.integers(300, size=300), rng.integers(300, 700, size=400)
        resampled.append(auroc(a[lower], a[higher]) - auroc(b[lower], b[higher]))
    assert difference.interval == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.006)
    # Pairing matters: apart, the two intervals would allow for twice the error.
    alone = delong_interval(a[:300], a[300:])
    assert difference.interval.high - difference.interval.low < 0.8 * (alone.high - alone.low) * math.sqrt(2)


def in_files(rng: np.random.Generator, num_files: int, num_functions: int, mean: float) -> np.ndarray:
    """Scores that mostly depend on the file."""
    return (rng.normal(mean, 1, num_files)[:, None] + rng.normal(0, 0.3, (num_files, num_functions))).ravel()


def test_groups_widen_the_interval_to_what_resampling_files_gives() -> None:
    rng = np.random.default_rng(7)
    lower, higher = in_files(rng, 40, 10, 0), in_files(rng, 60, 10, 0.5)
    groups = (np.repeat(np.arange(40), 10), np.repeat(np.arange(40, 100), 10))
    resampled = []
    for _ in range(3_000):
        files, others = rng.integers(40, size=40), rng.integers(60, size=60)
        resampled.append(auroc(lower.reshape(40, 10)[files].ravel(), higher.reshape(60, 10)[others].ravel()))
    grouped, naive = delong_interval(lower, higher, groups), delong_interval(lower, higher)
    assert grouped == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.02)
    assert grouped.high - grouped.low > 2 * (naive.high - naive.low)


def test_a_group_on_both_sides_counts_as_one() -> None:
    rng = np.random.default_rng(8)
    files = rng.normal(0, 1, 50)
    lower, higher = files + rng.normal(0, 0.1, 50), files + rng.normal(0, 0.1, 50)
    codes = np.arange(50)
    shared = delong_interval(lower, higher, (codes, codes))
    apart = delong_interval(lower, higher)
    assert shared.high - shared.low < (apart.high - apart.low) / 3


def test_delong_interval_covers_the_truth_with_groups_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(9)
    groups = (np.repeat(np.arange(30), 5), np.repeat(np.arange(30, 60), 5))
    naive = covered = 0
    for _ in range(300):
        lower, higher = in_files(rng, 30, 5, 0), in_files(rng, 30, 5, 0)
        interval, plain = delong_interval(lower, higher, groups), delong_interval(lower, higher)
        covered += interval.low <= 0.5 <= interval.high
        naive += plain.low <= 0.5 <= plain.high
    assert 0.90 <= covered / 300 <= 0.985
    assert naive / 300 < 0.8


def test_delong_interval_at_its_ends() -> None:
    # No variance is seen: as sure as a share of so many.
    assert delong_interval([0.0, 1.0], [2.0, 3.0, 4.0]) == wilson_interval(2, 2)
    assert delong_interval([2.0, 2.0], [2.0, 2.0]) == wilson_interval(1, 2)
    assert delong_interval([0.0] * 9, [1.0] * 8, (np.arange(9) // 3, np.arange(8) + 9)) == wilson_interval(3, 3)
    high = delong_interval([0.0, 1.0, 4.0], [2.0, 3.0, 5.0, 6.0])
    assert 0 < high.low < 5 / 6 < high.high < 1
    for lower, higher in ([], [1.0]), ([1.0], [1.0, 2.0]), ([0.0], [1.0, 2.0]):
        assert all(math.isnan(end) for end in delong_interval(lower, higher))
    assert all(math.isnan(end) for end in delong_interval([1.0, 2.0], [1.0, 3.0], ([0, 0], [1, 2])))
    with pytest.raises(ValueError, match="same examples"):
        auroc_difference(([1.0], [2.0]), ([1.0, 2.0], [2.0]))
    same = auroc_difference(([1.0, 2.0], [2.0, 3.0]), ([1.0, 2.0], [2.0, 3.0]))
    reach = wilson_interval(0, 2).high
    assert same == (0.0, (pytest.approx(-reach), pytest.approx(reach)))
    for few in (([], []), ([1.0], [1.0, 2.0])):
        assert all(math.isnan(end) for end in auroc_difference(few, few).interval)


def test_wilson_interval_equals_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(20, 20).high == 1
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


def test_effective_size_is_the_number_of_files_where_each_file_is_of_one_kind() -> None:
    files = np.repeat(np.arange(50), 8)
    few = (1.965927 / 2.009575) ** 2  # Student's quantiles with 399 and 49 degrees of freedom
    assert effective_size(np.repeat(np.arange(50) % 3 == 0, 8), files) == pytest.approx(50 * few, rel=0.03)
    assert effective_size(np.tile(np.arange(8) < 3, 50), files) == pytest.approx(400 * few)
    assert effective_size(np.arange(400) % 7 == 0, np.arange(400)) == pytest.approx(400)
    assert effective_size(np.zeros(400, bool), files) == 50
    assert effective_size([True, False], [3, 3]) == 1
    assert effective_size([], []) == 0


def test_where_hardly_any_flag_is_set_the_lowest_values_tell_how_files_share_them() -> None:
    rng = np.random.default_rng(10)
    values = in_files(rng, 100, 10, 0)
    files = np.repeat(np.arange(100), 10)
    ordered = np.sort(values)
    sizes = [effective_size(values < ordered[count], files, values) for count in (0, 1, 2, 49)]
    assert sizes == pytest.approx([sizes[-1]] * 4, rel=0.05)
    assert 90 < sizes[0] < 300
    # Flags alone would say that one is as good as 1,000 independent ones.
    assert effective_size(values < ordered[1], files) > 900


@pytest.mark.parametrize("num_files", [10, 30])
def test_intervals_hold_for_few_files_of_unequal_size(num_files: int) -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(300):
        sides, codes = [], []
        for side in range(2):
            sizes = np.maximum(1, rng.lognormal(2.5, 1, num_files).astype(int))
            files = np.repeat(np.arange(num_files), sizes)
            sides.append(rng.normal(0, 0.55, num_files)[files] + rng.normal(0, 0.84, len(files)))
            codes.append(files + side * num_files)
        interval = delong_interval(sides[0], sides[1], (codes[0], codes[1]))
        covered += interval.low <= 0.5 <= interval.high
    assert covered / 300 >= 0.93


def test_the_mean_of_values_in_groups_is_covered() -> None:
    rng = np.random.default_rng(5)
    groups, covered, naive = np.repeat(np.arange(40), 5), 0, 0
    for _ in range(300):
        values = np.clip(np.repeat(rng.normal(0.1, 0.2, 40), 5) + rng.normal(0, 0.05, 200), -1, 1)
        low, high = change_interval(values, groups)
        covered += low <= 0.1 <= high
        low, high = change_interval(values, np.arange(200))
        naive += low <= 0.1 <= high
    assert 0.91 <= covered / 300 <= 0.99
    assert naive / 300 < 0.8  # as if examples of one file were independent


def test_the_mean_of_equal_values_is_not_certain_and_that_of_one_group_not_known() -> None:
    assert change_interval([0.0] * 100, range(100)) == pytest.approx((-0.037, 0.037), abs=1e-3)
    assert math.isnan(change_interval([0.1, 0.2], [0, 0]).low)
    assert math.isnan(change_interval([], []).low)
