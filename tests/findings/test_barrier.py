import math

import numpy as np
import pytest

from ibft.findings.barrier import share_below_control


def test_the_threshold_leaves_5_percent_of_the_control_below_it() -> None:
    # The 5th percentile of 99 values is the fifth: 5 / (99 + 1).
    control = np.arange(1.0, 100.0)
    found = share_below_control([0.0, 4.9, 5.0, 6.0], control)
    assert (found.threshold, found.share) == (pytest.approx(5.0), 0.5)
    assert share_below_control(control, control).share == pytest.approx(4 / 99)


def test_equal_sets_have_an_interval_around_5_percent() -> None:
    rng = np.random.default_rng(0)
    found = share_below_control(rng.normal(size=4_000), rng.normal(size=4_000))
    assert found.interval.low < 0.05 < found.interval.high
    assert found.interval.high - found.interval.low < 0.025


def test_interval_agrees_with_a_bootstrap_of_both_sets() -> None:
    rng = np.random.default_rng(1)
    train, control = rng.normal(-0.6, 1, 400), rng.normal(0, 1, 250)
    shares = []
    for _ in range(4_000):
        threshold = np.quantile(rng.choice(control, 250), 0.05, method="weibull")
        shares.append(np.mean(rng.choice(train, 400) < threshold))
    found = share_below_control(train, control)
    assert found.interval == pytest.approx(np.percentile(shares, [2.5, 97.5]), abs=0.015)
    # Much wider than the share's own, which takes the threshold for granted.
    assert found.interval.high - found.interval.low > 1.5 * 2 * 1.96 * math.sqrt(found.share * (1 - found.share) / 400)


@pytest.mark.parametrize(("num", "shift"), [(50, 0.0), (100, 0.0), (100, 0.8), (1_000, 0.3)])
def test_covers_the_true_share_about_as_often_as_it_says(num: int, shift: float) -> None:
    rng = np.random.default_rng(2)
    truth = 0.5 * math.erfc((1.6448536 - shift) / math.sqrt(2))
    covered = 0
    for seed in range(200):
        interval = share_below_control(rng.normal(-shift, 1, num), rng.normal(0, 1, num), seed=seed).interval
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 200 <= 0.995


@pytest.mark.parametrize(("num", "shift"), [(100, 0.0), (400, 0.8)])
def test_covers_the_true_positives_at_1_percent_too(num: int, shift: float) -> None:
    rng = np.random.default_rng(4)
    truth = 0.5 * math.erfc((2.3263479 - shift) / math.sqrt(2))
    covered = 0
    for seed in range(200):
        found = share_below_control(rng.normal(-shift, 1, num), rng.normal(0, 1, num), at=0.01, seed=seed)
        covered += found.interval.low <= truth <= found.interval.high
    assert 0.90 <= covered / 200 <= 1
    # The 1st percentile of 99 values is the lowest of them.
    assert share_below_control([0.5, 0.9, 2.0, 3.0], np.arange(1.0, 100.0), at=0.01)[:2] == (pytest.approx(1.0), 0.5)


def test_files_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    covered = naive = 0
    groups = (np.repeat(np.arange(60), 10), np.repeat(np.arange(60, 120), 10))
    for seed in range(150):
        train, control = (np.repeat(rng.normal(0, 1, 60), 10) + rng.normal(0, 0.2, 600) for _ in range(2))
        interval = share_below_control(train, control, groups, seed=seed).interval
        plain = share_below_control(train, control, seed=seed).interval
        covered += interval.low <= 0.05 <= interval.high
        naive += plain.low <= 0.05 <= plain.high
    assert covered / 150 >= 0.88
    assert naive / 150 < 0.8


def test_edges() -> None:
    assert math.isnan(share_below_control([], [1.0]).share)
    assert math.isnan(share_below_control([1.0], []).threshold)
    equal = share_below_control([2.0] * 50, [2.0] * 50)
    assert (equal.threshold, equal.share, equal.interval.low) == (2.0, 0.0, 0.0)
    assert share_below_control([1.0], [2.0]).share == 1
    all_below = share_below_control(np.zeros(200), np.ones(200))
    assert all_below.share == all_below.interval.high == 1
    assert share_below_control([1.0, 2.0], [0.0, 3.0], seed=4) == share_below_control([1.0, 2.0], [0.0, 3.0], seed=4)
