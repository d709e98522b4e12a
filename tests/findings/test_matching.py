import time

import numpy as np
import pytest

from ibft.findings.matching import match_by_length
from ibft.statistics.uncertainty import auroc


def lengths_of(matches, train, control) -> list[tuple[int, int]]:
    return [(train[i], control[j]) for i, j in zip(matches.train, matches.control, strict=True)]


def test_equal_lengths_first_then_the_nearest_within_the_caliper() -> None:
    train, control = [100, 50, 105, 9, 300], [52, 100, 109, 10, 200]
    matches = match_by_length(train, control)
    # 9 and 10 differ by 11%, 300 and 200 by 50%.
    assert lengths_of(matches, train, control) == [(100, 100), (50, 52), (105, 109)]
    assert (matches.num_unmatched_train, matches.num_unmatched_control) == (2, 2)


def test_the_nearest_pair_goes_before_the_first_in_order() -> None:
    train, control = [100, 106], [105]
    assert lengths_of(match_by_length(train, control), train, control) == [(106, 105)]
    # 100 and 109 are left alone, and are then neighbors.
    assert lengths_of(match_by_length([100, 105], [106, 109]), [100, 105], [106, 109]) == [(100, 109), (105, 106)]


def test_the_caliper_includes_its_end() -> None:
    assert len(match_by_length([100], [110]).train) == 1
    assert len(match_by_length([110], [100]).train) == 1
    assert len(match_by_length([100], [111]).train) == 0


def test_no_example_occurs_twice_and_length_tells_nothing_afterwards() -> None:
    rng = np.random.default_rng(0)
    train = np.exp(rng.normal(4, 0.8, 6_000)).astype(int) + 1
    control = np.exp(rng.normal(4.6, 0.6, 1_500)).astype(int) + 1
    matches = match_by_length(train, control, seed=1)
    assert len(set(matches.train.tolist())) == len(matches.train) == 6_000 - matches.num_unmatched_train
    assert len(set(matches.control.tolist())) == len(matches.control) == 1_500 - matches.num_unmatched_control
    ratio = train[matches.train] / control[matches.control]
    assert ratio.max() <= 1.1 + 1e-9
    assert ratio.min() >= 1 / 1.1 - 1e-9
    assert len(matches.train) > 1_300
    assert auroc(train, control) > 0.65
    assert auroc(train[matches.train], control[matches.control]) == pytest.approx(0.5, abs=0.005)


def test_which_of_equally_long_examples_are_taken_is_left_to_the_seed() -> None:
    train, control = [40] * 1_000, [40] * 100
    chosen = match_by_length(train, control, seed=3).train
    assert chosen.tolist() == match_by_length(train, control, seed=3).train.tolist()
    assert chosen.tolist() != match_by_length(train, control, seed=4).train.tolist()
    assert 400 < chosen.mean() < 600


def test_nothing_to_match() -> None:
    for train, control in ([], [5]), ([5], []), ([], []), ([1], [1000]):
        matches = match_by_length(train, control)
        assert len(matches.train) == len(matches.control) == 0
        assert (matches.num_unmatched_train, matches.num_unmatched_control) == (len(train), len(control))
    assert lengths_of(match_by_length([7], [7]), [7], [7]) == [(7, 7)]


def test_an_example_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        match_by_length([1, 0], [1])


def test_many_examples_take_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    train, control = rng.integers(1, 2**40, 100_000), rng.integers(1, 2**40, 100_000)
    start = time.perf_counter()
    assert len(match_by_length(train, control).train) > 90_000
    assert time.perf_counter() - start < 15
