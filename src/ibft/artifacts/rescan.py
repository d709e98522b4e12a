"""What training did to the data's scores: `rescan/<arm>/summary.json`, and the arms beside each other in `arms.json`.

Files of an older version are read: a count that they lack is None, a measured number is NaN.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ibft.artifacts.scan import Auroc, AurocDifference
from ibft.statistics.uncertainty import Interval

__all__ = [
    "ArmDifference",
    "ArmDifferences",
    "Change",
    "Membership",
    "RescanSummary",
    "ScoreMembership",
    "TruePositives",
    "WordForWord",
]

_UNDEFINED = Interval(math.nan, math.nan)


class TruePositives(msgspec.Struct, frozen=True, kw_only=True):
    """The share of trained examples that a score finds while it takes 1% of the others for trained.

    `value` is the share below the others' 1st percentile. `reason` says why it is NaN (too few others to have such a
    percentile), or why it is 0 for want of a threshold (more than 1% of the others have the lowest value of all).
    """

    value: float = math.nan
    ci95: Interval = _UNDEFINED
    reason: str = ""


class ScoreMembership(msgspec.Struct, frozen=True, kw_only=True):
    """How well one score tells trained examples from others, over the pairs that have it.

    `auroc` and `true_positives` are under the arm, `before` is the AUROC under the base, of the same examples: what
    the two sets differ in anyway. `rise` is the difference. A score that compares arm and base has no `before`.
    """

    name: str
    num_trained: int | None = None
    num_others: int | None = None
    auroc: Auroc = Auroc()
    before: Auroc | None = None
    rise: AurocDifference | None = None
    true_positives: TruePositives = TruePositives()


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Trained examples and others, in `num_pairs` of similar length; `num_groups` of each are independent."""

    num_pairs: int | None = None
    num_groups: dict[str, int] = {}
    scores: list[ScoreMembership] = []


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over examples before and after training; `ci95` is that of after less before, example by example."""

    before: float = math.nan
    after: float = math.nan
    ci95: Interval = _UNDEFINED

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before


class WordForWord(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the responses the model writes word for word (`scoring.scores`); higher = more memorized."""

    num_examples: int | None = None
    extraction_strength: Change = Change()
    exact_memorization: Change = Change()


class RescanSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Trained examples before and after training: medians of the headline score over the same examples.

    `share_below_threshold`: of them now below the barrier's threshold; None without a control set. `others` are
    examples that the arm was not trained on: those of the control set (`control`), or the share of the training data
    that it held out (`held_out`); "" where there are none. `membership` tells trained from others; where it is None,
    `not_known` says why. `word_for_word` is of the trained examples ("train") and of the others ("control").
    """

    arm: str = ""
    score: str = ""
    num_examples: int | None = None
    median_before: float = math.nan
    median_after: float = math.nan
    share_below_threshold: float | None = None
    others: Literal["control", "held_out", ""] = ""
    num_others: int | None = None
    membership: Membership | None = None
    not_known: str = ""
    word_for_word: dict[str, WordForWord] = {}


class ArmDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The AUROC of one score under an arm less that under another, over the pairs that have it under both.

    Below 0, the arm has memorized less of what both were trained on.
    """

    arm: str
    name: str
    num_trained: int | None = None
    num_others: int | None = None
    difference: AurocDifference = AurocDifference()


class ArmDifferences(msgspec.Struct, frozen=True, kw_only=True):
    """Every other arm against `reference`; `identities` are those of the rescans that were compared, by arm."""

    reference: str = ""
    identities: dict[str, str] = {}
    differences: list[ArmDifference] = []
