"""What recalls the answer: the rows of `scan/recall.jsonl`, and their summary in `scan/summary.json`."""

from __future__ import annotations

import math

import msgspec

from ibft.artifacts.rows import Subset
from ibft.statistics.uncertainty import Interval

__all__ = ["MIN_NATS", "RecallRow", "RecallSummary", "SegmentMean", "SegmentRecall"]

MIN_NATS = 1.0
"""A prompt that makes its answer no more likely than this tells nothing that a segment could have a share of."""
_UNDEFINED = Interval(math.nan, math.nan)


class RecallRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One example, which `subset` and `index` name as in `scores.parquet`.

    `shares`: kind of segment (`data.segments`) to the share of the answer that it alone recovers (`scoring.recall`);
    empty where `reason` says why. `nll_own`, `nll_foreign`, `nll_alone`: nats of the answer's `num_tokens` behind its
    own prompt, behind one of which every part is foreign, and by kind of segment, behind one of which that alone is its
    own; null and empty where they were not measured.
    """

    id: str
    subset: Subset
    index: int
    shares: dict[str, float] = {}
    nll_own: float | None = None
    nll_foreign: float | None = None
    nll_alone: dict[str, float] = {}
    num_tokens: int = 0
    reason: str | None = None


class SegmentMean(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of segment in one subset: of the examples that have it, the mean share with its interval.

    `mean`: of the nats that whole prompts tell of their answers, the share that the segment alone tells. It may be
    below 0, where the segment alone misleads. `share_half`: of the examples that have a share, those in which it alone
    recovers half of the answer or more.
    """

    num_examples: int | None = None
    num_groups: int | None = None
    mean: float = math.nan
    ci95: Interval = _UNDEFINED
    share_half: float = math.nan


class SegmentRecall(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of segment: its means, None where no example of the subset has it.

    `difference` is the training data's mean less the control set's; `is_shortcut` by the rule of `findings.recall`,
    None where it is unclear.
    """

    kind: str
    train: SegmentMean | None = None
    control: SegmentMean | None = None
    difference: float = math.nan
    difference_ci95: Interval = _UNDEFINED
    is_shortcut: bool | None = None


class RecallSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The segments in the order of a prompt, and what they say in words.

    By subset: `num_examples` were drawn, `num_measured` of them are in the means, and `undefined` has the number of the
    others by reason. `headline` and `sentences` are for readers.
    """

    num_examples: dict[str, int] = {}
    num_measured: dict[str, int] = {}
    undefined: dict[str, dict[str, int]] = {}
    segments: list[SegmentRecall] = []
    headline: str = ""
    sentences: list[str] = []
