"""The report's charts: which of the run's data is drawn, and how it is captioned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ibft.artifacts.evaluations import PASS_AT_1
from ibft.artifacts.metrics import Metric
from ibft.artifacts.report import Comparison
from ibft.objectives.base import Gauge
from ibft.objectives.registry import OBJECTIVES
from ibft.pages.charts import Curve, Dot, Drawing, draw_curves, draw_intervals, draw_named_intervals
from ibft.pages.compare import headline_names
from ibft.pages.evidence import TrainedArm
from ibft.statistics.pass_at_k import metric_name

__all__ = ["Chart", "TrainingCharts", "format_chart", "metric_charts", "training_charts"]

_MAX_ARMS_TOGETHER = 4
"""With more arms, each metric has its own chart with the arms' names on the axis, and curves are smoothed."""
_MAX_SMOOTHED_POINTS = 25

_SUPERSCRIPTS = str.maketrans("0123456789()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾")

_LOSSES = (
    Gauge(
        "loss",
        "Training loss (nats per token)",
        "The whole loss that is minimized, so an arm's extra terms count in it.",
        "wide",
    ),
    Gauge("ce", "Cross-entropy (nats per token)", "Without an arm's extra terms, so the arms can be compared."),
    Gauge(
        "eval_loss",
        "Held-out cross-entropy (nats per token)",
        "Of the validation data's answers, as the saved model predicts them: without an arm's extra terms.",
    ),
    Gauge(
        PASS_AT_1,
        "Pass@1 while training (% of problems)",
        "Of the problems of train.evaluate_problems, by the model as it was at that step, with Wilson's 95% interval "
        "over problems. Where a step or a setting was chosen by these problems, only others say how good it is.",
        "percent",
    ),
    Gauge("grad_norm", "Gradient norm", "Before clipping.", "wide"),
    Gauge("learning_rate", "Learning rate", "The schedule as it was applied."),
)


class Chart(NamedTuple):
    """A drawing, the sentence below it, and the name of its files in `report/figures`."""

    name: str
    drawing: Drawing
    caption: str


class TrainingCharts(NamedTuple):
    """The training section's charts; of a bottleneck's gauges, `gauges` show whether it works."""

    losses: list[Chart]
    gauges: list[Chart]
    more_gauges: list[Chart]


def _metric_label(name: str) -> str:
    """Return a metric's name for people: `pass@10^(5)` becomes `Pass@10⁽⁵⁾`."""
    base, _, power = name.partition("^")
    return base.capitalize() + power.translate(_SUPERSCRIPTS)


def metric_charts(comparison: Comparison, styles: Mapping[str, int]) -> list[Chart]:
    """Draw the headline metrics with their intervals, and Pass@k^(m) over m for the largest k that is defined."""
    by_name = {name: dots for name in headline_names(comparison.k) if (dots := _dots(comparison, name))}
    if not by_name:
        return []
    judged = {arm.name: styles[arm.name] for arm in comparison.arms}
    caption = "Estimates with 95% bootstrap intervals over problems."
    if len(judged) <= _MAX_ARMS_TOGETHER:
        rows = {_metric_label(name): dots for name, dots in by_name.items()}
        caption += " Undefined metrics are left out here; the table says why."
        charts = [Chart("metrics", draw_intervals(rows, "% of problems", styles=judged), caption)]
    else:
        charts = [
            Chart(name, draw_named_intervals(dots, f"{_metric_label(name)} (% of problems)", styles=judged), caption)
            for name, dots in by_name.items()
        ]
    sizes = [k for k in comparison.k if k > 1 and _dots(comparison, metric_name(k))]
    if sizes:
        charts.append(_consistency_chart(comparison, max(sizes), judged))
    return charts


def format_chart(comparison: Comparison) -> Chart | None:
    """Draw how often an answer is a program, passes if it is one, and passes; None where nothing is defined.

    A band for each format in which an arm was asked, or for each arm where none was asked in several.
    """
    if comparison.elicitation is not None:
        figures = {
            f"{arm.arm}, {arm.format.replace('_', ' ')}": (arm.pass_at_1, arm.shares)
            for arm in comparison.elicitation.asked
        }
        caption = "Greedy answers, one per problem, to each way of asking."
    else:
        figures = {arm.name: (arm.pass_at_1, arm.shares) for arm in comparison.arms}
        caption = "The samples of each arm."
    # An undefined share is left out, not drawn at 0; so is an arm that has none.
    rows: dict[str, dict[str, Dot]] = {}
    for name, (pass_at_1, shares) in figures.items():
        measures = {"a program": shares.program, "passes if a program": shares.passes_if_program, "passes": pass_at_1}
        dots = {measure: dot for measure, metric in measures.items() if (dot := _dot(metric)) is not None}
        rows |= {name: dots} if dots else {}
    if not rows:
        return None
    styles = {"a program": 0, "passes if a program": 1, "passes": 2}
    caption += " The first two multiply to the third; 95% bootstrap intervals over problems."
    return Chart("formats", draw_intervals(rows, "% of answers", styles=styles), caption)


