"""Several comparisons at once: Holm's correction, and an arm against every one of several references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from ibft.artifacts.report import Difference, Gain
from ibft.comparison.pair import Prepared, Scores, Undefined, prepare
from ibft.comparison.rule import ALPHA

__all__ = ["Compared", "Decision", "beats_every", "compare_all", "holm"]


class Decision(NamedTuple):
    """A p-value corrected for the others, and the level at which the uncorrected one was decided."""

    p_adjusted: float
    alpha: float


class Compared(NamedTuple):
    """All pairs that can be compared, and those that cannot."""

    differences: list[Difference]
    undefined: list[Undefined]


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[Decision]:
    """Correct p-values after Holm (1979), in their order: at most `alpha` of all families have a false rejection.

    The smallest is compared with alpha / m, the next with alpha / (m - 1), and so on up to the first that is not
    rejected; all later ones share its level. So `p <= decision.alpha`, `decision.p_adjusted <= alpha` and "rejected"
    are the same, and an interval at `decision.alpha` can never disagree.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    decisions: dict[int, Decision] = {}
    largest, level, is_open = 0.0, alpha, True
    for num_left, index in zip(range(len(order), 0, -1), order, strict=True):
        if is_open:
            level = alpha / num_left
            is_open = p_values[index] <= level
        # Where rounding splits p * m <= alpha from p <= alpha / m, the decision stands.
        corrected = min(1.0, p_values[index] * num_left)
        largest = max(largest, min(corrected, alpha) if is_open else corrected)
        decisions[index] = Decision(largest, level)
    return [decisions[index] for index in range(len(order))]


def compare_all(arms: Mapping[str, Scores], alpha: float = ALPHA) -> Compared:
    """Compare every pair of arms, corrected for their number."""
    pairs = [prepare(a, arms[a], b, arms[b]) for a, b in combinations(arms, 2)]
    defined = [pair for pair in pairs if isinstance(pair, Prepared)]
    decisions = holm([pair.p for pair in defined], alpha)
    return Compared(
        [pair.at(decision.alpha, decision.p_adjusted) for pair, decision in zip(defined, decisions, strict=True)],
        [pair for pair in pairs if isinstance(pair, Undefined)],
    )


def beats_every(name: str, arm: Scores, references: Mapping[str, Scores], alpha: float = ALPHA) -> Gain | Undefined:
    """Ask whether an arm beats every reference, such as a base model in each of several prompt formats.

    Each reference has to be beaten at the level `alpha`, without a correction. Nothing is selected, so the smallest
    gain is not biased upward. To correct for several arms, pass the Gains' p-values to `holm` and ask again at the
    levels that it returns.

    Raises:
        ValueError: there is no reference.
    """
    if not references:
        raise ValueError("references is empty: give at least one arm to compare with")
    pairs = [prepare(name, arm, reference, scores) for reference, scores in references.items()]
    defined = [pair for pair in pairs if isinstance(pair, Prepared)]
    if len(defined) < len(pairs):
        return next(pair for pair in pairs if isinstance(pair, Undefined))
    # Each at the whole level: a false claim needs a false win over the one reference that is as good (Berger 1982).
    differences = [pair.at(alpha) for pair in defined]
    gains = [difference.seen_from(name) for difference in differences]
    # Any of m upper ends can fall short of the smallest gain, so they share alpha; of the lower ends one has to.
    highs = [pair.at(alpha / len(defined)).seen_from(name)[2] for pair in defined]
    smallest = min(differences, key=lambda difference: difference.seen_from(name)[0])
    # The pairs' tests are two-sided: a small p of a reference that is ahead speaks against the arm.
    p = max(pair.p if gain > 0 else 1.0 for pair, (gain, *_) in zip(defined, gains, strict=True))
    return Gain(
        arm=name,
        reference=smallest.opponent(name),
        value=smallest.seen_from(name)[0],
        interval=(min(low for _, low, _ in gains), min(highs)),
        confidence=1 - alpha,
        p_value=p,
        is_separated=p <= alpha,
        num_problems=smallest.num_problems,
        differences=differences,
    )
