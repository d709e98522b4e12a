"""The audit: one page that says whether the base model predicts the training data too well, for those who decide.

report/audit.html    the page: no script, no network, light and dark, for screens and paper
report/figures/      its charts as SVG and PDF

Like the report it is made again each time, from what `scan` and the arms' scans (`rescan/ARM`) left.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ibft.artifacts.rows import ShownExample
from ibft.artifacts.scan import Extraction
from ibft.artifacts.score_names import score_label
from ibft.errors import UserError
from ibft.pages.after_training import after_training
from ibft.pages.audit_rows import interval, key_figures, model_rows, number, percent, ratio, score_rows, share, times
from ibft.pages.evidence import read_making, skipped_in_scan
from ibft.pages.heatmap import LEGEND, Heatmap, heatmap
from ibft.pages.page import Page, render_template, write_page
from ibft.pages.recall import recall_chart, recall_rows
from ibft.pages.scan import SUBSET_NAMES, Scan, read_scan, read_shown_examples
from ibft.pages.scan_charts import auroc_chart, density_chart
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe

__all__ = ["audit", "render_audit"]

_MAX_EXAMPLES = 20


class DrawnExample(NamedTuple):
    """One of the most memorized examples and its colored tokens."""

    example: ShownExample
    heatmap: Heatmap


def audit(recipe: Recipe, run: RunFolder) -> Path:
    """Write the audit of what the run folder holds now, and return the page's path.

    Raises:
        UserError: the data has not been scanned, or by an older version; a file is damaged or cannot be written.
    """
    scan = read_scan(recipe, run)
    if scan is None:
        raise UserError(f"{run.path / 'scan'} does not exist yet. Run `ibft scan RECIPE` first, or `ibft run RECIPE`.")
    # The page is built around the verdict: an older scan has numbers alone.
    if scan.summary.verdict is None:
        raise UserError(
            f"{run.path / 'scan' / 'summary.json'} has no verdict: an older version of ibft made it. "
            "Run `ibft scan RECIPE --overwrite` to make it again."
        )
    return write_page(run, "audit.html", render_audit(recipe, run, scan))


def render_audit(recipe: Recipe, run: RunFolder, scan: Scan) -> Page:
    """Return the page. The same run folder gives the same text."""
    summary = scan.summary
    charts = {
        "densities": density_chart(scan),
        "aurocs": auroc_chart(summary.comparison) if summary.comparison else None,
        "recall": recall_chart(summary.recall) if summary.recall else None,
    }
    html = render_template(
        "audit.html",
        {show.__name__: show for show in (interval, percent, share, ratio, number)},
        recipe=recipe,
        summary=summary,
        verdict=summary.verdict,
        headline_score=score_label(summary.score),
        figures=key_figures(summary),
        charts=charts,
        model_rows=model_rows(scan),
        rescans=scan.rescans,
        after=after_training(scan),
        score_rows=score_rows(summary),
        recall_rows=recall_rows(summary.recall) if summary.recall else [],
        times=times,
        subset_names=SUBSET_NAMES,
        attempts=sorted({n for extraction in summary.extraction.values() for n, _ in extraction.within}),
        examples=[
            DrawnExample(example, heatmap(example, summary.extraction.get(example.subset, Extraction()).prefix_tokens))
            for example in read_shown_examples(run)[:_MAX_EXAMPLES]
        ],
        legend=LEGEND,
        skipped=skipped_in_scan(summary),
        making=read_making(recipe, run, ("scan", "rescan")),
    )
    return Page(html, [chart for chart in charts.values() if chart is not None])