def training_charts(
    trained: Sequence[TrainedArm], styles: Mapping[str, int], plain_arms: Collection[str]
) -> TrainingCharts:
    """Draw each known metric that at least one arm has logged.

    Args:
        trained: the arms and their logs.
        styles: arm to the number of its color and marker.
        plain_arms: the arms whose loss is the plain cross-entropy.
    """
    # Objectives share gauges: each is drawn once, with all arms that log it.
    gauges = list(dict.fromkeys(gauge for kind in OBJECTIVES.values() for gauge in kind.charts))
    vital, others = ([gauge for gauge in gauges if gauge.is_vital is is_vital] for is_vital in (True, False))
    groups = [
        [chart for gauge in group if (chart := _training_chart(gauge, trained, styles, plain_arms)) is not None]
        for group in (_LOSSES, vital, others)
    ]
    return TrainingCharts(*groups)


def _training_chart(
    gauge: Gauge, trained: Sequence[TrainedArm], styles: Mapping[str, int], plain_arms: Collection[str]
) -> Chart | None:
    scale = 100 if gauge.axis == "percent" else 1
    curves = _curves(trained, gauge.name, scale)
    # Plain arms log no `ce`, since it is their loss: beside an arm that logs it, theirs is drawn, too.
    if gauge.name == "ce" and curves:
        curves = _curves([arm for arm in trained if arm.name in plain_arms], "loss") | curves
    if not curves:
        return None
    caption = gauge.caption
    if len(curves) > _MAX_ARMS_TOGETHER:
        block = max(math.ceil(len(curve.y) / _MAX_SMOOTHED_POINTS) for curve in curves.values())
        curves = {name: _averaged(curve, block) for name, curve in curves.items()}
        caption += f" Averages over {block} logged steps." if block > 1 else ""
    drawing = draw_curves(
        curves,
        "optimizer step",
        gauge.title,
        whole_x=True,
        is_percentage=gauge.axis == "percent",
        is_log=gauge.axis == "log" or (gauge.axis == "wide" and _is_wide(curves)),
        styles=styles,
        targets=_curves([arm for arm in trained if arm.name in curves], gauge.target),
        limits=gauge.limits,
    )
    return Chart(gauge.name.replace("/", "-"), drawing, caption)


def _consistency_chart(comparison: Comparison, k: int, styles: Mapping[str, int]) -> Chart:
    curves = {}
    has_intervals = len(comparison.arms) <= _MAX_ARMS_TOGETHER
    for arm in comparison.arms:
        dots = [_dot(arm.metrics.get(metric_name(k, m))) for m in range(1, k + 1)]
        known = [(m, dot) for m, dot in enumerate(dots, start=1) if dot is not None]
        if known:
            intervals = [dot.interval or (dot.value, dot.value) for _, dot in known] if has_intervals else None
            curves[arm.name] = Curve([m for m, _ in known], [dot.value for _, dot in known], intervals)
    drawing = draw_curves(
        curves,
        f"m: at least m of {k} samples pass",
        f"{_metric_label(f'pass@{k}^(m)').replace('m', 'ᵐ')} (% of problems)",
        whole_x=True,
        is_percentage=True,
        styles=styles,
    )
    return Chart(
        "consistency",
        drawing,
        f"From one lucky sample (m = 1) to every sample (m = {k}). The right end rewards low entropy: a model that "
        "repeats itself keeps its level. Compare arms at equal temperature only."
        + ("" if has_intervals else " The intervals of this many arms would hide each other: the table has some."),
    )


def _dots(comparison: Comparison, name: str) -> dict[str, Dot]:
    return {arm.name: dot for arm in comparison.arms if (dot := _dot(arm.metrics.get(name))) is not None}


def _dot(metric: Metric | None) -> Dot | None:
    """Return the metric in percent; None where it is undefined."""
    if metric is None or metric.value is None:
        return None
    interval = None if metric.ci95 is None else (100 * metric.ci95[0], 100 * metric.ci95[1])
    return Dot(100 * metric.value, interval)


def _curves(trained: Sequence[TrainedArm], name: str, scale: float = 1) -> dict[str, Curve]:
    """Return the curves of the arms that have logged this metric; a row in which it is missing or null is skipped.

    A metric that was logged with the ends of its interval (`_low`, `_high`) has whiskers.
    """
    curves = {}
    for arm in trained:
        rows = [row for row in arm.log if row.metrics.get(name) is not None]
        values, lows, highs = (
            [scale * value for row in rows if (value := row.metrics.get(name + end)) is not None]
            for end in ("", "_low", "_high")
        )
        if rows:
            intervals = list(zip(lows, highs, strict=True)) if len(lows) == len(highs) == len(rows) else None
            curves[arm.name] = Curve([row.step for row in rows], values, intervals)
    return curves


def _averaged(curve: Curve, block: int) -> Curve:
    """Average each `block` points, at the step of the last one."""
    starts = range(0, len(curve.y), block)
    return Curve(
        [curve.x[min(start + block, len(curve.x)) - 1] for start in starts],
        [statistics.fmean(curve.y[start : start + block]) for start in starts],
    )


def _is_wide(curves: Mapping[str, Curve]) -> bool:
    # Beyond a factor of 100 a linear axis shows a line at the bottom and a peak.
    positive = [value for curve in curves.values() for value in curve.y if value > 0]
    return bool(positive) and max(positive) > 100 * min(positive)
