"""The charts of the barrier's page: over the dose, over the learning rate, of conflicts, of what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ibft.pages.barrier_means import (
    Condition,
    Estimate,
    Means,
    Measure,
    Setting,
    all_of_10,
    general,
    pass_at_1,
    rate_name,
)
from ibft.pages.charts import Curve, Dot, draw_curves, draw_intervals
from ibft.pages.figures import Chart

__all__ = ["arm_charts"]

_DOSE_AXIS = "repetitions in pretraining (on the scale of log(1 + r))"
_RATE_AXIS = "learning rate"


def arm_charts(means: Means, arm: str, reference: Setting | None) -> list[Chart]:
    """Draw one arm.

    Args:
        means: of all rows.
        arm: the objective's.
        reference: the learning rate for what is drawn at one alone; None leaves these charts out.
    """
    charts = [
        _over_dose(means, arm, schedule, f"{arm}-{schedule}-{name}", measure, title)
        for schedule in means.schedules
        for name, measure, title in (
            ("pass-at-1", pass_at_1, "Pass@1 on unseen compositions (%)"),
            ("pass-at-10-all", all_of_10, "Pass@10⁽¹⁰⁾ on unseen compositions (%)"),
        )
    ]
    if len({setting.learning_rate for setting in means.settings}) > 1:
        charts.append(_over_rate(means, arm))
    if reference is not None:
        charts += [_conflict(means, arm, reference), _forgetting(means, arm, reference)]
    return [chart for chart in charts if chart is not None]


def _over_dose(means: Means, arm: str, schedule: str, name: str, measure: Measure, title: str) -> Chart | None:
    curves: dict[str, dict[str, Curve]] = {"planted": {}, "fresh": {}}
    for setting in means.settings:
        if setting.schedule != schedule:
            continue
        for data, found in curves.items():
            conditions = {
                math.log10(1 + dose): Condition(dose, arm, data, setting)  # type: ignore[arg-type]
                for dose in means.doses
            }
            if (curve := _curve(means, conditions, measure)) is not None:
                found[rate_name(setting.learning_rate)] = curve
    if not (shown := curves["planted"] or curves["fresh"]):
        return None
    targets = curves["fresh"] if curves["planted"] else {}
    drawing = draw_curves(
        shown,
        _DOSE_AXIS,
        title,
        is_percentage=True,
        targets={name: curve for name, curve in targets.items() if name in shown},
        ticks={math.log10(1 + dose): str(dose) for dose in means.doses},
    )
    lines = "A line for each learning rate"
    what = f"{lines}: thick on planted data, thin on fresh data." if targets else f"{lines}."
    return Chart(name, drawing, f"{arm}, {schedule} learning rate. {what} {_whiskers(means)}")


def _over_rate(means: Means, arm: str) -> Chart | None:
    """Draw the curve over learning rates by schedule: the largest dose and the smallest, with fresh data beside."""
    shown: dict[str, Curve] = {}
    targets: dict[str, Curve] = {}
    for schedule in means.schedules:
        for dose in dict.fromkeys((means.doses[-1], means.doses[0])):
            name = f"{schedule}, r = {dose}"
            for data, curves in (("planted", shown), ("fresh", targets)):
                conditions = {
                    math.log10(setting.learning_rate): Condition(dose, arm, data, setting)  # type: ignore[arg-type]
                    for setting in means.settings
                    if setting.schedule == schedule
                }
                if (curve := _curve(means, conditions, pass_at_1)) is not None:
                    curves[name] = curve
    if not shown:
        return None
    drawing = draw_curves(
        shown,
        _RATE_AXIS,
        "Pass@1 on unseen compositions (%)",
        is_percentage=True,
        targets={name: curve for name, curve in targets.items() if name in shown},
        ticks={math.log10(setting.learning_rate): rate_name(setting.learning_rate) for setting in means.settings},
    )
    caption = "By schedule and by the repetitions r of the training data in pretraining: thick on planted data, thin on"
    return Chart(f"{arm}-learning-rate", drawing, f"{arm}. {caption} fresh data. {_whiskers(means)}")


def _conflict(means: Means, arm: str, reference: Setting) -> Chart | None:
    styles = {"obeys the docstring": 1, "recites by the cue": 2}
    measures: dict[str, Measure] = {
        "obeys the docstring": lambda gauges: gauges.obeys_docstring,
        "recites by the cue": lambda gauges: gauges.obeys_cue,
    }
    rows = {
        name: dots
        for name, condition in _before_and_after(means, arm, reference).items()
        if (dots := {label: dot for label, one in measures.items() if (dot := _dot(means.mean(condition, one)))})
    }
    if not rows:
        return None
    caption = f"A memorized cue above another task's docstring, r = {means.doses[-1]}, {arm} at {reference.name}."
    return Chart(
        f"{arm}-conflict", draw_intervals(rows, "% of answers", styles=styles), f"{caption} {_whiskers(means)}"
    )


def _forgetting(means: Means, arm: str, reference: Setting) -> Chart | None:
    conditions = _before_and_after(means, arm, reference)
    rows = {
        f"depth {depth}": dots
        for depth in means.depths
        if (dots := {n: dot for n, c in conditions.items() if (dot := _dot(means.mean(c, general(depth))))})
    }
    if not rows:
        return None
    styles = {name: number for number, name in enumerate(conditions)}
    caption = f"Problems like those of general pretraining, r = {means.doses[-1]}, {arm} at {reference.name}."
    drawing = draw_intervals(rows, "Pass@1 (%)", styles=styles)
    return Chart(f"{arm}-forgetting", drawing, f"{caption} {_whiskers(means)}")


def _before_and_after(means: Means, arm: str, reference: Setting) -> Mapping[str, Condition]:
    dose = means.doses[-1]
    return {
        "base": Condition(dose),
        "after planted data": Condition(dose, arm, "planted", reference),
        "after fresh data": Condition(dose, arm, "fresh", reference),
    }


def _curve(means: Means, conditions: Mapping[float, Condition], measure: Measure) -> Curve | None:
    """Return the means in percent over x; None where no condition has one."""
    found = {x: mean for x, condition in conditions.items() if (mean := means.mean(condition, measure)) is not None}
    if not found:
        return None
    return Curve(
        list(found),
        [100 * mean.value for mean in found.values()],
        [_percent_interval(mean) or (100 * mean.value, 100 * mean.value) for mean in found.values()],
    )


def _whiskers(means: Means) -> str:
    """Return what the whiskers are, or why there are none."""
    if means.num_worlds < 2:
        return "One world has no intervals."
    return "Whiskers: Student's 95% intervals over worlds."


def _dot(mean: Estimate | None) -> Dot | None:
    return None if mean is None else Dot(100 * mean.value, _percent_interval(mean))


def _percent_interval(mean: Estimate) -> tuple[float, float] | None:
    """Return the part of an interval that a chance can have."""
    if mean.interval is None:
        return None
    low, high = mean.interval
    return 100 * max(0.0, low), 100 * min(1.0, high)
