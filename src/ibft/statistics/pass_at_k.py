"""Pass@k and Pass@k^(m): the chance that at least m of k samples drawn without replacement pass.

    Pass@k^(m) = sum_{j=m..k} C(c, j) C(n - c, k - j) / C(n, k)

with c of n samples passing. m = 1 is Pass@k (arXiv 2107.03374, section 2.1), m = k is pass^k, and
m = ceil(tau k) is G-Pass@k (arXiv 2412.13147). Computed in integers, so that no rounding enters before the
last division.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Count", "curve_of_each", "metric_name", "pass_at_k", "pass_at_k_curve", "pass_at_k_m", "why_undefined"]


class Count(NamedTuple):
    """One problem's tally: its samples, and those that passed."""

    num_samples: int
    num_correct: int


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Estimate Pass@k of one problem without bias, in [0, 1]; NaN where num_samples < k.

    Raises:
        ValueError: k < 1, or num_correct is not between 0 and num_samples.
    """
    return pass_at_k_m(num_samples, num_correct, k, 1)


def pass_at_k_m(num_samples: int, num_correct: int, k: int, m: int) -> float:
    """Estimate Pass@k^(m) of one problem without bias, in [0, 1]; NaN where num_samples < k.

    Correctly rounded: the numerator and the denominator are exact integers.

    Args:
        num_samples: samples judged (n).
        num_correct: samples that passed (c).
        k: samples drawn without replacement.
        m: how many of the drawn samples must pass.

    Raises:
        ValueError: k < 1, m is not between 1 and k, or num_correct is not between 0 and num_samples.
    """
    if k < 1:
        raise ValueError(f"k is {k}: it counts the samples drawn, so it must be at least 1")
    if not 1 <= m <= k:
        raise ValueError(f"m is {m}: it counts the passing ones among the k = {k} drawn, so it must be 1 to {k}")
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct is {num_correct}: it must be from 0 to num_samples = {num_samples}")
    if num_samples < k:
        return math.nan
    wrong = num_samples - num_correct
    ways = sum(math.comb(num_correct, j) * math.comb(wrong, k - j) for j in range(m, min(k, num_correct) + 1))
    return ways / math.comb(num_samples, k)


def pass_at_k_curve(num_samples: int, num_correct: int, k: int) -> list[float]:
    """Return Pass@k^(m) of one problem for m = 1 to k, in this order; all NaN where num_samples < k.

    Each value is the one of `pass_at_k_m`; together they cost about as much as its first.

    Raises:
        ValueError: k < 1, or num_correct is not between 0 and num_samples.
    """
    pass_at_k_m(num_samples, num_correct, k, k)  # refuses what it would refuse
    if num_samples < k:
        return [math.nan] * k
    wrong, total = num_samples - num_correct, math.comb(num_samples, k)
    # From m = k down, each sum is the one before and one more term.
    curve, ways = [], 0
    for j in range(k, 0, -1):
        ways += math.comb(num_correct, j) * math.comb(wrong, k - j)
        curve.append(ways / total)
    return curve[::-1]


def curve_of_each(counts: Sequence[Count], k: int) -> list[list[float]]:
    """Return, for each m from 1 to k, Pass@k^(m) of every problem, in order."""
    # Equal tallies are computed once: n samples give only n + 1 of them, however many problems there are.
    known = {count: pass_at_k_curve(count.num_samples, count.num_correct, k) for count in set(counts)}
    return [[known[count][m] for count in counts] for m in range(k)]


def why_undefined(counts: Sequence[Count], k: int) -> str | None:
    """Say in a sentence why the mean of Pass@k over these problems is undefined; None where it is defined.

    A problem with too few samples is never left out: the mean over the others would answer another question.
    """
    if not counts:
        return "there are no problems"
    lacking = {
        "no samples": sum(count.num_samples == 0 for count in counts),
        f"fewer than {k} samples": sum(0 < count.num_samples < k for count in counts),
    }
    clauses = [f"{number} of {len(counts)} problems have {what}" for what, number in lacking.items() if number]
    return f"needs at least {k} samples of every problem, but {' and '.join(clauses)}" if clauses else None


def metric_name(k: int, m: int = 1) -> str:
    """Return the name in files and reports: `pass@k`, and `pass@k^(m)` from m = 2 on."""
    return f"pass@{k}" if m == 1 else f"pass@{k}^({m})"
