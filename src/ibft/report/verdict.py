"""The decision in words: which arm to ship, on what evidence, and what would settle what is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ibft.recipe import Recipe
from ibft.report.arms import MIN_DIFFERING_PROBLEMS, Arm, Difference

__all__ = ["Verdict", "best_arm", "decide", "points", "samples_a_problem"]

_MAX_ESTIMATE = 100_000
_MAX_LISTED = 3
"""With more pairs than that, a sentence sums them up."""


class Verdict(NamedTuple):
    """Headline, evidence, advice and the arms that no other is shown to beat (`compare.Comparison` has the details)."""

    headline: str
    sentence: str
    advice: str
    candidates: list[str]


def decide(arms: Sequence[Arm], differences: Sequence[Difference], recipe: Recipe) -> Verdict:
    """Compare every arm with the one of the highest Pass@1 (the first of equals).

    Args:
        arms: all that were judged, in the recipe's order.
        differences: of every pair of arms whose Pass@1 is defined.
        recipe: for what the samples were drawn with.
    """
    undefined = [arm for arm in arms if arm.metrics["pass@1"].value is None]
    defined = [arm for arm in arms if arm.metrics["pass@1"].value is not None]
    lacking = "".join(f" Pass@1 of {arm.name} is undefined: {arm.metrics['pass@1'].reason}." for arm in undefined)
    if len(defined) < 2:
        only = "".join(f"{_setting(arm, recipe)}, {arm.name} has Pass@1 {_with_interval(arm)}." for arm in defined)
        return Verdict("There is nothing to choose between yet.", (only + lacking).strip(), "", [])
    best = best_arm(defined)
    to_best = [one for one in differences if best.name in (one.better, one.other)]
    beaten = [one for one in to_best if one.is_separated]
    unclear = [one for one in to_best if not one.is_separated]
    candidates = [arm.name for arm in defined if arm.name not in {one.other for one in beaten}]
    if best.metrics["pass@1"].value == 0:
        return Verdict(
            "No arm solved anything: these data choose none.",
            f"{_setting(best, recipe)}, no arm has solved a single problem.{lacking}",
            "Easier problems, more training or a stronger base model would show a difference; more samples may.",
            candidates,
        )
    sentence = f"{_setting(best, recipe)}, {'; '.join(_evidence(best.name, beaten, unclear))}.{lacking}"
    if len(candidates) == 1:
        headline = f"Ship {best.name}."
    elif beaten:
        headline = f"Ship {_listed(candidates, 'or')}: these data do not separate them."
    else:
        headline = "These data do not separate the arms."
    return Verdict(headline, sentence, _advice(unclear), candidates)


def best_arm(arms: Sequence[Arm]) -> Arm:
    """The arm of the highest Pass@1, the first of equals; an undefined one counts as 0."""
    return max(arms, key=lambda arm: arm.metrics["pass@1"].value or 0)


def _evidence(best: str, beaten: Sequence[Difference], unclear: Sequence[Difference]) -> list[str]:
    """What the best arm's differences say, each by itself, or the many summed up: the page has them all."""
    clauses = []
    if len(beaten) > _MAX_LISTED:
        clauses.append(f"{best} beats {_listed([one.other for one in beaten], 'and')} on Pass@1 by {_range(beaten)}")
    elif beaten:
        pairs = [f"{one.other} on Pass@1 by {points(one)}" for one in beaten]
        clauses.append(f"{best} beats {_listed(pairs, 'and')}")
    if len(unclear) > _MAX_LISTED:
        names = _listed([_opponent(best, one) for one in unclear], "or")
        clauses.append(f"{best} cannot be told apart from {names} (differences of {_range(unclear)})")
    else:
        clauses += [f"{one.better} and {one.other} cannot be told apart ({_gap(one)})" for one in unclear]
    return clauses


def _opponent(best: str, one: Difference) -> str:
    return one.other if one.better == best else one.better


def _range(differences: Sequence[Difference]) -> str:
    values = [one.value for one in differences]
    return f"{_signed(min(values))} to {_signed(max(values))} points"


def _setting(arm: Arm, recipe: Recipe) -> str:
    temperature = f"temperature {recipe.generate.temperature:g}" if recipe.generate.temperature else "greedy decoding"
    number = samples_a_problem(arm)
    noun = "sample" if number == "1" else "samples"
    return f"On {arm.num_problems} problems × {number} {noun} ({temperature})"


def _advice(unclear: Sequence[Difference]) -> str:
    """How many problems would do, if the difference stayed: an interval narrows with the root of their number."""
    sentences = []
    # Of many pairs the one that is told most easily will do: the others need still more.
    told = [max(unclear, key=lambda one: one.value)] if len(unclear) > _MAX_LISTED else unclear
    for one in told:
        pair = f"{one.better} from {one.other}"
        width = one.value - one.ci95[0]
        if one.num_differing < MIN_DIFFERING_PROBLEMS:
            sentences.append(
                f"Too few problems tell {pair} at all ({one.num_differing} of {one.num_problems}; "
                f"at least {MIN_DIFFERING_PROBLEMS} have to): judge more problems."
            )
            continue
        needed = one.num_problems * (width / one.value) ** 2 if one.value > 0 else math.inf
        if needed > _MAX_ESTIMATE:
            sentences.append(f"The difference is so small that no realistic number of problems would tell {pair}.")
        else:
            sentences.append(
                f"If that difference is real, it takes at least about {_rounded_up(needed):,} problems to tell {pair}."
            )
    if len(told) < len(unclear):
        sentences.append(f"The other {len(unclear) - len(told)} differences are no larger and take no fewer.")
    if sentences:
        sentences.append("More samples of each problem help, too, where its samples disagree.")
    return " ".join(sentences)


def _rounded_up(number: float) -> int:
    """To two digits: the estimate is no better than that."""
    unit = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit


def samples_a_problem(arm: Arm) -> str:
    """The mean number, to three digits."""
    return f"{arm.num_samples / arm.num_problems:.3g}" if arm.num_problems else "0"


def _with_interval(arm: Arm) -> str:
    metric = arm.metrics["pass@1"]
    interval = "" if metric.ci95 is None else f" (95% CI {100 * metric.ci95[0]:.1f} to {100 * metric.ci95[1]:.1f})"
    return f"{100 * (metric.value or 0):.1f}%{interval}"


def _gap(one: Difference) -> str:
    """The difference, with a word where its interval alone would make a reader expect the other answer."""
    too_few = one.ci95[0] > 0 and not one.is_separated
    return f"difference {points(one)}".replace(" (", ", ").rstrip(")") + (
        f", but too few problems differ: {one.num_differing}" if too_few else ""
    )


def points(one: Difference) -> str:
    """The difference and its interval in percentage points."""
    low, high = one.ci95
    return f"{_signed(one.value)} points (95% CI {_signed(low)} to {_signed(high)})"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "−")


def _listed(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
