"""The scan's figures as text: for the audit page and for the terminal.

An older scan lacks some: what is None or NaN is a dash, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ibft.artifacts.scan import Barrier, ControlComparison, ScanSummary
from ibft.artifacts.score_names import score_label
from ibft.pages.compare import Cell
from ibft.pages.scan import Scan
from ibft.statistics.uncertainty import Interval

__all__ = [
    "KeyFigure",
    "ModelRow",
    "ScoreRow",
    "decimal",
    "interval",
    "key_figures",
    "model_rows",
    "number",
    "percent",
    "ratio",
    "score_rows",
    "share",
    "signed",
    "times",
]


class KeyFigure(NamedTuple):
    """A figure that the verdict rests on, with its interval and what to compare it with below it."""

    label: str
    text: str
    detail: str


class ScoreRow(NamedTuple):
    """A score in the table of AUROCs; `beats_blind` is "yes", "no" or "–"."""

    label: str
    auroc: Cell
    above_blind: Cell
    beats_blind: str
    is_headline: bool


class ModelRow(NamedTuple):
    """A set of examples under one model, as text."""

    label: str
    num_examples: str
    median: str
    share: str


def key_figures(summary: ScanSummary) -> list[KeyFigure]:
    """Return what the verdict rests on, in up to four figures."""
    figures = []
    if (barrier := summary.barrier) is not None:
        detail = f"95% interval {interval(barrier.ci95)}; by chance {share(barrier.expected_share)}"
        figures.append(KeyFigure("Barrier: below the control's 5th percentile", percent(barrier.share), detail))
    if (compared := summary.comparison) is not None:
        headline = next((score for score in compared.scores if score.name == summary.score), None)
        if headline is not None and not math.isnan(headline.auroc.value):
            blind = compared.blind.value if compared.blind else math.nan
            beside = "no blind classifier beside it" if math.isnan(blind) else f"blind classifier {ratio(blind)}"
            detail = f"95% interval {interval(headline.auroc.ci95, ratio)}; {beside}"
            figures.append(KeyFigure(f"AUROC of {score_label(headline.name)}", ratio(headline.auroc.value), detail))
    if (extraction := summary.extraction.get("train")) is not None:
        control = summary.extraction.get("control")
        beside = f"; control set {percent(control.share)}" if control else ""
        detail = f"95% interval {interval(extraction.ci95)}{beside}"
        figures.append(KeyFigure("Repeated word for word", percent(extraction.share), detail))
    if (train := summary.subsets.get("train")) is not None:
        control_set = summary.subsets.get("control")
        beside = f"and {number(control_set.num_scored)} of the control set" if control_set else "no control set"
        figures.append(KeyFigure("Training examples scored", number(train.num_scored), beside))
    return figures


def score_rows(summary: ScanSummary) -> list[ScoreRow]:
    """Return the table of AUROCs as text, the blind classifier's first where it exists."""
    compared = summary.comparison or ControlComparison()
    rows = []
    if compared.blind is not None:
        cell = Cell(ratio(compared.blind.value), interval(compared.blind.ci95, ratio))
        rows.append(ScoreRow("Blind classifier", cell, Cell("–"), "–", is_headline=False))
    for score in compared.scores:
        above = score.above_blind
        rows.append(
            ScoreRow(
                score_label(score.name),
                Cell(ratio(score.auroc.value), interval(score.auroc.ci95, ratio)),
                Cell("–") if above is None else Cell(signed(above.value), interval(above.ci95, signed)),
                {True: "yes", False: "no", None: "–"}[score.beats_blind],
                score.name == summary.score,
            )
        )
    return rows


def model_rows(scan: Scan) -> list[ModelRow]:
    """Return the control set and the training data under the base model, and the latter under each fine-tuned one."""
    summary, barrier, rows = scan.summary, scan.summary.barrier, []
    shares: dict[str, str] = {}
    if barrier:
        shares = {
            "control": f"{share(barrier.expected_share)}, by definition",
            "train": percent(_share_of_all(barrier)),
        }
    for name, label in (("control", "control set, base model"), ("train", "training data, base model")):
        if (subset := summary.subsets.get(name)) is not None:
            median = subset.medians.get(summary.score)
            rows.append(ModelRow(label, number(subset.num_scored), decimal(median), shares.get(name, "–")))
    for rescan, _ in scan.rescans:
        below = percent(rescan.share_below_threshold)
        label = f"training data after {rescan.arm}"
        rows.append(ModelRow(label, number(rescan.num_examples), decimal(rescan.median_after), below))
    return rows


def _share_of_all(barrier: Barrier) -> float:
    """Return the share of all scored training examples, as rescans count; else of those that were matched."""
    # Rescans count all examples, whatever their length: only this share is comparable with theirs.
    if barrier.num_train and barrier.num_train_memorized is not None:
        return barrier.num_train_memorized / barrier.num_train
    return barrier.share


def _text(value: float | None, form: str) -> str:
    # With the minus sign of typography: a hyphen is half as wide as a plus.
    return "–" if value is None or math.isnan(value) else form.format(value).replace("-", "−")


def percent(value: float | None) -> str:
    """Return a measured fraction in percent; one that would be rounded to nothing is "<0.1%"."""
    # Rounded to 0.0%, a small share would read as none at all.
    return "<0.1%" if value and 0 < value < 0.0005 else _text(value, "{:.1%}")


def share(value: float) -> str:
    """Return a fraction that was chosen, in percent without more digits than it has."""
    return _text(100 * value, "{:g}%")


def ratio(value: float | None) -> str:
    """Return an AUROC to three digits."""
    return _text(value, "{:.3f}")


def times(value: float | None) -> str:
    """Return how many times as often."""
    return _text(value, "{:.1f}×")


def interval(ends: Interval, show: Callable[[float | None], str] = percent) -> str:
    """Return both ends of a 95% interval, as `show` writes numbers."""
    return "–" if any(map(math.isnan, ends)) else f"{show(ends.low)} to {show(ends.high)}"


def number(value: int | None) -> str:
    """Return a count with separated thousands."""
    return _text(value, "{:,}")


def decimal(value: float | None) -> str:
    """Return a score or a share to two digits."""
    return _text(value, "{:.2f}")


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference of AUROCs or shares with its sign; what is rounded to 0 is +0."""
    rounded = None if value is None else round(value, digits) + 0.0
    return _text(rounded, f"{{:+.{digits}f}}")
