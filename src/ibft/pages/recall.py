"""What recalls the answer, as a table and a chart: for the audit page and for the terminal."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from ibft.artifacts.recall import RecallSummary, SegmentMean
from ibft.pages.audit_rows import decimal, interval, number, signed
from ibft.pages.charts import Dot, draw_intervals
from ibft.pages.compare import Cell
from ibft.pages.figures import Chart
from ibft.pages.scan import SUBSET_NAMES

__all__ = ["RecallTableRow", "recall_chart", "recall_rows"]

_signed = partial(signed, digits=2)


class RecallTableRow(NamedTuple):
    """A kind of segment, how many examples of both sets have it, its mean share in each, and their difference.

    `is_shortcut` is "yes", "no" or "–".
    """

    kind: str
    counts: str
    train: Cell
    control: Cell
    difference: Cell
    is_shortcut: str


def recall_rows(summary: RecallSummary) -> list[RecallTableRow]:
    """Return the table as text, one row per kind of segment."""
    return [
        RecallTableRow(
            segment.kind,
            f"{_count(segment.train)} and {_count(segment.control)}",
            _mean(segment.train),
            _mean(segment.control),
            _cell(_signed(segment.difference), interval(segment.difference_ci95, _signed)),
            {True: "yes", False: "no", None: "–"}[segment.is_shortcut],
        )
        for segment in summary.segments
    ]


def recall_chart(summary: RecallSummary) -> Chart | None:
    """Draw each segment's mean share in both sets; None where there is none."""
    rows: dict[str, dict[str, Dot]] = {}
    for segment in summary.segments:
        means = {"train": segment.train, "control": segment.control}
        rows[segment.kind] = {
            SUBSET_NAMES[subset]: _dot(mean)
            for subset, mean in means.items()
            if mean is not None and not math.isnan(mean.mean)
        }
    if not rows:
        return None
    names = [SUBSET_NAMES[subset] for subset in ("train", "control") if subset in summary.num_examples]
    x_label = "Share of the answer that it recovers (%)"
    drawing = draw_intervals(rows, x_label, styles={name: place for place, name in enumerate(names)})
    caption = (
        "One segment of the prompt alone; the rest is another example's. Whiskers: 95% intervals. A shortcut is where "
        "the training data lies far to the right of the control set."
    )
    return Chart("recall", drawing, caption)


def _dot(mean: SegmentMean) -> Dot:
    low, high = (100 * end for end in mean.ci95)
    return Dot(100 * mean.mean, None if math.isnan(low) or math.isnan(high) else (low, high))


def _mean(mean: SegmentMean | None) -> Cell:
    if mean is None:
        return Cell("–")
    return _cell(decimal(mean.mean), interval(mean.ci95, decimal))


def _cell(text: str, detail: str) -> Cell:
    return Cell(text, "" if detail == "–" else detail)


def _count(mean: SegmentMean | None) -> str:
    return "none" if mean is None else number(mean.num_examples)
