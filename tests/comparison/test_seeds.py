"""Conditions of several seeds: the decision, what is said of its noise, and false separations in simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ibft.comparison import Scores, compare_pair
from ibft.comparison.seeds import compare_seeds
from ibft.statistics.crossed import cross
from ibft.statistics.pass_at_k import Count


def condition(
    rng: np.random.Generator, levels: np.ndarray, seeds: int, num_samples: int, spread: float = 0.0
) -> dict[int, Scores]:
    """Scores of an arm whose logits are these, moved by each seed."""
    found = {}
    for seed in range(seeds):
        chances = 1 / (1 + np.exp(-(levels + rng.normal(0, spread))))
        passed = rng.binomial(num_samples, chances)
        found[seed] = Scores.of_counts({f"t{n}": Count(num_samples, int(of)) for n, of in enumerate(passed)})
    return found


def test_a_clear_difference_is_separated_and_a_seed_is_no_problem() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(-1, 1, 80)
    arms = {"ft": condition(rng, levels, 3, 10), "ib": condition(rng, levels + 1.0, 3, 10)}
    [found], undefined = compare_seeds(arms, 10)
    assert not undefined
    assert (found.better, found.other, found.is_separated) == ("ib", "ft", True)
    assert (found.num_seeds, found.num_problems, found.needed) == (3, 80, {})
    assert found.interval[0] > 0
    assert found.value == pytest.approx(np.mean(list(found.by_seed.values())))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == {"seeds", "problems", "samples", "rest"}


def test_what_one_seed_shows_three_may_take_back() -> None:
    # All problems gain at one seed and lose at another: 80 problems say much of each seed, and nothing of the next.
    levels = np.zeros(80)
    rng = np.random.default_rng(1)
    ft = condition(rng, levels, 3, 20)
    moved = {}
    for seed, shift in enumerate((1.2, -0.5, 0.6)):
        moved[seed] = condition(rng, levels + shift, 1, 20)[0]
    single = compare_pair("ib", moved[0], "ft", ft[0])
    assert single.is_separated
    [found], _ = compare_seeds({"ib": moved, "ft": ft}, 20)
    assert not found.is_separated
    assert found.interval[0] < 0 < found.interval[1]
    assert found.shares["seeds"] > 0.8
    assert found.narrowed["seeds"] > 0.4  # Student's quantile falls, too
    assert found.narrowed["problems"] < 0.05
    assert found.needed["problems"] is None
    assert found.needed["seeds"] > 3


def test_the_numbers_that_would_decide_are_the_first_that_do() -> None:
    rng = np.random.default_rng(5)
    levels = rng.normal(0, 1, 30)
    arms = {"a": condition(rng, levels + 0.25, 3, 2), "b": condition(rng, levels, 3, 2)}
    [found], _ = compare_seeds(arms, 2)
    assert not found.is_separated
    sides = [arms[found.better], arms[found.other]]
    table = [[sides[0][s].values[f"t{n}"] - sides[1][s].values[f"t{n}"] for n in range(30)] for s in range(3)]
    variances = [[sum(side[s].sampling_variances[f"t{n}"] for side in sides) for n in range(30)] for s in range(3)]
    parts = cross(np.array(table), np.array(variances)).parts
    for name, reach in {
        "problems": lambda number: parts.reach(3, number),
        "samples": lambda number: parts.reach(3, 30, number / 2),
        "seeds": lambda number: parts.reach(number, 30),
    }.items():
        number = found.needed[name]
        if number is None:
            assert reach(20 * {"problems": 30, "samples": 2, "seeds": 3}[name]) >= found.value
        else:
            assert reach(number) < found.value <= reach(number - 1)


def test_one_seed_is_the_rule_for_fixed_arms() -> None:
    rng = np.random.default_rng(2)
    levels = rng.normal(0, 1, 60)
    a, b = condition(rng, levels + 0.5, 1, 10), condition(rng, levels, 1, 10)
    [found], _ = compare_seeds({"a": a, "b": b}, 10)
    expected = compare_pair("a", a[0], "b", b[0])
    assert (found.interval, found.p_value) == (expected.interval, expected.p_value)
    assert (found.shares, found.minimum_detectable, found.num_seeds) == ({}, None, 1)


def test_only_what_both_have_is_compared() -> None:
    def one(**values: float) -> Scores:
        return Scores(values)

    a = {0: one(x=1.0, y=0.0, z=1.0), 1: one(x=1.0, y=1.0, z=1.0), 7: one(x=0.0, y=0.0, z=0.0)}
    b = {0: one(x=0.0, y=0.0), 1: one(x=0.0, y=0.0), 3: one(x=1.0, y=1.0)}
    [found], _ = compare_seeds({"a": a, "b": b}, 1)
    assert (found.num_seeds, found.num_problems, list(found.by_seed)) == (2, 2, [0, 1])
    assert found.value == pytest.approx(0.75)
    reasons = [pair.reason for pair in compare_seeds({"a": a, "c": {9: one(x=1.0)}}, 1)[1]]
    assert reasons == ["a and c have no seed in common"]
    [reason] = [pair.reason for pair in compare_seeds({"a": a, "d": {0: one(x=math.nan, y=1.0)}}, 1)[1]]
    assert reason == "1 of 2 shared problems have no value, the first is x"


def test_equal_arms_have_the_interval_of_their_problems() -> None:
    same = {seed: Scores({f"t{n}": 1.0 for n in range(80)}) for seed in range(3)}
    [found], _ = compare_seeds({"a": same, "b": same}, 1)
    assert found.interval == pytest.approx((-0.045, 0.045), abs=1e-3)
    assert not found.is_separated


def false_separations(num_arms: int, studies: int, seeds: int, spread: float) -> float:
    rng = np.random.default_rng(seeds + num_arms)
    wrong = 0
    for _ in range(studies):
        levels = rng.normal(0, 1.5, 40)
        arms = {f"a{n}": condition(rng, levels + rng.normal(0, 0.5, 40), seeds, 5, spread) for n in range(num_arms)}
        wrong += any(pair.is_separated for pair in compare_seeds(arms, 5)[0])
    return wrong / studies


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (5, 0.3)])
def test_equal_arms_are_hardly_ever_separated(seeds: int, spread: float) -> None:
    assert false_separations(3, 80, seeds, spread) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 80)


@pytest.mark.slow
@pytest.mark.parametrize("num_arms", [2, 4])
@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("spread", [0.0, 0.2, 0.8])
def test_equal_arms_are_hardly_ever_separated_in_any_cell(num_arms: int, seeds: int, spread: float) -> None:
    assert false_separations(num_arms, 300, seeds, spread) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)
