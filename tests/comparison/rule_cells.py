"""Populations of problems with known pass rates of two arms, and how often the rule errs on draws from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ibft.comparison import ALPHA, holm, interval, p_value, sign_flip_p

Rates = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], tuple[Rates, Rates]]


class Population(NamedTuple):
    """How two arms' pass rates are drawn for R x P problems.

    `tail` is the share of problems on which one arm wins much, where the other wins little on all others; 0 where the
    arms are exchangeable or one is simply better.
    """

    name: str
    draw: Draw
    tail: float = 0.0


def _equal(a: float, b: float) -> Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        rates = rng.beta(a, b, shape)
        return rates, rates

    return draw


def _independent(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    return rng.beta(0.4, 0.8, shape), rng.beta(0.4, 0.8, shape)


def _related(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    """Two arms of one base: 85% of the problems are as hard for both."""
    a, other = rng.beta(0.3, 0.6, shape), rng.beta(0.3, 0.6, shape)
    return a, np.where(rng.random(shape) < 0.85, a, other)


def _settled(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    """85% of the problems are always or never solved, so few differ."""
    place = rng.random(shape)
    rates = np.where(place < 0.6, 0.0, np.where(place < 0.85, 1.0, rng.random(shape)))
    return rates, rates


def _few_big(tail: float, win: float) -> Draw:
    """One arm wins `win` on a share `tail`, the other as much in all on the rest."""
    loss = tail * win / (1 - tail)

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        base = loss + max(0.0, 1 - win - loss) * rng.random(shape)
        return np.clip(np.where(rng.random(shape) < tail, base + win, base - loss), 0, 1), base

    return draw


def _all_or_nothing(tail: float) -> Draw:
    """One arm solves a share always and the rest never, the other solves each that often."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        return (rng.random(shape) < tail).astype(float), np.full(shape, tail)

    return draw


