"""The decision in words: which arm to ship, on what evidence, and what would settle what is open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibft.artifacts.report import Arm, Difference, Elicitation, Forgetting, Gain, Kind
from ibft.comparison import MIN_DIFFERING, needed_problems, needed_samples
from ibft.pages.elicitation import format_kinds
from ibft.run.recipe import BASE_ARM, Recipe

__all__ = ["Verdict", "best_arm", "costs", "decide", "format_name", "points", "samples_a_problem"]

_MAX_ESTIMATE = 100_000
_MAX_LISTED = 3
"""With more pairs than that, a sentence sums them up."""


class Verdict(NamedTuple):
    """Headline, evidence, advice and candidates, as `compare.Comparison` explains them."""

    headline: str
    sentence: str
    advice: str
    candidates: list[str]


def decide(
    arms: Sequence[Arm], differences: Sequence[Difference], recipe: Recipe, elicitation: Elicitation | None = None
) -> Verdict:
    """Compare every arm with the one of the highest Pass@1 (the first of equals).

    A gain over the base counts only where it is one of ability (`elicitation.format_kinds`).

    Args:
        arms: all that were judged, in the recipe's order.
        differences: of every pair of arms whose Pass@1 is defined, decided together.
        recipe: for what the samples were drawn with.
        elicitation: what the base solves in other formats.
    """
    undefined = [arm for arm in arms if arm.metrics["pass@1"].value is None]
    defined = [arm for arm in arms if arm.metrics["pass@1"].value is not None]
    lacking = "".join(f" Pass@1 of {arm.name} is undefined: {arm.metrics['pass@1'].reason}." for arm in undefined)
    if len(defined) < 2:
        only = "".join(f"{_setting(arm, recipe)}, {arm.name} has Pass@1 {_with_interval(arm)}." for arm in defined)
        return Verdict("There is nothing to choose between yet.", (only + lacking).strip(), "", [])
    # Where the arms were judged on different problems, the highest may have been beaten on the shared ones.
    kinds = format_kinds(defined, elicitation)
    doubted = [one for one in differences if one.is_separated and _is_doubted(one, kinds)]
    shown = [one for one in differences if one.is_separated and one not in doubted]
    losers, winners = {one.other for one in shown}, {one.better for one in shown}
    unbeaten = [arm for arm in defined if arm.name not in losers]
    # An arm with a win that is shown comes before one whose win is doubted, though it solve less.
    of_doubt = {one.better for one in doubted} - winners
    best = best_arm([arm for arm in unbeaten if arm.name not in of_doubt or not winners] or unbeaten or defined)
    beaten = [one for one in shown if one.better == best.name]
    unclear = [one for one in differences if not one.is_separated and best.name in (one.better, one.other)]
    candidates = [arm.name for arm in defined if arm.name not in {one.other for one in beaten}]
    if best.metrics["pass@1"].value == 0:
        return Verdict(
            "No arm solved anything: these data choose none.",
            f"{_setting(best, recipe)}, no arm has solved a single problem.{lacking}",
            "Easier problems, more training or a stronger base model would show a difference; more samples may.",
            candidates,
        )
    clauses = _evidence(best.name, beaten, unclear)
    clauses += [_doubt(one, kinds[one.better], elicitation) for one in doubted if one.better == best.name]
    gain = None
    if elicitation is not None and best.name in elicitation.gains and any(one.other == BASE_ARM for one in beaten):
        gain = elicitation.gains[best.name].gain
        clauses.append(_smallest_gain(gain))
    sentence = f"{_setting(best, recipe)}, {'; '.join(clauses)}.{lacking}"
    of_best = next((kinds[one.better] for one in doubted if one.better == best.name), None)
    headline = _headline(best.name, candidates, beaten, shown, of_best)
    if gain is not None and headline == f"Ship {best.name}.":
        headline = f"Ship {best.name}: it beats {BASE_ARM} by {_signed(gain.value)} points or more in every format."
    return Verdict(headline, sentence, _advice(unclear, defined, recipe), candidates)


def _is_doubted(one: Difference, kinds: Mapping[str, Kind]) -> bool:
    return one.other == BASE_ARM and kinds.get(one.better, "ability") != "ability"


def _headline(
    best: str,
    candidates: Sequence[str],
    beaten: Sequence[Difference],
    shown: Sequence[Difference],
    doubt: Kind | None,
) -> str:
    """Name several arms to ship only where each of them beats every arm that the best one beats."""
    if not beaten and doubt == "format":
        return f"What {best} gains over {BASE_ARM} is a gain of format, not of ability."
    if not beaten and doubt == "open":
        return f"{best} is not shown to beat {BASE_ARM} in every format: these data choose none."
    if not beaten:
        return "These data do not separate the arms."
    if len(candidates) == 1:
        return f"Ship {best}."
    names = [one.other for one in beaten]
    separated = {(one.better, one.other) for one in shown}
    if all((candidate, name) in separated for candidate in candidates for name in names):
        return f"Ship {_listed(candidates, 'or')}: these data do not separate them."
    rest = [name for name in candidates if name != best]
    return f"No clear winner: {best} beats {_listed(names, 'and')}, but not {_listed(rest, 'or')}."


def _doubt(one: Difference, kind: Kind, elicitation: Elicitation | None) -> str:
    """Say why a gain over the base in the format of the training does not count."""
    same = f"{one.better} beats {BASE_ARM} by {points(one)} where both are asked alike"
    if elicitation is None:
        return (
            f"{same}, but {BASE_ARM} writes fewer programs there: what it can do is not measured (generate.elicit asks)"
        )
    if one.better not in elicitation.gains:
        return f"{same}, but has no greedy answers in its own format yet"
    gain = elicitation.gains[one.better].gain
    left = f"{points(gain)} is left of it where {BASE_ARM} is asked as {format_name(gain.reference)}, both greedily"
    if missing := [name for name in elicitation.missing if name.startswith(f"{BASE_ARM}@")]:
        return f"{same}, and {left}, but {_listed([format_name(name) for name in missing], 'and')} is not judged"
    return f"{same}, but only {left}" if kind == "format" else f"{same}, but {left}, where chance is not excluded"


def _smallest_gain(gain: Gain) -> str:
    return (
        f"the smallest of {gain.arm}'s gains over {BASE_ARM} in {len(gain.differences)} formats, all asked greedily, "
        f"is {points(gain)}, over {BASE_ARM} asked as {format_name(gain.reference)}"
    )


def format_name(reference: str) -> str:
    """Return the format of `arm@format` in words."""
    return reference.rpartition("@")[2].replace("_", " ")


def costs(forgetting: Forgetting) -> str:
    """Say in a sentence what training cost on the second benchmark."""
    base = forgetting.pass_at_1[BASE_ARM].value or 0.0
    clauses = []
    for one in forgetting.differences:
        verb = "gains" if one.other == BASE_ARM else "loses"
        arm = one.better if one.other == BASE_ARM else one.other
        shown = "" if one.is_separated else ", where chance is not excluded"
        clauses.append(f"{arm} {verb} {points(one).lstrip('+')}{shown}" if one.value else f"{arm} loses nothing")
    setting = f"Elsewhere, on {forgetting.num_problems} problems of {forgetting.benchmark} (greedy), {BASE_ARM} solves"
    return f"{setting} {100 * base:.1f}%: {'; '.join(clauses) or 'no other arm was asked'}."


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


def _advice(unclear: Sequence[Difference], defined: Sequence[Arm], recipe: Recipe) -> str:
    """What these data could show, what it takes to tell the arms apart, and what narrows the intervals most."""
    # Of many pairs the one that is told most easily will do: the others need still more.
    told = [max(unclear, key=lambda one: one.value)] if len(unclear) > _MAX_LISTED else unclear
    sentences = [_needed(one, min(map(_num_samples, defined)), recipe) for one in told]
    if len(told) < len(unclear):
        sentences.append(f"The other {len(unclear) - len(told)} differences are no larger and take no fewer.")
    if told:
        widest = max(told, key=lambda one: one.precision.standard_error)
        sentences.append(_levers(widest, recipe))
    return " ".join(filter(None, sentences))


def _needed(one: Difference, num_samples: float, recipe: Recipe) -> str:
    """How many problems, or samples of these, tell a pair apart in 4 of 5 runs if its difference is real."""
    pair = f"{one.better} from {one.other}"
    detectable = one.precision.minimum_detectable
    if detectable is None or one.num_differing < MIN_DIFFERING:
        few = f"Too few problems tell {pair} at all ({one.num_differing} of {one.num_problems} differ"
        return f"{few}; at least {MIN_DIFFERING} have to): judge more problems."
    shown = f"From {100 * detectable:.1f} points on, these data would tell {pair} in 4 of 5 such runs"
    problems = needed_problems(one.precision, one.value, one.num_problems)
    if problems > _MAX_ESTIMATE:
        return f"{shown}; the difference seen is so small that no realistic number of problems would tell them."
    takes = f"if the difference seen is real, that takes about {_rounded_up(problems):,} problems"
    samples = needed_samples(one.precision, one.value, num_samples)
    if math.isnan(samples) or not recipe.generate.temperature:
        return f"{shown}; {takes}."
    if samples > _MAX_ESTIMATE:
        return f"{shown}; {takes}, and no number of samples of these problems does it."
    return f"{shown}; {takes}, or about {_rounded_up(samples):,} samples of each of these."


def _levers(one: Difference, recipe: Recipe) -> str:
    """By how much twice the problems and twice the samples narrow the interval, from where its noise comes from."""
    if not one.precision.standard_error:
        return ""
    by_problems = f"Twice the problems narrow the interval by {one.precision.narrowed_by_problems:.0%}"
    if not recipe.generate.temperature:
        return f"{by_problems}; greedy answers do not vary, so more samples change nothing."
    if one.precision.narrowed_by_samples is None:
        return f"{by_problems}; what more samples do, two samples of each problem would show."
    return f"{by_problems}, twice the samples by {one.precision.narrowed_by_samples:.0%}."


def _rounded_up(number: float) -> int:
    """To two digits: the estimate is no better than that."""
    unit = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit


def _num_samples(arm: Arm) -> float:
    return arm.num_samples / arm.num_problems if arm.num_problems else 0.0


def samples_a_problem(arm: Arm) -> str:
    """The mean number, to three digits."""
    return f"{arm.num_samples / arm.num_problems:.3g}" if arm.num_problems else "0"


def _with_interval(arm: Arm) -> str:
    metric = arm.metrics["pass@1"]
    interval = "" if metric.ci95 is None else f" (95% CI {100 * metric.ci95[0]:.1f} to {100 * metric.ci95[1]:.1f})"
    return f"{100 * (metric.value or 0):.1f}%{interval}"


def _gap(one: Difference) -> str:
    return f"difference {points(one)}".replace(" (", ", ").rstrip(")")


def points(one: Difference | Gain) -> str:
    """The difference and its interval in percentage points, at the level at which its pair was decided."""
    low, high = one.interval
    return f"{_signed(one.value)} points ({100 * one.confidence:.4g}% CI {_signed(low)} to {_signed(high)})"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "−")


def _listed(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
