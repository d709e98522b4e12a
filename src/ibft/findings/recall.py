"""Is there an active shortcut: a segment that alone recalls more of the training data's answers than of the control's?

A mean share is a ratio of sums: the nats that the segment alone tells of all answers, of those that whole prompts tell.
All measured examples are in it, also those whose own share is undefined since their prompts tell next to nothing. A
mean of shares that are clipped at 0 would be above 0 for a segment that tells nothing, by the noise of single examples;
and so would a ratio over those alone whose prompts tell much, since with noise in their favor they were chosen.

Decided for each kind of segment by a rule that is fixed beforehand:

1. Fewer than 30 examples that have it, or fewer than 10 files, on a side, or prompts that tell less than 1 nat on
   average, or not surely more than 0: unclear.
2. Its mean share is above the control's by 0.2 or more, and the 95% interval of the difference lies above 0: an active
   shortcut.
3. The interval lies below 0.2: none.
4. Else: unclear, since the data excludes neither.

0.2, 30 and 10 are this project's. At most eight segments are looked at, and a difference of 0.2 is some three standard
errors at 50 examples per side: few looks make a shortcut by chance (`tests/findings/test_recall.py` counts them).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.recall import MIN_NATS, RecallRow, RecallSummary, SegmentMean, SegmentRecall
from ibft.findings.recall_words import headline, sentences
from ibft.statistics.ratios import Difference, Ratio, ratio_difference, ratio_interval

__all__ = ["LARGE_DIFFERENCE", "MIN_EXAMPLES", "MIN_GROUPS", "RecalledRows", "summarize_recall"]

MIN_EXAMPLES = 30
"""With fewer examples of a segment on a side, it is unclear."""
MIN_GROUPS = 10
"""With fewer independent files on a side, intervals mean little; as for the barrier."""
LARGE_DIFFERENCE = 0.2
"""The least difference of the mean shares that counts as a shortcut."""

_HALF = 0.5
_ORDER = ("name", "signature", "docstring", "description", "label", "sentence", "later sentences")


class RecalledRows(NamedTuple):
    """One subset's N rows, and N codes that are equal for examples that depend on one another, also across subsets."""

    rows: Sequence[RecallRow]
    groups: NDArray[np.int64]


class _Asked(NamedTuple):
    """The examples of one subset that have a segment: the nats that it tells of those that are told, and each T."""

    ratio: Ratio
    shares: NDArray[np.float64]

    @property
    def is_told(self) -> bool:
        """Whether the prompts tell enough, on average, that something can have a share of it."""
        told = self.ratio.denominators
        return len(told) > 0 and bool(told.mean() >= MIN_NATS)

    @property
    def is_enough(self) -> bool:
        """Whether there are enough examples and files, and the prompts surely tell something."""
        told, groups = self.ratio.denominators, self.ratio.groups
        if len(groups) < MIN_EXAMPLES or len(np.unique(groups)) < MIN_GROUPS:
            return False
        return ratio_interval(Ratio(told, np.ones(len(told)), groups)).low > 0


def summarize_recall(train: RecalledRows, control: RecalledRows | None = None) -> RecallSummary:
    """Compare what recalls the answers of the training data with what recalls those of the control set.

    Args:
        train: the training examples that were asked.
        control: those of the control set, None without one.
    """
    subsets = {"train": train} | ({} if control is None else {"control": control})
    kinds = {kind for subset in subsets.values() for row in subset.rows for kind in row.nll_alone}
    segments = [_compared(kind, subsets) for kind in sorted(kinds, key=_place)]
    reasons = {
        name: dict(Counter(row.reason for row in subset.rows if row.reason is not None and not row.nll_alone))
        for name, subset in subsets.items()
    }
    summary = RecallSummary(
        num_examples={name: len(subset.rows) for name, subset in subsets.items()},
        num_measured={name: sum(bool(row.nll_alone) for row in subset.rows) for name, subset in subsets.items()},
        undefined=reasons,
        segments=segments,
    )
    return msgspec.structs.replace(summary, headline=headline(summary), sentences=sentences(summary))


def _place(kind: str) -> tuple[int, str]:
    """Return where a kind is shown: the segments of code as they are thought of, then the others by name."""
    for place, first in enumerate(_ORDER):
        if kind == first or (first == "sentence" and kind.startswith("sentence ")):
            return place, kind
    return len(_ORDER), kind


def _compared(kind: str, subsets: Mapping[str, RecalledRows]) -> SegmentRecall:
    asked = {name: _asked(kind, subset) for name, subset in subsets.items()}
    means = {name: _mean(of) for name, of in asked.items() if of.is_told}
    found = SegmentRecall(kind=kind, train=means.get("train"), control=means.get("control"))
    if len(means) < 2:
        return found
    difference = ratio_difference(asked["train"].ratio, asked["control"].ratio)
    is_enough = all(of.is_enough for of in asked.values())
    return SegmentRecall(
        kind=kind,
        train=means["train"],
        control=means["control"],
        difference=difference.value,
        difference_ci95=difference.interval,
        is_shortcut=_is_shortcut(difference) if is_enough else None,
    )


def _asked(kind: str, subset: RecalledRows) -> _Asked:
    has = [place for place, row in enumerate(subset.rows) if kind in row.nll_alone]
    rows = [subset.rows[place] for place in has]
    own, foreign, alone = (
        np.array(nats, np.float64)
        for nats in (
            [row.nll_own for row in rows],
            [row.nll_foreign for row in rows],
            [row.nll_alone[kind] for row in rows],
        )
    )
    shares = np.array([row.shares[kind] for row in rows if kind in row.shares], np.float64)
    return _Asked(Ratio(foreign - alone, foreign - own, subset.groups[has]), shares)


def _is_shortcut(difference: Difference) -> bool | None:
    if difference.value >= LARGE_DIFFERENCE and difference.interval.low > 0:
        return True
    # A wide interval around a small difference is no evidence of absence.
    return False if difference.interval.high < LARGE_DIFFERENCE else None


def _mean(asked: _Asked) -> SegmentMean:
    return SegmentMean(
        num_examples=len(asked.ratio.groups),
        num_groups=len(np.unique(asked.ratio.groups)),
        mean=asked.ratio.value,
        ci95=ratio_interval(asked.ratio),
        share_half=float((asked.shares >= _HALF).mean()) if len(asked.shares) else math.nan,
    )
