"""Two conditions that were each trained with several seeds: which is better, how sure, and what would decide it.

Each seed and problem gives one difference: the arms of one seed saw the same data in the same order. The p-value is the
larger of two: that of the mean of seeds and problems (`statistics.crossed`), and that of the rule for the means over
seeds of each problem (`comparison`), which is exact where few problems differ. The interval reaches as far as the
farther of both, so it leaves 0 out exactly where both reject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from ibft.artifacts.run_comparison import SeedDifference
from ibft.comparison.family import holm
from ibft.comparison.pair import Scores, Undefined
from ibft.comparison.rule import ALPHA, interval, p_value
from ibft.statistics.crossed import Crossed, cross

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["compare_seeds"]

_MOST_TIMES = 20


@dataclass(frozen=True)
class _Pair:
    """Two conditions on the seeds and problems that both have: `b` subtracted from `a`."""

    a: str
    b: str
    seeds: Sequence[int]
    differences_SP: NDArray[np.float64]
    by_problem_P: NDArray[np.float64]
    crossed: Crossed | None
    num_samples: float
    p_problems: float

    @property
    def p(self) -> float:
        return self.p_problems if self.crossed is None else max(self.p_problems, self.crossed.p_value)

    def at(self, alpha: float, p_adjusted: float) -> SeedDifference:
        """Decide the pair at the two-sided level `alpha`."""
        ends = [interval(self.by_problem_P, self.p_problems, alpha)]
        if self.crossed is not None:
            ends.append(self.crossed.interval(alpha))
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        value, better, other = math.fsum(self.by_problem_P) / len(self.by_problem_P), self.a, self.b
        sign = -1 if value < 0 else 1
        if sign < 0:
            value, better, other, low, high = -value, other, better, -high, -low
        num_seeds, num_problems = self.differences_SP.shape
        is_separated = self.p <= alpha
        by_seed = {seed: sign * float(of) for seed, of in zip(self.seeds, self.differences_SP.mean(1), strict=True)}
        return SeedDifference(
            better=better,
            other=other,
            value=value,
            interval=(low, high),
            confidence=1 - alpha,
            p_value=self.p,
            p_adjusted=p_adjusted,
            is_separated=is_separated,
            num_seeds=num_seeds,
            num_problems=num_problems,
            by_seed=by_seed,
            shares={} if self.crossed is None else _shares(self.crossed),
            minimum_detectable=None if self.crossed is None else self.crossed.minimum_detectable(alpha),
            narrowed={} if self.crossed is None else _narrowed(self.crossed, alpha),
            needed={} if self.crossed is None or is_separated else _needed(self.crossed, self.num_samples, alpha),
        )


def compare_seeds(
    conditions: Mapping[str, Mapping[int, Scores]], num_samples: float, alpha: float = ALPHA
) -> tuple[list[SeedDifference], list[Undefined]]:
    """Compare every pair of conditions, corrected for their number (Holm).

    Args:
        conditions: by name, one arm's metric by seed.
        num_samples: of each problem at each seed.
        alpha: two-sided error of all pairs together.

    Returns:
        The pairs that can be compared, and those that cannot, with the reason.
    """
    pairs = [_paired(a, conditions[a], b, conditions[b], num_samples) for a, b in combinations(conditions, 2)]
    defined = [pair for pair in pairs if isinstance(pair, _Pair)]
    decisions = holm([pair.p for pair in defined], alpha)
    return (
        [pair.at(decision.alpha, decision.p_adjusted) for pair, decision in zip(defined, decisions, strict=True)],
        [pair for pair in pairs if isinstance(pair, Undefined)],
    )


def _paired(
    name_a: str, a: Mapping[int, Scores], name_b: str, b: Mapping[int, Scores], num_samples: float
) -> _Pair | Undefined:
    import numpy as np

    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return Undefined(a=name_a, b=name_b, reason=f"{name_a} and {name_b} have no seed in common")
    sides = [side[seed] for seed in seeds for side in (a, b)]
    shared = [task_id for task_id in sides[0].values if all(task_id in side.values for side in sides)]
    if not shared:
        return Undefined(a=name_a, b=name_b, reason=f"{name_a} and {name_b} share no judged problem")
    lacking = [task_id for task_id in shared if any(math.isnan(side.values[task_id]) for side in sides)]
    if lacking:
        reason = f"{len(lacking)} of {len(shared)} shared problems have no value, the first is {lacking[0]}"
        return Undefined(a=name_a, b=name_b, reason=reason)
    # Rates such as 0.3 - 0.1 and 0.9 - 0.7 are equal except for the last bit, which would count as two sizes.
    table = np.round([[a[seed].values[one] - b[seed].values[one] for one in shared] for seed in seeds], 12)
    variances = np.array(
        [[sum(side[seed].sampling_variances.get(one, math.nan) for side in (a, b)) for one in shared] for seed in seeds]
    )
    by_problem = np.round(table.mean(0), 12)
    return _Pair(
        name_a,
        name_b,
        seeds,
        table,
        by_problem,
        cross(table, variances) if min(table.shape) > 1 else None,
        num_samples,
        p_value(by_problem),
    )


def _shares(crossed: Crossed) -> dict[str, float]:
    parts, num_seeds, num_problems = crossed.parts, crossed.num_seeds, crossed.num_problems
    size = num_seeds * num_problems
    variances = {"seeds": parts.seeds / num_seeds, "problems": parts.problems / num_problems}
    if math.isnan(parts.samples):
        variances["samples and rest"] = parts.rest / size
    else:
        variances |= {"samples": parts.samples / size, "rest": (parts.rest - parts.samples) / size}
    total = sum(variances.values())
    return {name: value / total for name, value in variances.items()} if total > 0 else {}


def _narrowed(crossed: Crossed, alpha: float) -> dict[str, float]:
    parts, seeds, problems = crossed.parts, crossed.num_seeds, crossed.num_problems
    now = parts.reach(seeds, problems, alpha=alpha)
    if not now > 0:
        return {}
    then = {
        "seeds": parts.reach(2 * seeds, problems, alpha=alpha),
        "problems": parts.reach(seeds, 2 * problems, alpha=alpha),
        "samples": parts.reach(seeds, problems, 2.0, alpha=alpha),
    }
    return {name: 1 - reach / now for name, reach in then.items() if not math.isnan(reach)}


def _needed(crossed: Crossed, num_samples: float, alpha: float) -> dict[str, int | None]:
    """Return the smallest numbers at which the expected half width is less than the difference."""
    parts, seeds, problems, value = crossed.parts, crossed.num_seeds, crossed.num_problems, abs(crossed.value)

    def first(start: int, reach_at: Callable[[int], float]) -> int | None:
        numbers = range(start + 1, _MOST_TIMES * start + 1)
        return next((number for number in numbers if reach_at(number) < value), None)

    needed = {
        "seeds": first(seeds, lambda number: parts.reach(number, problems, alpha=alpha)),
        "problems": first(problems, lambda number: parts.reach(seeds, number, alpha=alpha)),
    }
    if not math.isnan(parts.samples):
        samples = max(1, round(num_samples))
        needed["samples"] = first(
            samples, lambda number: parts.reach(seeds, problems, number / num_samples, alpha=alpha)
        )
    return needed
