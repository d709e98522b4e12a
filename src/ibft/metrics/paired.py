"""Do two arms differ on the same problems by more than chance? The exact sign test, which is McNemar's exact test.

With one sample a problem, the problems that only one of the arms solves are what McNemar's exact test looks at: were
the arms equal, each would be as likely to fall to either, so their numbers are compared with fair coins. With several
samples a problem the same is done with the problems whose pass rates differ (the sign test, of which McNemar's is the
case of rates 0 and 1). It asks only for independent problems; how large a difference is does not enter, so it can
disagree with the interval of the mean difference where a few problems changed much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["PairedTest", "paired_test", "sign_test"]


class PairedTest(NamedTuple):
    """On how many problems each arm is better, and the exact two-sided p-value of that (NaN where undefined)."""

    num_a_better: int
    num_b_better: int
    num_equal: int
    p_value: float


def sign_test(num_a_better: int, num_b_better: int) -> float:
    """The exact two-sided p-value, in (0, 1]: twice the chance of so uneven a split of fair coins, at most 1.

    Problems on which the arms are equal say nothing and are left out; 1.0 where all are. Computed in integers.

    Raises:
        ValueError: a number is negative.
    """
    if num_a_better < 0 or num_b_better < 0:
        raise ValueError(f"the numbers are {num_a_better} and {num_b_better}: they count problems, so from 0 up")
    total = num_a_better + num_b_better
    ways = term = 1
    for heads in range(min(num_a_better, num_b_better)):
        term = term * (total - heads) // (heads + 1)
        ways += term
    return min(1.0, 2 * ways / (1 << total))


def paired_test(a: Sequence[float], b: Sequence[float]) -> PairedTest:
    """Test whether arm `a` or arm `b` has the higher value on more problems, given in the same order.

    Raises:
        ValueError: the arms differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"the arms have {len(a)} and {len(b)} problems: pair them on the same problems first")
    num_a = sum(left > right for left, right in zip(a, b, strict=True))
    num_b = sum(left < right for left, right in zip(a, b, strict=True))
    is_undefined = any(math.isnan(value) for value in (*a, *b))
    return PairedTest(num_a, num_b, len(a) - num_a - num_b, math.nan if is_undefined else sign_test(num_a, num_b))