def _unlike_betas(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    return rng.beta(0.2, 0.8, shape), rng.beta(2, 8, shape)


def _logit(shift: float, spread: float = 0.0) -> Draw:
    """Every problem easier by `shift` on the scale of the logit, give or take `spread`."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        ability = rng.normal(-0.5, 1.5, shape)
        return 1 / (1 + np.exp(-ability - rng.normal(shift, spread, shape))), 1 / (1 + np.exp(-ability))

    return draw


def _uniform(shift: float) -> Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        rates = rng.uniform(0, 1 - shift, shape)
        return rates + shift, rates

    return draw


def _newly_solved(share: float) -> Draw:
    """Half of the problems are never solved; a share of all becomes solved at least half of the time."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Rates, Rates]:
        rates = np.where(rng.random(shape) < 0.5, 0.0, rng.random(shape))
        solved = np.maximum(rates, rng.uniform(0.5, 1, shape))
        return np.where(rng.random(shape) < share, solved, rates), rates

    return draw


EXCHANGEABLE = (
    Population("equal rates, Beta(0.5, 1)", _equal(0.5, 1)),
    Population("equal rates, Beta(4, 4)", _equal(4, 4)),
    Population("independent rates", _independent),
    Population("related arms", _related),
    Population("mostly settled problems", _settled),
)
EQUAL_MEANS = (
    Population("+0.3 on 10%", _few_big(0.1, 0.3), 0.1),
    Population("+0.45 on 10%", _few_big(0.1, 0.45), 0.1),
    Population("+0.4 on 20%", _few_big(0.2, 0.4), 0.2),
    Population("+0.6 on 5%", _few_big(0.05, 0.6), 0.05),
    Population("+0.9 on 10%", _few_big(0.1, 0.9), 0.1),
    Population("all or nothing, 20%", _all_or_nothing(0.2), 0.2),
    Population("Beta(0.2, 0.8) and Beta(2, 8)", _unlike_betas, 0.2),
)
UNEQUAL = (
    Population("logit + 0.3", _logit(0.3)),
    Population("logit + 1.2", _logit(1.2)),
    Population("logit + 0.6, give or take 0.7", _logit(0.6, 0.7)),
    Population("uniform + 0.1", _uniform(0.1)),
    Population("newly solved 5%", _newly_solved(0.05)),
    Population("newly solved 30%", _newly_solved(0.3)),
)


def better_arms(num_problems: int, num_samples: int) -> tuple[Population, ...]:
    """Return alternatives of middling power for so many problems and samples."""
    scale = (80 / num_problems) ** 0.5 * {1: 1.9, 5: 1.0}.get(num_samples, 0.7)
    return (
        Population("logit", _logit(0.5 * scale)),
        Population("logit, give or take 0.7", _logit(0.5 * scale, 0.7)),
        Population("uniform", _uniform(min(0.7, 0.07 * scale))),
        Population("newly solved", _newly_solved(min(0.9, 0.12 * (80 / num_problems) ** 0.75))),
    )


def is_tail_seen(population: Population, num_problems: int, num_samples: int) -> bool:
    """Decide whether so many problems show the tail: 3 of its problems are expected, so 95% of draws have one.

    With one sample per problem differences are -1, 0 and 1, and equal means make them symmetric.
    """
    return num_samples == 1 or population.tail == 0 or population.tail * num_problems >= 3


def draw_differences(
    population: Population, num_problems: int, num_samples: int, num_draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw samples of both arms: passed by the one less passed by the other, shape num_draws x num_problems."""
    a, b = population.draw(rng, (num_draws, num_problems))
    return rng.binomial(num_samples, a) - rng.binomial(num_samples, b)


@lru_cache(maxsize=200_000)
def _p_of(passed: bytes, num_samples: int) -> float:
    return p_value(np.frombuffer(passed, np.int64) / num_samples)


@lru_cache(maxsize=200_000)
def _interval_of(passed: bytes, num_samples: int) -> tuple[float, float]:
    return interval(np.frombuffer(passed, np.int64) / num_samples, _p_of(passed, num_samples))


def p_values(differences: NDArray[np.int64], num_samples: int, *, least_z: float = 0.0) -> NDArray[np.float64]:
    """Return the rule's p of each draw, and 1 for those whose sum is below `least_z` standard deviations.

    No sign-flip test rejects at 5% below 1.9; leaving these out makes a simulation five times as fast.
    """
    ordered = np.sort(differences, axis=1)
    spread = np.sqrt((ordered**2).sum(axis=1))
    far = np.abs(ordered.sum(axis=1)) >= np.maximum(least_z * spread, 1e-9)
    pairs = zip(ordered, far, strict=True)
    return np.array([_p_of(row.tobytes(), num_samples) if is_far else 1.0 for row, is_far in pairs])


def false_positives(population: Population, num_problems: int, num_samples: int, num_draws: int, seed: int) -> float:
    """Return how often arms of equal mean are separated."""
    differences = draw_differences(population, num_problems, num_samples, num_draws, np.random.default_rng(seed))
    return float((p_values(differences, num_samples, least_z=1.6) <= ALPHA).mean())


def familywise(num_arms: int, num_problems: int, num_samples: int, num_draws: int, seed: int) -> float:
    """Return how often any of all pairs is separated after Holm, among arms of equal rates."""
    rng = np.random.default_rng(seed)
    num_errors = 0
    for _ in range(num_draws):
        rates = np.where(rng.random(num_problems) < 0.3, 0.0, rng.random(num_problems))
        passed = rng.binomial(num_samples, rates, (num_arms, num_problems))
        pairs = np.array([passed[a] - passed[b] for a, b in combinations(range(num_arms), 2)])
        p = p_values(pairs, num_samples, least_z=1.6)
        num_errors += any(decision.p_adjusted <= ALPHA for decision in holm(p.tolist()))
    return num_errors / num_draws


def coverage(population: Population, num_problems: int, num_samples: int, num_draws: int, seed: int) -> float:
    """Return how often the interval holds the true mean difference."""
    rng = np.random.default_rng(seed)
    a, b = population.draw(np.random.default_rng(0), (4_000, 500))
    truth = float((a - b).mean())
    differences = np.sort(draw_differences(population, num_problems, num_samples, num_draws, rng), axis=1)
    means, errors = differences.mean(axis=1) / num_samples, differences.std(axis=1) / num_samples / num_problems**0.5
    num_missed = 0
    for row, mean, error in zip(differences, means, errors, strict=True):
        if error > 0 and abs(mean - truth) < 1.2 * error:
            continue  # no end is that near to the estimate
        low, high = _interval_of(row.tobytes(), num_samples)
        num_missed += not low <= truth <= high
    return 1 - num_missed / num_draws


def powers(
    population: Population, num_problems: int, num_samples: int, num_draws: int, seed: int
) -> tuple[float, float]:
    """Return how often the rule and the bare exact sign-flip test (McNemar's) find a true difference, on equal data."""
    rng = np.random.default_rng(seed)
    differences = draw_differences(population, num_problems, num_samples, num_draws, rng)
    exact = np.array([sign_flip_p(row / num_samples) for row in differences])
    rule = [p <= ALPHA and p_value(row / num_samples) <= ALPHA for row, p in zip(differences, exact, strict=True)]
    return float(np.mean(rule)), float((exact <= ALPHA).mean())
