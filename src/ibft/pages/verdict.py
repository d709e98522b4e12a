"""The decision in words: which arm to ship, on what evidence, and what would settle what is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ibft.artifacts.report import Arm, Difference, Elicitation, Forgetting, Gain, Kind
from ibft.comparison import MIN_DIFFERING, needed_problems, needed_samples
from ibft.pages.elicitation import format_kinds
from ibft.run.recipe import BASE_ARM, Recipe

__all__ = ["Verdict", "best_arm", "costs", "decide", "format_name", "points", "samples_per_problem"]

_MAX_ESTIMATE = 100_000
_MAX_LISTED = 3
"""With more pairs than this, a sentence sums them up."""


class Verdict(NamedTuple):
    """Headline, evidence, advice and candidates, as `artifacts.report.Comparison` explains them."""

    headline: str
    sentence: str
    advice: str
    candidates: list[str]


def decide(
    arms: Sequence[Arm], differences: Sequence[Difference], recipe: Recipe, elicitation: Elicitation | None = None
) -> Verdict:
    """Compare every arm with the one of the highest Pass@1 (the first of equals).

    Args:
        arms: all that were judged, in the recipe's order.
        differences: of every pair of arms whose Pass@1 is defined, decided together.
        recipe: has the settings that the samples were drawn with.
        elicitation: what the base solves in other formats.
    """
    defined = [arm for arm in arms if arm.pass_at_1.value is not None]
    lacking = "".join(
        f" Pass@1 of {arm.name} is undefined: {arm.pass_at_1.reason}." for arm in arms if arm not in defined
    )
    if len(defined) < 2:
        only = "".join(f"{_setting(arm, recipe)}, {arm.name} has Pass@1 {_with_interval(arm)}." for arm in defined)
        return Verdict("There is nothing to choose between yet.", (only + lacking).strip(), "", [])
    # Where the arms were judged on different problems, the highest may have been beaten on the shared ones.
    kinds = format_kinds(defined, elicitation)
    # Fine-tuning teaches a format along with everything else: over the base only a gain of ability counts.
    separated = [pair for pair in differences if pair.is_separated]
    doubted = [pair for pair in separated if pair.other == BASE_ARM and kinds.get(pair.better, "ability") != "ability"]
    shown = [pair for pair in separated if pair not in doubted]
    losers, winners = {pair.other for pair in shown}, {pair.better for pair in shown}
    unbeaten = [arm for arm in defined if arm.name not in losers]
    # An arm with a win that is shown comes before one whose win is doubted, even if it solves less.
    of_doubt = {pair.better for pair in doubted} - winners
    best = best_arm([arm for arm in unbeaten if arm.name not in of_doubt or not winners] or unbeaten or defined)
    beaten = [pair for pair in shown if pair.better == best.name]
    unclear = [pair for pair in differences if not pair.is_separated and best.name in (pair.better, pair.other)]
    candidates = [arm.name for arm in defined if arm.name not in {pair.other for pair in beaten}]
    if best.pass_at_1.value == 0:
        return Verdict(
            "No arm solved anything: these data choose none.",
            f"{_setting(best, recipe)}, no arm has solved a single problem.{lacking}",
            "Easier problems, more training or a stronger base model would show a difference; more samples may.",
            candidates,
        )
    clauses = _evidence(best.name, beaten, unclear)
    of_best = next((pair for pair in doubted if pair.better == best.name), None)
    if of_best is not None:
        clauses.append(_doubt(of_best, kinds[best.name], elicitation))
    gain = None
    if elicitation is not None and best.name in elicitation.gains and any(pair.other == BASE_ARM for pair in beaten):
        # The smallest gain of all formats, so that nothing was selected.
        gain = elicitation.gains[best.name].gain
        clauses.append(
            f"the smallest of {best.name}'s gains over {BASE_ARM} in {len(gain.differences)} formats, all asked "
            f"greedily, is {points(gain)}, over {BASE_ARM} asked as {format_name(gain.reference)}"
        )
    sentence = f"{_setting(best, recipe)}, {'; '.join(clauses)}.{lacking}"
    headline = _headline(best.name, candidates, beaten, shown, None if of_best is None else kinds[best.name])
    if gain is not None and headline == f"Ship {best.name}.":
        headline = f"Ship {best.name}: it beats {BASE_ARM} by {_signed(gain.value)} points or more in every format."
    return Verdict(headline, sentence, _advice(unclear, defined, recipe), candidates)


def _headline(
    best: str, candidates: Sequence[str], beaten: Sequence[Difference], shown: Sequence[Difference], doubt: Kind | None
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
    names = [pair.other for pair in beaten]
    separated = {(pair.better, pair.other) for pair in shown}
    if all((candidate, name) in separated for candidate in candidates for name in names):
        return f"Ship {_listed(candidates, 'or')}: these data do not separate them."
    rest = [name for name in candidates if name != best]
    return f"No clear winner: {best} beats {_listed(names, 'and')}, but not {_listed(rest, 'or')}."


def _doubt(pair: Difference, kind: Kind, elicitation: Elicitation | None) -> str:
    """Say why a gain over the base in the format of the training does not count."""
    same = f"{pair.better} beats {BASE_ARM} by {points(pair)} where both are asked alike"
    if elicitation is None:
        return (
            f"{same}, but {BASE_ARM} writes fewer programs there: what it can do is not measured (generate.elicit asks)"
        )
    if pair.better not in elicitation.gains:
        return f"{same}, but has no greedy answers in its own format yet"
    gain = elicitation.gains[pair.better].gain
    left = f"{points(gain)} is left of it where {BASE_ARM} is asked as {format_name(gain.reference)}, both greedily"
    if missing := [name for name in elicitation.missing if name.startswith(f"{BASE_ARM}@")]:
        return f"{same}, and {left}, but {_listed([format_name(name) for name in missing], 'and')} is not judged"
    return f"{same}, but only {left}" if kind == "format" else f"{same}, but {left}, where chance is not excluded"


def format_name(reference: str) -> str:
    """Return the format of `arm@format` in words."""
    return reference.rpartition("@")[2].replace("_", " ")


def costs(forgetting: Forgetting) -> str:
    """Say in a sentence what training cost on the second benchmark."""
    base = forgetting.pass_at_1[BASE_ARM].value or 0.0
    clauses = []
    for pair in forgetting.differences:
        # The verb has the sign.
        arm, verb = pair.opponent(BASE_ARM), "gains" if pair.other == BASE_ARM else "loses"
        shown = "" if pair.is_separated else ", where chance is not excluded"
        clauses.append(f"{arm} {verb} {points(pair).lstrip('+')}{shown}" if pair.value else f"{arm} loses nothing")
    setting = f"Elsewhere, on {forgetting.num_problems} problems of {forgetting.benchmark} (greedy), {BASE_ARM} solves"
    return f"{setting} {100 * base:.1f}%: {'; '.join(clauses) or 'no other arm was asked'}."


def best_arm(arms: Sequence[Arm]) -> Arm:
    """Return the arm of the highest Pass@1, the first of equals; an undefined one counts as 0."""
    return max(arms, key=lambda arm: arm.pass_at_1.value or 0)


def _evidence(best: str, beaten: Sequence[Difference], unclear: Sequence[Difference]) -> list[str]:
    """Say what the best arm's differences are, one by one, or many summed up: the page has them all."""
    clauses = []
    if len(beaten) > _MAX_LISTED:
        clauses.append(f"{best} beats {_listed([pair.other for pair in beaten], 'and')} on Pass@1 by {_range(beaten)}")
    elif beaten:
        pairs = [f"{pair.other} on Pass@1 by {points(pair)}" for pair in beaten]
        clauses.append(f"{best} beats {_listed(pairs, 'and')}")
    if len(unclear) > _MAX_LISTED:
        names = _listed([pair.opponent(best) for pair in unclear], "or")
        clauses.append(f"{best} cannot be told apart from {names} (differences of {_range(unclear)})")
    else:
        for pair in unclear:
            gap = f"difference {points(pair)}".replace(" (", ", ").rstrip(")")
            clauses.append(f"{pair.better} and {pair.other} cannot be told apart ({gap})")
    return clauses


