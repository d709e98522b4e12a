"""What the scores say: medians, and how well they tell training data from the control set."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from ibft.rows import Score

__all__ = ["ScanSummary", "SubsetSummary", "auroc", "summarize"]


class SubsetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One subset's scores: medians in nats a token, over the examples that have one."""

    num_examples: int
    num_scored: int
    num_tokens: int
    median_min_k_prob: float | None
    median_mean_nll: float | None


class ScanSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The scan in numbers.

    An AUROC is the chance that a random training example scores *lower* (more predictable) than a random control
    example: 0.5 = no difference. It shows predictability, not membership: the two sets may differ in style.
    """

    k_percent: float
    subsets: dict[str, SubsetSummary]
    skipped: dict[str, dict[str, int]]
    auroc_min_k_prob: float | None
    auroc_mean_nll: float | None


def auroc(lower: Sequence[float], higher: Sequence[float]) -> float | None:
    """P(a random value of `lower` < one of `higher`) + half of P(equal); None if either is empty.

    The Mann-Whitney statistic by ranks, O(n log n).
    """
    if not lower or not higher:
        return None
    tagged = sorted([(value, 0) for value in lower] + [(value, 1) for value in higher])
    rank_sum, position = 0.0, 0
    while position < len(tagged):
        end = position
        while end < len(tagged) and tagged[end][0] == tagged[position][0]:
            end += 1
        mid_rank = (position + 1 + end) / 2
        rank_sum += mid_rank * sum(tag for _, tag in tagged[position:end])
        position = end
    num_higher = len(higher)
    return (rank_sum - num_higher * (num_higher + 1) / 2) / (num_higher * len(lower))


def summarize(scores: Sequence[Score], k_percent: float, skipped: dict[str, dict[str, int]]) -> ScanSummary:
    """Summarize the scores of the training data and, where there is one, the control set."""
    subsets = {name: [score for score in scores if score.subset == name] for name in ("train", "control")}
    min_k = {name: _values(rows, "min_k_prob") for name, rows in subsets.items()}
    nll = {name: _values(rows, "mean_nll") for name, rows in subsets.items()}
    return ScanSummary(
        k_percent=k_percent,
        subsets={
            name: SubsetSummary(
                num_examples=len(rows),
                num_scored=len(nll[name]),
                num_tokens=sum(row.num_tokens for row in rows),
                median_min_k_prob=_median(min_k[name]),
                median_mean_nll=_median(nll[name]),
            )
            for name, rows in subsets.items()
            if rows
        },
        skipped=skipped,
        auroc_min_k_prob=auroc(min_k["train"], min_k["control"]),
        auroc_mean_nll=auroc(nll["train"], nll["control"]),
    )


def _values(rows: Sequence[Score], field: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, field)) is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
