"""After training: how well scores tell the trained examples from others, and how much is written word for word.

Pairs of similar length are compared, as in a scan; examples of one file, or copies of one example, count as dependent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.rescan import (
    ArmDifference,
    Change,
    Membership,
    ScoreMembership,
    TruePositives,
    WordForWord,
)
from ibft.artifacts.scan import Auroc, AurocDifference
from ibft.findings.barrier import share_below_control
from ibft.findings.columns import Columns
from ibft.findings.comparison import MIN_VALUES
from ibft.findings.matching import Matches, match_columns
from ibft.statistics.ratios import change_interval
from ibft.statistics.uncertainty import auroc, auroc_difference, delong_interval

__all__ = ["FALSE_POSITIVES", "MIN_OTHERS", "Scored", "differences", "membership", "word_for_word"]

FALSE_POSITIVES = 0.01
"""Share of the examples that were not trained on, of which a score says that they were."""
MIN_OTHERS = 99
"""With fewer values the 1st percentile would be below all of them."""

_Value = TypeVar("_Value", np.float64, np.int64)
_Values = tuple[NDArray[np.float64], NDArray[np.float64]]
_Codes = tuple[NDArray[np.int64], NDArray[np.int64]]


class Scored(NamedTuple):
    """Examples under one model: trained ones, and others."""

    trained: Columns
    others: Columns

    def values(self, name: str, matches: Matches) -> _Values:
        """Return one score of the matched rows of either side."""
        return self.trained.scores[name][matches.train], self.others.scores[name][matches.control]

    def groups(self, matches: Matches) -> _Codes:
        """Return the matched rows' groups."""
        return self.trained.groups[matches.train], self.others.groups[matches.control]


def membership(before: Scored, after: Scored, score: str, seed: int = 0) -> Membership | None:
    """Tell trained examples from others by every score, under the arm and under its base.

    Args:
        before: under the base.
        after: the same rows under the arm; with scores that the base does not have, too.
        score: name of the headline score: rows without it are left out.
        seed: random seed of the matching and of the intervals.

    Returns:
        None where no two examples are of similar length.
    """
    matches, _ = match_columns(after.trained, after.others, score, seed=seed)
    if not len(matches.train):
        return None
    groups = after.groups(matches)
    scores = []
    for name in after.trained.scores:
        values = after.values(name, matches)
        earlier = before.values(name, matches) if name in before.trained.scores else None
        scores.append(_of_score(name, values, earlier, groups, seed))
    return Membership(
        num_pairs=len(matches.train),
        num_groups={side: len(np.unique(codes)) for side, codes in zip(("train", "control"), groups, strict=True)},
        scores=[found for found in scores if found is not None],
    )


def _of_score(name: str, after: _Values, before: _Values | None, groups: _Codes, seed: int) -> ScoreMembership | None:
    """Return one score's figures; None where too few examples have it, or all of them are of one group."""
    kept = _with_values(after, *([before] if before else []))
    values, codes = _only(after, kept), _only(groups, kept)
    if min(map(len, values)) < MIN_VALUES or math.isnan((interval := delong_interval(*values, codes)).low):
        return None
    earlier = rise = None
    if before is not None:
        base = _only(before, kept)
        earlier = Auroc(auroc(*base), delong_interval(*base, codes))
        rise = AurocDifference(*auroc_difference(values, base, codes))
    return ScoreMembership(
        name=name,
        num_trained=len(values[0]),
        num_others=len(values[1]),
        auroc=Auroc(auroc(*values), interval),
        before=earlier,
        rise=rise,
        true_positives=_true_positives(values, codes, seed),
    )


def _true_positives(values: _Values, groups: _Codes, seed: int) -> TruePositives:
    num = len(values[1])
    if num < MIN_OTHERS:
        return TruePositives(
            reason=f"it takes {MIN_OTHERS} examples that were not trained on to have a 1st percentile: there are {num}"
        )
    found = share_below_control(*values, groups, at=FALSE_POSITIVES, seed=seed)
    num_lowest = int((values[1] == min(float(side.min()) for side in values)).sum())
    reason = ""
    # Of equal values either all count or none: more than 1% of the others may share the lowest one there is. One alone
    # is the threshold of exactly 99, and a threshold like any other.
    if num_lowest > max(1.0, FALSE_POSITIVES * num):
        reason = f"{num_lowest / num:.1%} of the examples that were not trained on have the lowest value of all"
    return TruePositives(value=found.share, ci95=found.interval, reason=reason)


def differences(arm: str, of_arm: Scored, of_reference: Scored, score: str, seed: int = 0) -> list[ArmDifference]:
    """Return how much better each score tells trained examples from others under one arm than under another.

    Args:
        arm: name of the first.
        of_arm, of_reference: the same rows under either.
        score: name of the headline score: rows without it are left out.
        seed: random seed of the matching.
    """
    matches, _ = match_columns(of_arm.trained, of_arm.others, score, seed=seed)
    groups, found = of_arm.groups(matches), []
    for name in of_arm.trained.scores:
        a, b = of_arm.values(name, matches), of_reference.values(name, matches)
        kept = _with_values(a, b)
        a, b, codes = _only(a, kept), _only(b, kept), _only(groups, kept)
        if min(map(len, a)) < MIN_VALUES:
            continue
        difference = auroc_difference(a, b, codes)
        if not math.isnan(difference.interval.low):
            found.append(
                ArmDifference(
                    arm=arm,
                    name=name,
                    num_trained=len(a[0]),
                    num_others=len(a[1]),
                    difference=AurocDifference(*difference),
                )
            )
    return found


def word_for_word(
    before: Mapping[str, NDArray[np.float64]], after: Mapping[str, NDArray[np.float64]], groups: NDArray[np.int64]
) -> WordForWord:
    """Return the means of `extraction_strength` and `exact_memorization` before and after training.

    Args:
        before: the two by name, (N,), in [0, 1], under the base.
        after: the same of the same N examples under the arm.
        groups: N codes; equal codes are one group.
    """
    changes = {
        name: Change(
            before=float(before[name].mean()),
            after=float(after[name].mean()),
            ci95=change_interval(after[name] - before[name], groups),
        )
        for name in before
    }
    return WordForWord(num_examples=len(groups), **changes)


def _with_values(*scores: _Values) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark the rows of either side that have all of the scores."""
    trained, others = (np.isfinite(np.stack(sides)).all(axis=0) for sides in zip(*scores, strict=True))
    return trained, others


def _only(
    sides: tuple[NDArray[_Value], NDArray[_Value]], kept: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> tuple[NDArray[_Value], NDArray[_Value]]:
    return sides[0][kept[0]], sides[1][kept[1]]
