"""The report's charts: which of the run's data is drawn, and how it is captioned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from ibft.charts import Curve, Dot, curves_svg, density_svg, intervals_svg, themed
from ibft.metrics.pass_at_k import metric_name
from ibft.metrics.summary import Metric
from ibft.report.compare import Comparison
from ibft.report.evidence import Scan, TrainedArm
from ibft.rows import Score, TrainingLog

__all__ = ["Chart", "metric_charts", "metric_label", "scan_charts", "training_charts"]

_SUPERSCRIPTS = str.maketrans("0123456789()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾")

_TRAINING_METRICS = {
    "loss": ("Training loss (nats a token)", "The whole loss that is minimized, so an arm's extra terms count in it."),
    "ce": (
        "Cross-entropy (nats a token)",
        "Without an arm's extra terms, so the arms can be compared.",
    ),
    "ib/kl": ("KL to the prior (nats)", "How much the bottleneck lets through."),
    "ib/ce": ("Cross-entropy through the bottleneck", "In nats a token."),
    "ib/loss": ("Bottleneck loss", "KL plus beta times the cross-entropy through the bottleneck, before alpha."),
    "grad_norm": ("Gradient norm", "Before clipping."),
    "learning_rate": ("Learning rate", "The schedule as it was applied."),
}


class Chart(NamedTuple):
    """An SVG for the page, and the sentence below it."""

    svg: str
    caption: str


def metric_label(name: str) -> str:
    """A metric's name for people: `pass@10^(5)` becomes `Pass@10⁽⁵⁾`."""
    base, _, power = name.partition("^")
    return base.capitalize() + power.translate(_SUPERSCRIPTS)


def metric_charts(comparison: Comparison, styles: Mapping[str, int]) -> list[Chart]:
    """The headline metrics with their intervals, and Pass@k^(m) over m for the largest k that is defined."""
    names = [metric_name(k, m) for k in comparison.k for m in ((1, k) if k > 1 else (1,))]
    rows = {metric_label(name): _dots(comparison, name) for name in names}
    rows = {label: dots for label, dots in rows.items() if dots}
    if not rows:
        return []
    judged = {arm.name: styles[arm.name] for arm in comparison.arms}
    charts = [
        Chart(
            themed(intervals_svg(rows, "% of problems", styles=judged)),
            "Estimates with 95% bootstrap intervals over problems. Undefined metrics are left out here; "
            "the table says why.",
        )
    ]
    sizes = [k for k in comparison.k if k > 1 and _dots(comparison, metric_name(k))]
    if sizes:
        charts.append(_consistency_chart(comparison, max(sizes), judged))
    return charts


def training_charts(
    trained: Sequence[TrainedArm], styles: Mapping[str, int], plain_arms: Collection[str]
) -> list[Chart]:
    """A chart for each known metric that at least one arm has logged.

    Args:
        trained: the arms and their logs.
        styles: arm to the number of its color and marker.
        plain_arms: whose loss is the plain cross-entropy: beside an arm that logs `ce`, theirs is drawn, too.
    """
    charts = []
    for name, (title, caption) in _TRAINING_METRICS.items():
        curves = {arm.name: curve for arm in trained if (curve := _curve(arm.log, name)) is not None}
        if name == "ce" and curves:
            plain = {arm.name: _curve(arm.log, "loss") for arm in trained if arm.name in plain_arms}
            curves = {name: curve for name, curve in plain.items() if curve is not None} | curves
        if curves:
            svg = curves_svg(curves, "optimizer step", title, whole_x=True, styles=styles)
            charts.append(Chart(themed(svg), caption))
    return charts


def scan_charts(scan: Scan) -> list[Chart]:
    """Densities of Min-K% Prob and of the mean NLL, of the training data and the control set."""
    k_percent = f"{scan.summary.k_percent:g}"
    measures: list[tuple[str, str, Callable[[Score], float | None]]] = [
        (f"Min-{k_percent}% Prob (nats a token)", f"The least likely {k_percent}% of tokens.", lambda s: s.min_k_prob),
        ("Mean NLL (nats a token)", "All tokens of the response.", lambda s: s.mean_nll),
    ]
    charts = []
    for title, caption, measure in measures:
        series = {
            label: [value for score in scan.scores if score.subset == subset and (value := measure(score)) is not None]
            for subset, label in (("train", "training data"), ("control", "control set"))
        }
        present = {label: values for label, values in series.items() if values}
        if present:
            charts.append(Chart(themed(density_svg(present, title)), f"{caption} Vertical lines: medians."))
    return charts


def _consistency_chart(comparison: Comparison, k: int, styles: Mapping[str, int]) -> Chart:
    curves = {}
    for arm in comparison.arms:
        dots = [_dot(arm.metrics.get(metric_name(k, m))) for m in range(1, k + 1)]
        known = [(m, dot) for m, dot in enumerate(dots, start=1) if dot is not None]
        if known:
            curves[arm.name] = Curve(
                [m for m, _ in known],
                [dot.value for _, dot in known],
                [dot.interval or (dot.value, dot.value) for _, dot in known],
            )
    svg = curves_svg(
        curves,
        f"m: at least m of {k} samples pass",
        f"{metric_label(f'pass@{k}^(m)').replace('m', 'ᵐ')} (% of problems)",
        whole_x=True,
        is_percentage=True,
        styles=styles,
    )
    return Chart(
        themed(svg),
        f"From one lucky sample (m = 1) to every sample (m = {k}). The right end rewards low entropy: a model that "
        "repeats itself keeps its level. Compare arms at equal temperature only.",
    )


def _dots(comparison: Comparison, name: str) -> dict[str, Dot]:
    return {arm.name: dot for arm in comparison.arms if (dot := _dot(arm.metrics.get(name))) is not None}


def _dot(metric: Metric | None) -> Dot | None:
    """In percent; None where the metric is undefined."""
    if metric is None or metric.value is None:
        return None
    interval = None if metric.ci95 is None else (100 * metric.ci95[0], 100 * metric.ci95[1])
    return Dot(100 * metric.value, interval)


def _curve(log: Sequence[TrainingLog], name: str) -> Curve | None:
    points = [(row.step, value) for row in log if (value := row.metrics.get(name)) is not None]
    return Curve([step for step, _ in points], [value for _, value in points]) if points else None
