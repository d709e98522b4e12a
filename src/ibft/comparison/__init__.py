"""One rule for "A beats B", for every table, page and verdict: paired over problems, test and interval in one.

**The data** of a pair is one number for each problem that both arms were judged on, the difference d of their pass
rates (or of any other metric per problem). Problems are taken as drawn from all problems of their kind.

**The p-value** is the larger of two. The first is the exact sign-flip test (`signs.py`): were the arms equal in each
problem, every difference would be as likely to have the other sign. With one sample per problem it is McNemar's exact
test. It assumes that differences are symmetric around 0, which equal means alone do not promise: where one arm wins
little on many problems and the other much on few, it separates equal arms too often. The second, the guard
(`bounds.py`), counts that. It asks how likely the weighted mean of the differences and of one problem that nobody has
seen is 0 or less, with random weights (uniform Dirichlet). On the unseen problem the winner loses by c = c1 + c2:

- c1 makes both tests agree where one arm wins every problem that differs: sum log(1 + |d| / c1) = D log 2.
- c2 = max(0, -sum d^3 / sum d^2), signs such that the winner's are positive: the correction for skewness (its first
  order is half of that; the whole costs nothing where differences are symmetric, and helps where they are not).

Where all differences are of one size, as with one sample per problem, the guard *is* the sign-flip test.

**The interval** inverts the guard, and reaches to 0 unless both tests reject: so it holds 0 exactly where p > 0.05. The
end that lies beyond the estimate, seen from 0, and both ends where nothing is separated, have on the unseen problem a
quarter more than the largest difference seen, or 1 where fewer than 6 problems differ. Of differences 0 and 1 that is
Clopper and Pearson's bound, so arms that agree on all of 20 problems are not called equal.

**Several pairs** are corrected after Holm (`family.py`); an interval is at the level at which its pair was decided.

What no rule can do is see what no problem shows: docs/statistics.md has the limit and the simulated errors
(`benchmarks/rule.py`).
"""

from ibft.artifacts.report import Difference, Gain, Precision
from ibft.comparison.family import Decision, beats_every, compare_all, holm
from ibft.comparison.pair import Scores, Undefined, compare_pair
from ibft.comparison.precision import needed_problems, needed_samples
from ibft.comparison.rule import ALPHA, MIN_DIFFERING, interval, p_value
from ibft.statistics.signs import sign_flip_p

__all__ = [
    "ALPHA",
    "MIN_DIFFERING",
    "Decision",
    "Difference",
    "Gain",
    "Precision",
    "Scores",
    "Undefined",
    "beats_every",
    "compare_all",
    "compare_pair",
    "holm",
    "interval",
    "needed_problems",
    "needed_samples",
    "p_value",
    "sign_flip_p",
]
