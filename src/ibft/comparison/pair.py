"""Two arms on the problems that both were judged on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from ibft.artifacts.report import Difference
from ibft.comparison.precision import measure_precision
from ibft.comparison.rule import ALPHA, interval, p_value
from ibft.statistics.pass_at_k import Count, pass_at_k

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Prepared", "Scores", "Undefined", "compare_pair", "prepare"]


@dataclass(frozen=True)
class Scores:
    """One arm's metric for each problem, by task id.

    Attributes:
        values: from 0 to 1; NaN where undefined.
        sampling_variances: the variance of each value over other samples of the same problem; no entry where unknown.
    """

    values: Mapping[str, float]
    sampling_variances: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_counts(cls, counts: Mapping[str, Count]) -> Scores:
        """Take Pass@1 from tallies; its sampling variance is known from 2 samples of a problem on."""
        values = {task_id: pass_at_k(count.num_samples, count.num_correct, 1) for task_id, count in counts.items()}
        # Over n - 1, not n: unbiased, so that what is left for the problems is unbiased, too (arXiv 2411.00640).
        variances = {
            task_id: value * (1 - value) / (counts[task_id].num_samples - 1)
            for task_id, value in values.items()
            if counts[task_id].num_samples > 1
        }
        return cls(values, variances)


class Undefined(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that cannot be compared, with the reason."""

    a: str
    b: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A pair that can be compared at any level: `b` subtracted from `a`."""

    a: str
    b: str
    differences: NDArray[np.float64]
    sampling_variances: NDArray[np.float64]
    p: float

    def at(self, alpha: float, p_adjusted: float | None = None) -> Difference:
        """Decide the pair at the two-sided level `alpha`."""
        low, high = interval(self.differences, self.p, alpha)
        mean = math.fsum(self.differences) / len(self.differences)
        won, lost = int((self.differences > 0).sum()), int((self.differences < 0).sum())
        better, other = self.a, self.b
        # The better one first; of equal means the one that was named first.
        if mean < 0:
            better, other, mean, low, high, won, lost = other, better, -mean, -high, -low, lost, won
        return Difference(
            better=better,
            other=other,
            value=mean,
            interval=(low, high),
            confidence=1 - alpha,
            p_value=self.p,
            p_adjusted=self.p if p_adjusted is None else p_adjusted,
            is_separated=self.p <= alpha,
            num_problems=len(self.differences),
            num_won=won,
            num_lost=lost,
            precision=measure_precision(self.differences, self.sampling_variances, alpha),
        )


def prepare(name_a: str, a: Scores, name_b: str, b: Scores) -> Prepared | Undefined:
    """Pair two arms on the problems that both have, in the order of `a`."""
    import numpy as np

    shared = [task_id for task_id in a.values if task_id in b.values]
    if not shared:
        return Undefined(a=name_a, b=name_b, reason=f"{name_a} and {name_b} share no judged problem")
    # Never left out: the mean over the others would answer another question.
    lacking = [task_id for task_id in shared if math.isnan(a.values[task_id]) or math.isnan(b.values[task_id])]
    if lacking:
        reason = f"{len(lacking)} of {len(shared)} shared problems have no value, the first is {lacking[0]}"
        return Undefined(a=name_a, b=name_b, reason=reason)
    differences = np.array([a.values[task_id] - b.values[task_id] for task_id in shared])
    # Rates such as 0.3 - 0.1 and 0.9 - 0.7 are equal except for the last bit, which would count as two sizes.
    differences = np.round(differences, 12)
    variances = np.array([sum(side.sampling_variances.get(task_id, math.nan) for side in (a, b)) for task_id in shared])
    return Prepared(name_a, name_b, differences, variances, p_value(differences))


def compare_pair(name_a: str, a: Scores, name_b: str, b: Scores, alpha: float = ALPHA) -> Difference | Undefined:
    """Compare two arms by themselves, on the problems that both have; among several pairs take `compare_all`."""
    pair = prepare(name_a, a, name_b, b)
    return pair if isinstance(pair, Undefined) else pair.at(alpha)
