"""The findings of a scan, in numbers and in words: `scan/summary.json`, `densities.json`.

A run folder of an older version is shown as far as it goes: a count that its file lacks is None, a measured number is
NaN, as one that is null in the file. Required are the names of scores and traits, the words of a verdict, and the
threshold and share of a barrier.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ibft.artifacts.recall import RecallSummary
from ibft.statistics.uncertainty import Interval

__all__ = [
    "Auroc",
    "AurocDifference",
    "Barrier",
    "BarrierVerdict",
    "ControlComparison",
    "Densities",
    "Extraction",
    "ScanSummary",
    "ScoreAuroc",
    "SubsetSummary",
    "Trait",
]

_UNDEFINED = Interval(math.nan, math.nan)


class Auroc(msgspec.Struct, frozen=True):
    """The chance that a random training example has a lower value than a control example; 0.5 = no difference."""

    value: float = math.nan
    ci95: Interval = _UNDEFINED


class AurocDifference(msgspec.Struct, frozen=True):
    """One AUROC less another, on the same examples."""

    value: float = math.nan
    ci95: Interval = _UNDEFINED


class ScoreAuroc(msgspec.Struct, frozen=True, kw_only=True):
    """One score's AUROC over the matched examples that have it.

    `above_blind` is this AUROC less that of the blind classifier, both on the examples that the latter saw;
    `beats_blind` if its interval lies above 0, and that of this AUROC above 0.5. None without a blind classifier.
    """

    name: str
    num_train: int | None = None
    num_control: int | None = None
    auroc: Auroc = Auroc()
    above_blind: AurocDifference | None = None
    # Above 0.5 as well: where the sets do not differ, a classifier that is asked about files that it was not trained on
    # tends to fall below 0.5, and every score would beat it.
    beats_blind: bool | None = None


class ControlComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Training and control examples, matched 1:1 by length.

    `num_groups`: files (or single examples, where no file is known) in the matched part of each subset. `length` is the
    AUROC of length alone after matching, near 0.5. `blind` is that of the blind classifier on `num_blind_pairs` of the
    pairs.
    """

    num_pairs: int | None = None
    num_unmatched: dict[str, int] = {}
    # The intervals take only these for independent. They ignore the pairing, so they are a little too wide.
    num_groups: dict[str, int] = {}
    length: Auroc | None = None
    num_blind_pairs: int | None = None
    # Its interval does not count that another training set would give another classifier.
    blind: Auroc | None = None
    blind_features: str = ""
    scores: list[ScoreAuroc] = []


class Trait(msgspec.Struct, frozen=True, kw_only=True):
    """Something that memorized training examples have more often than chance allows.

    `num_memorized` of the `num_examples` that have it are memorized. `ratio` is `share_of_memorized` over
    `share_of_all`: how many times more often a memorized example has it than any; `ci95` is the ratio's interval.
    """

    kind: str
    name: str
    num_examples: int | None = None
    num_memorized: int | None = None
    share_of_memorized: float = math.nan
    share_of_all: float = math.nan
    ratio: float = math.nan
    ci95: Interval = _UNDEFINED


class Barrier(msgspec.Struct, frozen=True, kw_only=True):
    """The training examples that are more predictable than 95% of a control set of similar lengths.

    `share` is of the `num_examples` that were matched by length, `num_memorized` of which are below `threshold`, the
    5th percentile of the headline score on the matched control set. Of all `num_train` scored training examples, of any
    length, it is `num_train_memorized`; `traits` are of these, and `num_copies` repeat the code of an earlier one.
    """

    threshold: float
    share: float
    ci95: Interval = _UNDEFINED
    expected_share: float = 0.05
    num_examples: int | None = None
    num_memorized: int | None = None
    num_train: int | None = None
    num_train_memorized: int | None = None
    num_copies: int | None = None
    traits: list[Trait] = []


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """Of the examples that are long enough: how many endings the model writes itself, given what comes before.

    `num_extracted` of `num_examples` are written in full by greedy decoding (Carlini et al., arXiv 2202.07646); `share`
    has a Wilson interval, in which examples of one file count as dependent. `median_matched` is of the tokens before
    the first difference. `within` has (n, the expected share of examples that n samples at temperature 1 contain at
    least once): the mean of 1 - (1 - p_z)^n, the chance in (n, p)-extraction, with p_z that of the suffix (Hayes et
    al., arXiv 2410.19482); empty where p_z is not known.
    """

    num_examples: int | None = None
    num_extracted: int | None = None
    share: float = math.nan
    ci95: Interval = _UNDEFINED
    median_matched: float = math.nan
    num_too_short: int | None = None
    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    within: list[tuple[int, float]] = []


class BarrierVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The conclusion for a reader: `headline` in one sentence, `sentences` the reasons, `remedy` for the advice."""

    barrier: Literal["yes", "no", "unclear"]
    headline: str
    sentences: list[str] = []
    advice: Literal["prune", "ib", "nothing", "control", ""] = ""
    remedy: str = ""


class SubsetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One subset: `num_scored` of `num_examples` have the headline score; a median is of those that have its score."""

    num_examples: int | None = None
    num_scored: int | None = None
    num_tokens: int | None = None
    medians: dict[str, float] = {}


class ScanSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The scan in numbers and in words.

    `score` is the headline score, by which barrier and verdict go; `region` the tokens that were scored. `skipped`
    counts the examples without scores by subset and reason, `num_in_both` those that are not compared since the other
    subset has their code as well. Comparison and barrier are None without a control set, or where nothing in it is of
    similar length; the barrier also where too little is to have a 5th percentile. A scan of an early version has no
    verdict. `recall` says what recalls the answers; None where `scan.max_recall_examples` is 0.
    """

    score: str = "min_k_prob_20"
    region: str = "response"
    subsets: dict[str, SubsetSummary] = {}
    skipped: dict[str, dict[str, int]] = {}
    num_in_both: dict[str, int] = {}
    comparison: ControlComparison | None = None
    barrier: Barrier | None = None
    extraction: dict[str, Extraction] = {}
    verdict: BarrierVerdict | None = None
    recall: RecallSummary | None = None


class Densities(msgspec.Struct, frozen=True):
    """A score, what its axis says, and at most 2,000 of its values for each set, by its name in the legend."""

    score: str = ""
    label: str = ""
    series: dict[str, list[float]] = {}
