from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from ibft.comparison import Difference, Scores, Undefined, beats_every, compare_all, compare_pair, holm
from ibft.statistics.pass_at_k import Count


def arm(passed: list[int], num_samples: int = 5) -> Scores:
    return Scores.of_counts({f"t/{index}": Count(num_samples, number) for index, number in enumerate(passed)})


def defined(found: Difference | Undefined) -> Difference:
    assert isinstance(found, Difference)
    return found


def test_the_better_arm_comes_first_and_turning_changes_nothing_else() -> None:
    weak, strong = arm([0, 1, 2, 0, 1, 3, 2, 0]), arm([3, 2, 5, 4, 5, 5, 2, 1])
    forth, back = defined(compare_pair("a", weak, "b", strong)), defined(compare_pair("b", strong, "a", weak))
    assert forth == back
    assert (forth.better, forth.other, forth.num_won, forth.num_lost, forth.num_differing) == ("b", "a", 7, 0, 7)
    assert forth.value == pytest.approx(18 / 40)
    assert forth.is_separated
    assert forth.p_value == forth.p_adjusted == 2 / 2**7
    assert msgspec.json.decode(msgspec.json.encode(forth), type=Difference) == forth


def test_only_shared_problems_count_and_samples_may_differ_in_number() -> None:
    a = Scores.of_counts({"t/0": Count(5, 5), "t/1": Count(1, 1), "t/2": Count(5, 0), "t/8": Count(5, 0)})
    b = Scores.of_counts({"t/2": Count(7, 7), "t/1": Count(4, 1), "t/0": Count(3, 0), "t/9": Count(7, 7)})
    found = defined(compare_pair("a", a, "b", b))
    assert (found.num_problems, found.num_won, found.num_lost) == (3, 2, 1)
    assert found.value == pytest.approx((1 + 0.75 - 1) / 3)
    assert found.precision.variance_within is None  # one sample says nothing of its own noise


def test_what_cannot_be_compared_says_why() -> None:
    apart = compare_pair("a", arm([1]), "b", Scores({"u/0": 1.0}))
    assert apart == Undefined(a="a", b="b", reason="a and b share no judged problem")
    lacking = compare_pair("a", arm([1, 2]), "b", Scores({"t/0": 1.0, "t/1": math.nan}))
    assert isinstance(lacking, Undefined)
    assert lacking.reason == "1 of 2 shared problems have no value, the first is t/1"


def holm_by_definition(p_values: list[float], alpha: float) -> set[int]:
    """Reject from the smallest on, up to the first that is above alpha over the number that is left."""
    rejected: set[int] = set()
    for index in sorted(range(len(p_values)), key=p_values.__getitem__):
        if p_values[index] > alpha / (len(p_values) - len(rejected)):
            break
        rejected.add(index)
    return rejected


def test_holm_rejects_as_its_definition_says_and_every_level_agrees() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = (rng.random(rng.integers(1, 12)) ** 4).tolist()
        decisions = holm(p_values)
        rejected = {index for index, decision in enumerate(decisions) if decision.p_adjusted <= 0.05}
        assert rejected == holm_by_definition(p_values, 0.05)
        assert rejected == {i for i, (p, one) in enumerate(zip(p_values, decisions, strict=True)) if p <= one.alpha}
        ordered = [decisions[index].p_adjusted for index in np.argsort(p_values)]
        assert ordered == sorted(ordered)
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03])[0].p_adjusted == pytest.approx(0.03)


def test_intervals_next_to_a_family_never_disagree_with_its_decisions() -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.6, 0.8, 60)
    arms = {f"arm-{index}": arm(rng.binomial(5, np.clip(rates + 0.08 * index, 0, 1)).tolist()) for index in range(6)}
    differences, undefined = compare_all(arms)
    assert (len(differences), undefined) == (15, [])
    assert 0 < sum(one.is_separated for one in differences) < 15
    for one in differences:
        low, high = one.interval
        assert one.is_separated == (one.p_adjusted <= 0.05) == (not low <= 0 <= high)
        assert one.p_adjusted >= one.p_value
        assert 0.95 <= one.confidence <= 1 - 0.05 / 15


def test_a_pair_alone_is_not_corrected() -> None:
    arms = {"a": arm([5] * 8 + [0] * 8), "b": arm([0] * 16)}
    [alone] = compare_all(arms).differences
    assert alone == compare_pair("a", arms["a"], "b", arms["b"])
    assert alone.confidence == 0.95


def test_an_arm_has_to_beat_every_reference() -> None:
    strong = arm([5] * 12 + [0] * 12)
    references = {"plain": arm([0] * 24), "chat": arm([5] * 4 + [0] * 20), "begun": arm([5] * 9 + [0] * 15)}
    gain = beats_every("ft", strong, references)
    assert not isinstance(gain, Undefined)
    assert (gain.reference, gain.value, gain.p_value) == ("begun", pytest.approx(0.125), 0.25)
    assert not gain.is_separated
    assert gain.interval[0] < 0 < 0.125 < gain.interval[1]
    del references["begun"]
    gain = beats_every("ft", strong, references)
    assert not isinstance(gain, Undefined)
    assert (gain.reference, gain.p_value, gain.is_separated) == ("chat", 2 / 2**8, True)
    assert 0 < gain.interval[0] < gain.value == pytest.approx(8 / 24)
    assert [one.other for one in gain.differences] == ["plain", "chat"]


def test_a_reference_that_is_ahead_settles_it() -> None:
    gain = beats_every("ft", arm([1] * 10), {"plain": arm([0] * 10), "chat": arm([5] * 10)})
    assert not isinstance(gain, Undefined)
    assert (gain.reference, gain.value, gain.p_value, gain.is_separated) == ("chat", pytest.approx(-0.8), 1.0, False)
    assert gain.interval[0] <= -0.8 <= gain.interval[1] < 0
    missing = beats_every("ft", arm([1]), {"plain": Scores({})})
    assert isinstance(missing, Undefined)
    with pytest.raises(ValueError, match="references is empty"):
        beats_every("ft", arm([1]), {})


def test_the_smallest_gain_is_rarely_claimed_where_one_reference_is_as_good() -> None:
    rng = np.random.default_rng(2)
    claimed = 0
    for _ in range(40):
        rates = rng.random(30)
        draws = [arm(rng.binomial(5, rates).tolist()) for _ in range(3)]
        gain = beats_every("ft", draws[0], {"plain": draws[1], "chat": draws[2]})
        assert not isinstance(gain, Undefined)
        assert gain.is_separated == (gain.interval[0] > 0)
        claimed += gain.is_separated
    assert claimed <= 4  # 40 x 2.5% is 1
