"""The report stage: the run's results as one self-contained page, and the same comparison for programs.

report/report.html    the page: no script, no network, light and dark, for screens and paper
report/report.json    artifacts.report.Comparison
report/audit.html     the scan's own page (audit.py), where the data has been scanned
report/figures/       the charts of both pages as SVG and PDF

It is not a `Stage` of the run folder: it takes seconds, and what it reads may be incomplete on purpose (only
judged, say), so it is made again each time rather than kept until its inputs change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ibft import progress
from ibft.artifacts.report import Comparison, Difference, write_report
from ibft.artifacts.training import TrainingSummary
from ibft.pages.after_training import after_training
from ibft.pages.audit import audit
from ibft.pages.charts import MARKER_GLYPHS
from ibft.pages.compare import MAX_COLUMNS, Cell, Row, asked_rows, compare, comparison_rows
from ibft.pages.evidence import (
    TrainedArm,
    left_out,
    read_making,
    read_shown_problems,
    read_training,
)
from ibft.pages.figures import format_chart, metric_charts, training_charts
from ibft.pages.page import Page, duration, render_template, write_page
from ibft.pages.scan import read_scan
from ibft.pages.scan_charts import density_chart
from ibft.pages.verdict import best_arm, costs, format_name, points
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe, dump_recipe

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["render", "report"]

_MAX_PAIRS = 6


def report(recipe: Recipe, run: RunFolder) -> Comparison:
    """Write the report of what the run folder holds now, and return its comparison.

    Raises:
        UserError: no arm has been judged, a file is damaged, or the report cannot be written.
    """
    with progress.task("Reporting", total=None):
        comparison = compare(recipe, run)
        path = write_page(run, "report.html", render(comparison, recipe, run))
        write_report(path.parent, comparison)
        scan = read_scan(recipe, run)
        if scan is not None and scan.summary.verdict is not None:
            audit(recipe, run)
    return comparison


def render(comparison: Comparison, recipe: Recipe, run: RunFolder) -> Page:
    """Return the page. The same run folder gives the same text: the page does not say when it was made."""
    # An arm keeps its color and marker in all charts, whichever arms a chart shows.
    styles = {name: index for index, name in enumerate(recipe.arms)}
    trained = read_training(recipe, run)
    scan = read_scan(recipe, run)
    of_metrics = metric_charts(comparison, styles)
    of_formats = format_chart(comparison)
    of_training = training_charts(trained, styles, _plain_arms(recipe))
    html = render_template(
        "template.html",
        {"costs": costs, "format_name": format_name, "label": _metric_html, "points": points},
        recipe=recipe,
        recipe_yaml=dump_recipe(recipe),
        comparison=comparison,
        rows=comparison_rows(comparison),
        glyphs={name: MARKER_GLYPHS[index % len(MARKER_GLYPHS)] for name, index in styles.items()},
        styles=styles,
        num_styles=len(MARKER_GLYPHS),
        pairs=_pairs(comparison),
        metric_charts=of_metrics,
        asked_rows=asked_rows(comparison.elicitation) if comparison.elicitation else [],
        asked_chart=of_formats,
        max_columns=MAX_COLUMNS,
        trained=trained,
        training_rows=_training_rows(trained),
        training_charts=of_training,
        scan=scan,
        density_chart=density_chart(scan) if scan else None,
        after=after_training(scan) if scan else None,
        problems=read_shown_problems(recipe, run, [arm.name for arm in comparison.arms]),
        left_out=left_out(recipe, trained, scan),
        making=read_making(recipe, run),
    )
    return Page(
        html,
        [*of_metrics, *filter(None, [of_formats]), *of_training.losses, *of_training.gauges, *of_training.more_gauges],
    )


def _pairs(comparison: Comparison) -> tuple[list[Difference], list[Difference]]:
    """Return the differences to show at once, and the others: among many arms, those with the best one come first."""
    if len(comparison.differences) <= _MAX_PAIRS:
        return comparison.differences, []
    best = best_arm([arm for arm in comparison.arms if arm.pass_at_1.value is not None]).name
    shown = [difference for difference in comparison.differences if best in (difference.better, difference.other)]
    return shown, [difference for difference in comparison.differences if difference not in shown]


def _plain_arms(recipe: Recipe) -> set[str]:
    return {objective.arm for objective in recipe.objective if objective.is_plain}


def _training_rows(trained: Sequence[TrainedArm]) -> list[Row]:
    """Return what the training took, as text."""
    summaries = [arm.summary for arm in trained]
    columns: list[tuple[str, Callable[[TrainingSummary], float | None], Callable[[float], str]]] = [
        ("Optimizer steps", lambda arm: arm.steps, "{:,}".format),
        ("Examples", lambda arm: arm.examples, "{:,}".format),
        ("Tokens", lambda arm: arm.tokens, "{:,}".format),
        ("Time", lambda arm: arm.seconds, duration),
        ("Peak memory", lambda arm: arm.peak_memory_mib, "{:,.0f} MiB".format),
    ]
    return [
        Row(label, [Cell("–" if (value := read(arm)) is None else show(value)) for arm in summaries])
        for label, read, show in columns
    ] + _held_out_rows(summaries)


def _held_out_rows(summaries: Sequence[TrainingSummary]) -> list[Row]:
    """Return what held-out data decided, as text; nothing where no arm had any."""
    found = [summary.held_out for summary in summaries]
    if not any(found):
        return []
    kept = ["–" if one is None or one.kept_step is None else f"{one.kept_step:,}" for one in found]
    lowest = [
        "–"
        if one is None or one.best_step is None or one.best_loss is None
        else f"{one.best_loss:.4f} nats per token, after step {one.best_step:,}"
        for one in found
    ]
    return [
        Row("Step of the weights", [Cell(text) for text in kept]),
        Row("Lowest held-out cross-entropy", [Cell(text) for text in lowest]),
    ]


def _metric_html(name: str) -> Markup:
    """Return a row's label with its power raised."""
    from markupsafe import Markup

    # Screen readers know `sup`; few know the raised Unicode digits.
    base, _, power = name.partition("^")
    return Markup("{}<sup>{}</sup>").format(base, power) if power else Markup.escape(base)
