"""The page of the barrier experiment: is what a base has memorized a barrier to fine-tuning, and at which rates?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibft.artifacts.barrier import BarrierRow
from ibft.pages.audit_rows import percent
from ibft.pages.barrier_charts import arm_charts
from ibft.pages.barrier_means import Condition, Estimate, Means, all_of_10, general, pass_at_1, recited
from ibft.pages.barrier_words import Finding, describe
from ibft.pages.figures import Chart
from ibft.pages.page import Page, render_template

__all__ = ["TableRow", "render_barrier", "table_rows", "table_titles"]


class TableRow(NamedTuple):
    """A condition, and its means as text: each a figure with its interval, or the reason why there is none."""

    label: str
    cells: list[tuple[str, str]]


class _Arm(NamedTuple):
    name: str
    finding: Finding
    charts: list[Chart]


def render_barrier(rows: Sequence[BarrierRow], num_cells: int, command: str) -> Page:
    """Return the page. The same rows give the same text.

    Args:
        rows: those of the experiment that are there; at least one.
        num_cells: how many there should be.
        command: what made them.
    """
    means = Means(rows)
    arms = [_Arm(arm, finding := describe(means, arm), arm_charts(means, arm, finding.setting)) for arm in means.arms]
    html = render_template(
        "barrier.html",
        {"percent": percent},
        means=means,
        arms=arms,
        rows=table_rows(means),
        titles=table_titles(means),
        num_cells=num_cells,
        num_missing=num_cells - len(rows),
        temperature=next((row.gauges.temperature for row in rows if row.gauges), None),
        num_diverged=sum(row.gauges is None for row in rows),
        command=command,
    )
    return Page(html, [chart for arm in arms for chart in arm.charts])


def table_titles(means: Means) -> list[str]:
    """Return the heads of the table's columns behind the first."""
    return [
        "worlds",
        "Pass@1",
        "Pass@10⁽¹⁰⁾",
        "obeys docstring",
        "obeys cue",
        "recited by cue",
        *(f"general, depth {depth}" for depth in means.depths),
        "training loss",
        "gradient cosine",
    ]


def table_rows(means: Means) -> list[TableRow]:
    """Return every mean of the experiment, a row for each condition."""
    return [TableRow(_label(means, condition), _cells(means, condition)) for condition in means.conditions]


def _label(means: Means, condition: Condition) -> str:
    if condition.setting is None:
        return f"r = {condition.dose}, base"
    arm = f"{condition.arm}, " if len(means.arms) > 1 else ""
    return f"r = {condition.dose}, {arm}{condition.data}, {condition.setting.name}"


def _cells(means: Means, condition: Condition) -> list[tuple[str, str]]:
    rows = means.rows(condition)
    num_worlds = str(len({row.world_seed for row in rows}))
    if any(row.gauges is None for row in rows):
        return [(num_worlds, ""), ("diverged", ""), *[("–", "")] * (len(table_titles(means)) - 2)]
    measured = [means.mean(condition, measure) for measure in (pass_at_1, all_of_10)]
    others = [
        means.mean(condition, measure)
        for measure in (
            lambda gauges: gauges.obeys_docstring,
            lambda gauges: gauges.obeys_cue,
            recited,
            *map(general, means.depths),
        )
    ]
    losses = [row.training_loss for row in rows if row.training_loss is not None]
    cosines = [row.gradients.cosine for row in rows if row.gradients and row.gradients.cosine is not None]
    return [
        (num_worlds, ""),
        *((_percent(mean), _interval(mean)) for mean in measured),
        *((_percent(mean), "") for mean in others),
        *((f"{sum(values) / len(values):.3f}" if values else "–", "") for values in (losses, cosines)),
    ]


def _percent(mean: Estimate | None) -> str:
    return "–" if mean is None else percent(mean.value)


def _interval(mean: Estimate | None) -> str:
    if mean is None or mean.interval is None:
        return ""
    low, high = mean.interval
    # What a mean of chances can be.
    return f"{100 * max(0.0, low):.1f} to {100 * min(1.0, high):.1f}"
