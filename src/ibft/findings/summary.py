"""Summarize the scores: `scan/summary.json`, from columns alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.recall import RecallSummary
from ibft.artifacts.rows import Subset
from ibft.artifacts.scan import ScanSummary, SubsetSummary
from ibft.errors import UserError
from ibft.findings.barrier import MIN_CONTROL, find_barrier
from ibft.findings.columns import Columns
from ibft.findings.comparison import Texts, compare_with_control
from ibft.findings.extraction import count_extracted
from ibft.findings.matching import match_columns
from ibft.findings.verdict import barrier_verdict

__all__ = ["rows_compared", "summarize"]


def summarize(
    train: Columns,
    control: Columns | None = None,
    *,
    score: str,
    region: Literal["response", "all"] = "response",
    skipped: Mapping[str, Mapping[str, int]] | None = None,
    texts: Texts | None = None,
    recall: RecallSummary | None = None,
    is_dated: bool = False,
    seed: int = 0,
) -> ScanSummary:
    """Compare the scores of the training data with those of the control set.

    Code that is in both is left out of both; with a dated control set, of the training data alone.

    Args:
        train: the scored examples.
        control: the scored examples of the control set, if there is one.
        score: name of the headline score.
        region: which tokens were scored.
        skipped: how many examples are not in the columns, by subset and reason.
        texts: returns the texts for the blind classifier, see `comparison.Texts`; None: no classifier.
        recall: what recalls the answers, where that was asked.
        is_dated: the control set is what is later than a day.
        seed: random seed of matching, draws and classifier.

    Raises:
        UserError: no column has the name of the headline score, or scikit-learn is not installed.
    """
    if score not in train.scores:
        raise UserError(f"scan.score {score!r}: this scan has {', '.join(train.scores) or 'no scores'}. Choose one.")
    skipped = skipped or {}
    subsets = {"train": train}
    if control is not None and score in control.scores:
        subsets["control"] = control
    num_scored = {name: int(np.isfinite(columns.scores[score]).sum()) for name, columns in subsets.items()}
    comparison = barrier = None
    num_in_both: dict[str, int] = {}
    if "control" in subsets:
        matches, num_in_both = match_columns(train, subsets["control"], score, is_dated=is_dated, seed=seed)
        if len(matches.train):
            comparison = compare_with_control(train, subsets["control"], matches, texts, seed)
        if len(matches.train) >= MIN_CONTROL:
            barrier = find_barrier(train, subsets["control"], matches, score, seed)
    counted = {name: count_extracted(columns) for name, columns in subsets.items()}
    extraction = {name: figures for name, figures in counted.items() if figures is not None}
    verdict = barrier_verdict(
        score, num_scored.get("control"), comparison, barrier, extraction, num_scored["train"], num_in_both
    )
    return ScanSummary(
        score=score,
        region=region,
        subsets={name: _subset(columns, score, skipped.get(name, {})) for name, columns in subsets.items()},
        skipped={name: dict(reasons) for name, reasons in skipped.items()},
        num_in_both=num_in_both,
        comparison=comparison,
        barrier=barrier,
        extraction=extraction,
        verdict=verdict,
        recall=recall,
    )


def rows_compared(
    train: Columns, control: Columns | None, score: str, *, is_dated: bool = False, seed: int = 0
) -> dict[Subset, NDArray[np.int64]]:
    """Return the rows of the pairs that `summarize` compares, as two arrays of one length.

    Without a control set, or where nothing in it has the length of a training example: all training rows that have the
    score.
    """
    if control is not None and score in control.scores:
        matches, _ = match_columns(train, control, score, is_dated=is_dated, seed=seed)
        if len(matches.train):
            return {"train": matches.train, "control": matches.control}
    return {"train": np.flatnonzero(np.isfinite(train.scores[score]))}


def _subset(columns: Columns, score: str, skipped: Mapping[str, int]) -> SubsetSummary:
    medians, num_scored = {}, 0
    for name, values in columns.scores.items():
        finite = values[np.isfinite(values)]
        if len(finite):
            medians[name] = float(np.median(finite))
        if name == score:
            num_scored = len(finite)
    return SubsetSummary(
        num_examples=len(columns) + sum(skipped.values()),
        num_scored=num_scored,
        num_tokens=int(columns.num_tokens.sum()),
        medians=medians,
    )
