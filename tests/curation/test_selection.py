import statistics

import pytest

from ibft.artifacts.score_table import ScoredRow
from ibft.curation.duplicates import Duplicate
from ibft.curation.selection import drop_duplicates, drop_length_matched, drop_lowest, drop_random


def scored(value: float, num_tokens: int) -> ScoredRow:
    return ScoredRow(place=0, id="", value=value, num_tokens=num_tokens, fingerprint="")


# The most memorized are the short ones, as in real data.
SCORES = {f"e{number:03}": scored(float(number), 5 + number) for number in range(200)}


def ids(dropped: list[tuple[str, str]]) -> list[str]:
    return [one[0] for one in dropped]


def test_the_lowest_are_dropped_first_and_equal_ones_in_the_order_of_the_data() -> None:
    scores = {"b": scored(1.0, 9), "a": scored(1.0, 9), "c": scored(0.5, 9), "d": scored(2.0, 9)}
    assert drop_lowest(scores, 2) == [("c", "score 0.5"), ("b", "score 1")]


def test_random_is_seeded_and_takes_from_all() -> None:
    first = ids(drop_random(SCORES, 50, seed=1))
    assert len(set(first)) == 50
    assert first == ids(drop_random(SCORES, 50, seed=1))
    assert set(first) != set(ids(drop_random(SCORES, 50, seed=2)))
    often = {one for seed in range(60) for one in ids(drop_random(SCORES, 50, seed))}
    assert often == set(SCORES)


def test_length_matched_takes_other_examples_of_the_same_lengths() -> None:
    scores = {f"low{n}": scored(0.0, 10 * (n + 1)) for n in range(10)}
    scores |= {f"same{n}": scored(1.0, 10 * (n + 1)) for n in range(10)}
    scores |= {f"far{n}": scored(1.0, 1000 + n) for n in range(30)}
    dropped = drop_length_matched(scores, 10, seed=0)
    assert sorted(ids(dropped)) == [f"same{n}" for n in range(10)]
    reasons = dict(dropped)
    assert reasons["same2"] == "length of low2 (30): 30"


def test_length_matched_never_takes_the_most_memorized_or_one_twice() -> None:
    lowest = set(ids(drop_lowest(SCORES, 40)))
    dropped = ids(drop_length_matched(SCORES, 40, seed=0))
    assert len(set(dropped)) == 40
    assert not lowest & set(dropped)
    lengths = statistics.mean(SCORES[one].num_tokens for one in dropped)
    by_chance = statistics.mean(SCORES[one].num_tokens for one in ids(drop_random(SCORES, 40, seed=0)))
    wanted = statistics.mean(SCORES[one].num_tokens for one in lowest)
    assert abs(lengths - wanted) < abs(by_chance - wanted)


@pytest.mark.parametrize(("lengths", "taken"), [((12, 19), 0), ((11, 18), 1), ((1, 2), 1), ((40, 30), 1)])
def test_the_nearest_length_is_taken_from_below_or_above(lengths: tuple[int, int], taken: int) -> None:
    scores = {"low": scored(0.0, 15)} | {f"o{n}": scored(1.0, length) for n, length in enumerate(lengths)}
    assert ids(drop_length_matched(scores, 1, seed=0)) == [f"o{taken}"]


def test_equal_lengths_are_chosen_by_chance() -> None:
    scores = {"low": scored(0.0, 7)} | {f"o{n}": scored(1.0, 7) for n in range(8)}
    assert len({ids(drop_length_matched(scores, 1, seed))[0] for seed in range(80)}) == 8


def test_more_than_half_leaves_fewer_to_match() -> None:
    assert len(drop_length_matched(SCORES, 150, seed=0)) == 50


def test_duplicates_go_by_redundancy() -> None:
    found = [
        Duplicate("n1", "a", "near", 0.75),
        Duplicate("c", "a", "code", 1.0),
        Duplicate("n2", "a", "near", 0.95),
        Duplicate("x", "a", "exact", 1.0),
    ]
    assert ids(drop_duplicates(found, 10)) == ["x", "c", "n2", "n1"]
    assert drop_duplicates(found, 1) == [("x", "duplicate of a (exact, 1.00)")]
    assert drop_duplicates(found, 0) == []


@pytest.mark.parametrize("count", [0, 1, 200])
def test_any_count_is_kept_to(count: int) -> None:
    assert len(drop_lowest(SCORES, count)) == len(drop_random(SCORES, count, 0)) == count
