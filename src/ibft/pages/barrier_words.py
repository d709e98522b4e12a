"""What the barrier experiment shows, in words that rules choose by its numbers.

The learning rate that the headline is about is chosen by the control alone: the lowest at which it learns the task.
Learning rates are chosen on the dev problems, and all figures are of the test problems.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ibft.artifacts.barrier import Data
from ibft.pages.barrier_means import Condition, Estimate, Means, Setting, all_of_10, dev_pass_at_1, general, pass_at_1

__all__ = ["Finding", "describe"]

LEARNED = 0.7
"""Pass@1 of the control on the dev problems at which it has learned the task."""


class Finding(NamedTuple):
    """What is shown of one arm.

    barrier: whether planted data are learned worse than the control at the control's learning rate; "unclear" where
        the interval has 0 in it, or there is none.
    setting: the learning rate that this is about; None where there is no control.
    """

    barrier: Literal["yes", "no", "unclear"]
    headline: str
    sentences: list[str]
    setting: Setting | None


def describe(means: Means, arm: str) -> Finding:
    """Return what the rows of one arm show."""
    if not means.doses[-1]:
        return Finding(
            "unclear",
            "Nothing was planted",
            ["The bases have read none of the training data. Add a dose above 0 to `doses`."],
            None,
        )
    pairs = _pairs(means, arm)
    if not pairs:
        return Finding(
            "unclear",
            "Nothing to compare with",
            ["Planted data need a control: fresh data, or a base of dose 0. Add one to `data` or `doses`."],
            None,
        )
    reference, has_learned = _reference(means, pairs)
    planted, control = pairs[reference]
    gap = _points(means.difference(control, planted, pass_at_1))
    tuned = _tuned(means, pairs)
    # None also where cells are missing, and the two have no world in common.
    tuned_gap = means.difference(*tuned, pass_at_1) if len(means.settings) > 1 else None
    sentences = [_gap_sentence(means, pairs[reference], reference, gap, has_learned=has_learned)]
    sentences += _unplanted(means, planted, control)
    if tuned_gap is not None:
        sentences.append(_tuned_sentence(means, tuned, tuned_gap))
    sentences += [
        *_dose_sentence(means, planted),
        *_consistency(means, planted, control),
        *_conflict(means, planted),
        *_forgetting(means, planted),
    ]
    barrier, headline = _headline(gap, tuned_gap, reference)
    return Finding(barrier, headline, sentences, reference)


def _pairs(means: Means, arm: str) -> dict[Setting, tuple[Condition, Condition]]:
    """Return planted data at the largest dose, and its control, for each setting that has both.

    The control is one kind for all: fresh data on the same base, or without any, the unplanted base.
    """
    controls: tuple[tuple[int, Data], ...] = ((means.doses[-1], "fresh"), (0, "planted"))
    for dose, data in controls:
        pairs = {}
        for setting in means.settings:
            planted = Condition(means.doses[-1], arm, "planted", setting)
            control = planted._replace(dose=dose, data=data)
            if means.difference(control, planted, pass_at_1) is not None:
                pairs[setting] = planted, control
        if pairs:
            return pairs
    return {}


def _reference(means: Means, pairs: dict[Setting, tuple[Condition, Condition]]) -> tuple[Setting, bool]:
    reached = {setting: _dev_value(means, control) for setting, (_, control) in pairs.items()}
    # In the order of their learning rates.
    for setting, value in reached.items():
        if value >= LEARNED:
            return setting, True
    return max(reached, key=lambda setting: reached[setting]), False


def _tuned(means: Means, pairs: dict[Setting, tuple[Condition, Condition]]) -> tuple[Condition, Condition]:
    """Return the best control and the best planted condition, each of all settings where it did not diverge."""
    pair = next(iter(pairs.values()))
    planted, control = (
        max(
            (condition._replace(setting=setting) for setting in means.settings),
            key=lambda c: _dev_value(means, c),
        )
        for condition in pair
    )
    return control, planted


def _headline(
    gap: Estimate, tuned_gap: Estimate | None, reference: Setting
) -> tuple[Literal["yes", "no", "unclear"], str]:
    if gap.interval is None:
        return "unclear", "One world cannot show a barrier: there is no interval"
    if gap.sign == 0:
        return "unclear", "No barrier is shown: the interval has 0 in it"
    if gap.sign < 0:
        return "no", f"No barrier: at {reference.name}, memorized data are learned better than the control"
    if tuned_gap is None:
        return "yes", f"What the base has memorized is a barrier at {reference.name}"
    at_best = "and at the best learning rate, too" if tuned_gap.sign > 0 else "and none is shown at the best"
    return "yes", f"What the base has memorized is a barrier at {reference.name}, {at_best}"


def _gap_sentence(
    means: Means, pair: tuple[Condition, Condition], reference: Setting, gap: Estimate, *, has_learned: bool
) -> str:
    planted, control = pair
    chosen = (
        f"the lowest learning rate at which the control reaches {LEARNED:.0%} on the dev problems"
        if has_learned
        else f"the control's best learning rate on the dev problems, where it does not reach {LEARNED:.0%}"
    )
    what = "fresh data" if control.data == "fresh" else "the same data on a base that has not read them"
    return (
        f"At {reference.name}: {what} reach {_value(means, control):.1%} Pass@1 on unseen compositions; data that "
        f"pretraining had {_times(planted.dose)} reach {_value(means, planted):.1%}, {_less(gap)}. This is {chosen}."
    )


def _unplanted(means: Means, planted: Condition, control: Condition) -> list[str]:
    unplanted = planted._replace(dose=0)
    if unplanted in (planted, control) or (mean := means.mean(unplanted, pass_at_1)) is None:
        return []
    gap = _points(means.difference(unplanted, planted, pass_at_1))
    return [f"Without memory: a base that has not read these data reaches {mean.value:.1%} on them; {_less(gap)}."]


def _tuned_sentence(means: Means, tuned: tuple[Condition, Condition], gap: Estimate) -> str:
    control, planted = tuned
    assert control.setting is not None
    assert planted.setting is not None
    return (
        f"Tuned: the control's best is {_value(means, control):.1%} ({control.setting.name}), that of planted data "
        f"{_value(means, planted):.1%} ({planted.setting.name}), {_less(gap)}. Each was chosen on the dev problems."
    )


def _dose_sentence(means: Means, planted: Condition) -> list[str]:
    by_dose = {dose: means.mean(planted._replace(dose=dose), pass_at_1) for dose in means.doses}
    parts = [f"{mean.value:.1%} at {dose}" for dose, mean in by_dose.items() if mean is not None]
    return [f"Planted data by repetitions: {', '.join(parts)}."] if len(parts) > 1 else []


def _consistency(means: Means, planted: Condition, control: Condition) -> list[str]:
    gap = means.difference(control, planted, all_of_10)
    if gap is None:
        return []
    first, second = (means.mean(condition, all_of_10) for condition in (control, planted))
    assert first is not None
    assert second is not None
    return [f"All of ten samples: Pass@10^(10) is {first.value:.1%} against {second.value:.1%}, {_less(gap)}."]


def _conflict(means: Means, planted: Condition) -> list[str]:
    figures = [
        means.mean(condition, measure)
        for condition in (Condition(planted.dose), planted)
        for measure in (lambda g: g.obeys_docstring, lambda g: g.obeys_cue)
    ]
    docstring, cue, docstring_after, cue_after = figures
    if docstring is None or cue is None or docstring_after is None or cue_after is None:
        return []
    return [
        f"Conflict: above another docstring, a memorized cue recites in {cue.value:.1%} of answers of the base and in "
        f"{cue_after.value:.1%} after training on planted data; the docstring is obeyed in {docstring.value:.1%} "
        f"and in {docstring_after.value:.1%}."
    ]


def _forgetting(means: Means, planted: Condition) -> list[str]:
    parts = []
    for depth in means.depths:
        before, after = (means.mean(one, general(depth)) for one in (Condition(planted.dose), planted))
        if before is not None and after is not None:
            parts.append(f"{after.value:.1%} for {_operations(depth)} ({before.value:.1%} before)")
    return [f"Forgetting: after planted data, Pass@1 on general problems is {', '.join(parts)}."] if parts else []


def _points(gap: Estimate | None) -> Estimate:
    assert gap is not None, "the pair has a world in common"
    return gap


def _value(means: Means, condition: Condition) -> float:
    mean = means.mean(condition, pass_at_1)
    assert mean is not None, "the pair has values"
    return mean.value


def _dev_value(means: Means, condition: Condition) -> float:
    """Return what a setting is chosen by, the mean on the dev problems; below every chance where there is none."""
    mean = means.mean(condition, dev_pass_at_1)
    return -1.0 if mean is None else mean.value


def _less(gap: Estimate) -> str:
    """Return a difference in words, such as `76.2 points less (95% interval 60.1 to 92.3, 2 worlds)`."""
    size, word = 100 * abs(gap.value), "less" if gap.value >= 0 else "more"
    worlds = "1 world" if gap.num_worlds == 1 else f"{gap.num_worlds} worlds"
    if gap.interval is None:
        return f"{size:.1f} points {word} ({worlds}, so no interval)"
    # Within what a difference of chances can be.
    low, high = sorted(100 * min(1.0, max(-1.0, end)) * (1 if gap.value >= 0 else -1) for end in gap.interval)
    return f"{size:.1f} points {word} (95% interval {_number(low)} to {_number(high)}, {worlds})"


def _number(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _times(dose: int) -> str:
    return "once" if dose == 1 else f"{dose} times"


def _operations(depth: int) -> str:
    return "one operation" if depth == 1 else f"{depth} operations"
