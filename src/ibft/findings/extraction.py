"""Count the examples that a model continues word for word: discoverable extraction, greedy and by sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.scan import Extraction
from ibft.findings.columns import Columns
from ibft.statistics.uncertainty import effective_size, wilson_interval

__all__ = ["count_extracted"]

_NUM_SAMPLES = (1, 10, 100, 1000)


def count_extracted(columns: Columns) -> Extraction | None:
    """Summarize one subset's extraction; None where no example was long enough for one."""
    tried = columns.num_suffix_tokens > 0
    num = int(tried.sum())
    if not num:
        return None
    matched, wanted = columns.num_matched_tokens[tried], columns.num_suffix_tokens[tried]
    is_extracted = matched >= wanted
    share = float(is_extracted.mean())
    log_probs = columns.suffix_log_prob[tried]
    # Where hardly any is extracted, the design effect comes from how files share the examples that are nearest to it.
    # Nearest by probability, which has no ties.
    near = -matched / wanted if np.isnan(log_probs).any() else -log_probs
    size = effective_size(is_extracted, columns.groups[tried], near)
    return Extraction(
        num_examples=num,
        num_extracted=int(is_extracted.sum()),
        share=share,
        ci95=wilson_interval(share * size, size),
        median_matched=float(np.median(matched)),
        num_too_short=len(columns) - num,
        prefix_tokens=int(np.median(columns.num_prefix_tokens[tried])),
        suffix_tokens=int(np.median(wanted)),
        within=_within(log_probs[~np.isnan(log_probs)]),
    )


def _within(log_probs: NDArray[np.float64]) -> list[tuple[int, float]]:
    if not len(log_probs):
        return []
    # By expm1 and log1p: most p_z are far below what 1 - p_z can represent. A p_z of 1 gives -inf, so a share of 1.
    with np.errstate(divide="ignore"):
        log_missed = np.log1p(-np.exp(np.minimum(log_probs, 0)))
    return [(num, float(np.mean(-np.expm1(num * log_missed)))) for num in _NUM_SAMPLES]