def _range(differences: Sequence[Difference]) -> str:
    values = [pair.value for pair in differences]
    return f"{_signed(min(values))} to {_signed(max(values))} points"


def _setting(arm: Arm, recipe: Recipe) -> str:
    temperature = f"temperature {recipe.generate.temperature:g}" if recipe.generate.temperature else "greedy decoding"
    number = samples_per_problem(arm)
    noun = "sample" if number == "1" else "samples"
    return f"On {arm.num_problems} problems × {number} {noun} ({temperature})"


def _advice(unclear: Sequence[Difference], defined: Sequence[Arm], recipe: Recipe) -> str:
    """Say what these data could show, what it takes to separate the arms, and what narrows the intervals most."""
    # Of many pairs the largest difference will do: the others need still more.
    named = [max(unclear, key=lambda pair: pair.value)] if len(unclear) > _MAX_LISTED else unclear
    sentences = [_needed(pair, min(map(_num_samples, defined)), recipe) for pair in named]
    if len(named) < len(unclear):
        sentences.append(f"The other {len(unclear) - len(named)} differences are no larger and take no fewer.")
    if named:
        widest = max(named, key=lambda pair: pair.precision.standard_error)
        sentences.append(_levers(widest, recipe))
    return " ".join(filter(None, sentences))


