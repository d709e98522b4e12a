"""The base at its best: what it solves in each format in which it was asked, and what an arm gains over all of them.

Fine-tuning teaches a format along with everything else. A gain over the base in the one format that training used may
be of that alone, so it counts only if the arm beats the base in every format tried (`comparison.beats_every`): nothing
is selected, and the headline is the smallest of the gains. All were asked greedily, one sample per problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ibft.artifacts.report import Arm, AskedArm, Elicitation, FormatGain, Gain, Kind
from ibft.comparison import ALPHA, Scores, Undefined, beats_every, compare_pair, holm
from ibft.pages.arms import read_arm
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, FORGETTING, Recipe

__all__ = ["format_kinds", "read_elicitation"]


def read_elicitation(recipe: Recipe, run: RunFolder) -> Elicitation | None:
    """Return what the judged answers in all formats say; None where the base was not asked in any.

    Raises:
        UserError: a file is damaged.
    """
    judged = {
        (arm, form): answers
        for arm in recipe.arms
        for form in recipe.formats_of(arm)
        if (answers := read_arm(recipe, run, recipe.asked_name(arm, form), [1])) is not None
        and answers.arm.pass_at_1.value is not None
    }
    if not any(arm == BASE_ARM for arm, _ in judged):
        return None
    asked = [
        AskedArm(
            arm=arm,
            format=form,
            num_problems=answers.arm.num_problems,
            pass_at_1=answers.arm.pass_at_1,
            shares=answers.arm.shares,
        )
        for (arm, form), answers in judged.items()
    ]
    base, others = {}, {}
    for (arm, form), answers in judged.items():
        scores, name = Scores.of_counts(answers.counts), f"{BASE_ARM}@{form}"
        if arm == BASE_ARM:
            base[name] = scores
        else:
            others[arm] = name, scores
    answered = [name for name in run.asked() if not name.endswith(FORGETTING)]
    known = {recipe.asked_name(*key) for key in judged}
    missing = [name for name in answered if "@" in name and name not in known]
    # Without one of its formats nobody knows the base at its best, so no gain over it is shown.
    is_whole = not any(name.startswith(f"{BASE_ARM}@") for name in missing)
    return Elicitation(
        asked=asked,
        gains=_gains(others, base, is_whole=is_whole),
        missing=missing,
        not_asked=[form for form in recipe.formats_of(BASE_ARM) if recipe.asked_name(BASE_ARM, form) not in answered],
    )


def _gains(arms: Mapping[str, tuple[str, Scores]], base: dict[str, Scores], *, is_whole: bool) -> dict[str, FormatGain]:
    """Return each arm's gain, corrected for the number of arms; open where a format is missing.

    Args:
        arms: each arm's scores, and what the base is called that was asked in the arm's own format.
        base: the base's scores in each format.
        is_whole: all formats of the base have been judged.
    """
    # Twice, since an interval has the level of its decision, and that depends on the p-values of all arms.
    first = {arm: beats_every(arm, scores, base) for arm, (_, scores) in arms.items()}
    p_values = {arm: gain.p_value for arm, gain in first.items() if isinstance(gain, Gain)}
    gains = {}
    for arm, decision in zip(p_values, holm([*p_values.values()], ALPHA), strict=True):
        same_format, scores = arms[arm]
        gain = beats_every(arm, scores, base, decision.alpha)
        assert isinstance(gain, Gain)
        gains[arm] = FormatGain(kind=_kind(gain, same_format, base) if is_whole else "open", gain=gain)
    return gains


def _kind(gain: Gain, same_format: str, base: dict[str, Scores]) -> Kind:
    """Decide what a gain is. One of format needs both shown: the arm beats the base as it was trained to be asked, and
    so does the base itself in the format in which the gain is smallest.
    """
    if gain.is_separated:
        return "ability"
    if gain.reference == same_format or same_format not in base:
        return "open"
    elsewhere = compare_pair(gain.reference, base[gain.reference], same_format, base[same_format])
    over_same = next(pair for pair in gain.differences if same_format in (pair.better, pair.other))
    # Not shown is not the same as "no gain of ability": both have to be, or the question stays open.
    is_format = (
        not isinstance(elsewhere, Undefined)
        and elsewhere.is_separated
        and elsewhere.better == gain.reference
        and over_same.is_separated
        and over_same.better == gain.arm
    )
    return "format" if is_format else "open"


def format_kinds(arms: Sequence[Arm], elicitation: Elicitation | None) -> dict[str, Kind]:
    """Return the kind of each arm's gain over the base."""
    base = next((arm for arm in arms if arm.name == BASE_ARM), None)
    if base is None:
        return {}
    kinds: dict[str, Kind] = {}
    for arm in arms:
        if elicitation is not None:
            kinds[arm.name] = elicitation.gains[arm.name].kind if arm.name in elicitation.gains else "open"
        else:
            # The samples alone speak: where the base writes programs less often, nobody knows what it could do.
            is_rarer = (base.shares.program.value or 0.0) < (arm.shares.program.value or 0.0)
            kinds[arm.name] = "open" if is_rarer else "ability"
    return kinds
