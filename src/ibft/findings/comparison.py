"""Training data beside a control set: how well each score separates them, and if better than a blind classifier.

Pairs of similar length are compared. Examples of one file, or copies of one example, count as dependent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.rows import Subset
from ibft.artifacts.scan import Auroc, AurocDifference, ControlComparison, ScoreAuroc
from ibft.findings.blind import FEATURES, MAX_EXAMPLES, blind_values
from ibft.findings.columns import Columns
from ibft.findings.matching import Matches
from ibft.statistics.uncertainty import auroc, auroc_difference, delong_interval

__all__ = ["MIN_VALUES", "Texts", "compare_with_control"]

Texts = Callable[[Subset, NDArray[np.int64]], Sequence[str]]
"""Returns the texts of these rows of a subset's columns, in this order; the rows are ascending."""

MIN_VALUES = 10
"""With fewer values on a side, no AUROC is reported."""


def compare_with_control(
    train: Columns,
    control: Columns,
    matches: Matches,
    texts: Texts | None = None,
    seed: int = 0,
) -> ControlComparison:
    """Compare the matched examples by every score, by length, and by a classifier of their texts.

    Args:
        train: the training data's columns.
        control: the control set's, with the same scores.
        matches: rows of the two that are compared, at least one.
        texts: where the blind classifier's texts come from: called once per subset, for at most 5,000 rows drawn by
            chance. None: no blind classifier.
        seed: random seed of that draw and of the classifier.

    Raises:
        UserError: scikit-learn is not installed.
    """
    rows = (matches.train, matches.control)
    groups = (train.groups[rows[0]], control.groups[rows[1]])
    # One draw of pairs for the classifier; a score's difference from it is taken on these, its own AUROC on all pairs.
    drawn = np.arange(len(matches.train))
    if len(drawn) > MAX_EXAMPLES:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, MAX_EXAMPLES, replace=False))
    blind = None
    if texts is not None:
        blind = _blind(texts, (rows[0][drawn], rows[1][drawn]), (groups[0][drawn], groups[1][drawn]), seed)
    lengths = (train.num_tokens[rows[0]].astype(np.float64), control.num_tokens[rows[1]].astype(np.float64))
    scores = [
        _compare_score(name, (values[rows[0]], control.scores[name][rows[1]]), groups, drawn, blind)
        for name, values in train.scores.items()
        if name in control.scores
    ]
    return ControlComparison(
        num_pairs=len(matches.train),
        num_unmatched={"train": matches.num_unmatched_train, "control": matches.num_unmatched_control},
        num_groups={"train": len(np.unique(groups[0])), "control": len(np.unique(groups[1]))},
        length=_auroc(lengths, groups),
        num_blind_pairs=0 if blind is None else len(drawn),
        blind=None if blind is None else _auroc(blind, (groups[0][drawn], groups[1][drawn])),
        blind_features=FEATURES,
        scores=[score for score in scores if score is not None],
    )


_Values = tuple[NDArray[np.float64], NDArray[np.float64]]
_Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


def _blind(texts: Texts, rows: _Rows, groups: _Rows, seed: int) -> _Values | None:
    """Return out-of-fold values in the order of `rows`; None where there are too few rows to train on."""
    sides: list[Sequence[str]] = []
    subsets: tuple[Subset, Subset] = ("train", "control")
    # The texts are streamed in the order of the data; the classifier's values belong to pairs.
    for subset, rows_of_side in zip(subsets, rows, strict=True):
        ascending = np.argsort(rows_of_side)
        in_order = texts(subset, rows_of_side[ascending])
        sides.append([in_order[place] for place in np.argsort(ascending).tolist()])
    values = blind_values(*sides, groups=groups, seed=seed)
    return None if np.isnan(np.concatenate(values)).any() else values


def _compare_score(
    name: str, values: _Values, groups: _Rows, drawn: NDArray[np.int64], blind: _Values | None
) -> ScoreAuroc | None:
    """Return one score's AUROC and what it is above the blind one's; None where too few examples have the score."""
    has = [np.isfinite(side) for side in values]
    value = _auroc((values[0][has[0]], values[1][has[1]]), (groups[0][has[0]], groups[1][has[1]]))
    if value is None:
        return None
    above = None
    if blind is not None:
        kept = [drawn[side[drawn]] for side in has]
        difference = auroc_difference(
            (values[0][kept[0]], values[1][kept[1]]),
            (blind[0][has[0][drawn]], blind[1][has[1][drawn]]),
            (groups[0][kept[0]], groups[1][kept[1]]),
        )
        if not math.isnan(difference.interval.low):
            above = AurocDifference(*difference)
    return ScoreAuroc(
        name=name,
        num_train=int(has[0].sum()),
        num_control=int(has[1].sum()),
        auroc=value,
        above_blind=above,
        # Above 0.5 as well: where the sets do not differ, a classifier asked about unknown files falls below it.
        beats_blind=None if above is None else above.ci95.low > 0 and value.ci95.low > 0.5,
    )


def _auroc(values: _Values, groups: _Rows) -> Auroc | None:
    """Return the AUROC with its interval; None where a side has too few values, or all of them are of one group."""
    if min(len(side) for side in values) < MIN_VALUES:
        return None
    interval = delong_interval(*values, groups)
    return None if math.isnan(interval.low) else Auroc(auroc(*values), interval)