def _needed(pair: Difference, num_samples: float, recipe: Recipe) -> str:
    """Say how many problems, or samples of these, separate a pair in 4 of 5 runs if its difference is real."""
    names = f"{pair.better} from {pair.other}"
    detectable = pair.precision.minimum_detectable
    # No p-value below 5% is possible then, so an estimate from the variance would be misleading.
    if detectable is None or pair.num_differing < MIN_DIFFERING:
        few = f"Too few problems tell {names} at all ({pair.num_differing} of {pair.num_problems} differ"
        return f"{few}; at least {MIN_DIFFERING} have to): judge more problems."
    shown = f"From {100 * detectable:.1f} points on, these data would tell {names} in 4 of 5 such runs"
    problems = needed_problems(pair.precision, pair.value, pair.num_problems)
    if problems > _MAX_ESTIMATE:
        return f"{shown}; the difference seen is so small that no realistic number of problems would separate them."
    takes = f"if the difference seen is real, that takes about {_rounded_up(problems):,} problems"
    samples = needed_samples(pair.precision, pair.value, num_samples)
    # Greedy answers do not vary: more samples of them are the same samples.
    if math.isnan(samples) or not recipe.generate.temperature:
        return f"{shown}; {takes}."
    if samples > _MAX_ESTIMATE:
        return f"{shown}; {takes}, and no number of samples of these problems does it."
    return f"{shown}; {takes}, or about {_rounded_up(samples):,} samples of each of these."


def _levers(pair: Difference, recipe: Recipe) -> str:
    """Say by how much twice the problems and twice the samples narrow the interval: that is where its noise is from."""
    if not pair.precision.standard_error:
        return ""
    by_problems = f"Twice the problems narrow the interval by {pair.precision.narrowed_by_problems:.0%}"
    if not recipe.generate.temperature:
        return f"{by_problems}; greedy answers do not vary, so more samples change nothing."
    if pair.precision.narrowed_by_samples is None:
        return f"{by_problems}; what more samples do, two samples of each problem would show."
    return f"{by_problems}, twice the samples by {pair.precision.narrowed_by_samples:.0%}."


def _rounded_up(number: float) -> int:
    # To two digits: the estimate has no more.
    unit = int(10 ** max(0, math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit


def _num_samples(arm: Arm) -> float:
    return arm.num_samples / arm.num_problems if arm.num_problems else 0.0


def samples_per_problem(arm: Arm) -> str:
    """Return the mean number, to three digits."""
    return f"{_num_samples(arm):.3g}"


def _with_interval(arm: Arm) -> str:
    metric = arm.pass_at_1
    interval = "" if metric.ci95 is None else f" (95% CI {100 * metric.ci95[0]:.1f} to {100 * metric.ci95[1]:.1f})"
    return f"{100 * (metric.value or 0):.1f}%{interval}"


def points(lead: Difference | Gain) -> str:
    """Return the lead and its interval in percentage points, at the level at which its pair was decided."""
    low, high = lead.interval
    return f"{_signed(lead.value)} points ({100 * lead.confidence:.4g}% CI {_signed(low)} to {_signed(high)})"


def _signed(fraction: float) -> str:
    # With the minus sign of typography: a hyphen is half as wide as a plus.
    return f"{100 * fraction:+.1f}".replace("-", "−")


def _listed(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
