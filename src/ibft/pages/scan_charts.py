"""The scan's charts."""

from __future__ import annotations

import math

from ibft.artifacts.scan import Auroc, ControlComparison, SubsetSummary
from ibft.artifacts.score_names import score_axis, score_label
from ibft.pages.audit_rows import share
from ibft.pages.charts import Dot, draw_against, draw_densities
from ibft.pages.figures import Chart
from ibft.pages.scan import Scan

__all__ = ["auroc_chart", "density_chart"]


def density_chart(scan: Scan) -> Chart | None:
    """Draw the densities of the headline score: data under each model and control set; None without numbers."""
    # The medians come from the summaries: the densities are drawn from at most 2,000 values of each set.
    series, medians = dict(scan.densities.series), {}
    for name, subset in (("training data", "train"), ("control set", "control")):
        medians[name] = scan.summary.subsets.get(subset, SubsetSummary()).medians.get(scan.summary.score, math.nan)
    for summary, densities in scan.rescans:
        for name in [name for name in densities.series if name not in series]:
            series[name] = densities.series[name]
            medians[name] = summary.median_after
    series = {name: values for name, values in series.items() if values}
    if not series:
        return None
    barrier = scan.summary.barrier
    # In the summary of an older scan the threshold may be null.
    if barrier is not None and math.isnan(barrier.threshold):
        barrier = None
    drawing = draw_densities(
        series,
        # An older scan may have no label of its own.
        scan.densities.label or score_axis(scan.summary.score),
        medians={name: median for name, median in medians.items() if not math.isnan(median)},
        threshold=barrier.threshold if barrier else None,
    )
    caption = "Further left is more predictable. Vertical lines: medians."
    if barrier is not None:
        caption += f" Shaded: below the threshold, where {share(barrier.expected_share)} of the control set are."
    return Chart("densities", drawing, caption)


def auroc_chart(compared: ControlComparison) -> Chart | None:
    """Draw every score's AUROC beside the blind classifier's; None where no AUROC is defined."""
    dots = {score_label(score.name): dot for score in compared.scores if (dot := _auroc_dot(score.auroc)) is not None}
    if not dots:
        return None
    blind = None if compared.blind is None else _auroc_dot(compared.blind)
    groups = {
        word: [score_label(score.name) for score in compared.scores if score.beats_blind is beats]
        for word, beats in (("no better than blind", False), ("better than blind", True))
    }
    drawing = draw_against(
        dots,
        "AUROC",
        groups=groups if blind else {},  # without a blind classifier nothing is better or worse than it
        reference=None if blind is None else ("blind classifier", blind),
        neutral=0.5,
    )
    caption = "Whiskers: 95% intervals. Dotted: 0.5, no difference between the sets."
    if blind is not None:
        caption += " The band is the interval of the classifier that never sees the model."
    return Chart("aurocs", drawing, caption)


def _auroc_dot(auroc: Auroc) -> Dot | None:
    if math.isnan(auroc.value):
        return None
    low, high = auroc.ci95
    return Dot(auroc.value, None if math.isnan(low) or math.isnan(high) else (low, high))
