"""What a comparison of finished runs says: their conditions, and the difference of each two of them."""

from __future__ import annotations

import msgspec

from ibft.artifacts.report import DecidedPair

__all__ = ["ConditionMean", "RunComparison", "SeedDifference"]


class ConditionMean(msgspec.Struct, frozen=True, kw_only=True):
    """One arm at one setting: its mean over seeds, that of each seed, and the run that each is from."""

    name: str
    mean: float
    by_seed: dict[int, float]
    runs: dict[int, str]


class SeedDifference(DecidedPair, frozen=True, kw_only=True):
    """A pair of conditions over the seeds and problems that both have.

    The interval is about other seeds and other problems of their kind; with one seed, about this one.

    by_seed: the difference at each seed.
    shares: of the mean's variance, by `seeds`, `problems`, and `samples` with the `rest` (what one seed and one problem
        do together); `samples` alone where they are several per problem. Empty with one seed.
    minimum_detectable: the true difference that such data separate in 4 of 5 studies; None with one seed.
    narrowed: by how much of its width the interval would shrink with twice the `seeds`, `problems`, `samples`.
    needed: how many `seeds`, `problems` or `samples`, the other two as they are, would leave 0 out if the difference
        stays what it is; None where no number up to twenty times as many does. Empty where it is separated.
    """

    num_seeds: int
    by_seed: dict[int, float]
    shares: dict[str, float] = msgspec.field(default_factory=dict)
    minimum_detectable: float | None = None
    narrowed: dict[str, float] = msgspec.field(default_factory=dict)
    needed: dict[str, int | None] = msgspec.field(default_factory=dict)


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """All conditions of some runs, and all pairs of them; `undefined` has the pairs that cannot be compared, and why.

    `left_out` names problems that are not in all results, or were excluded in some.
    """

    metric: str
    conditions: list[ConditionMean]
    differences: list[SeedDifference]
    undefined: list[str] = []
    left_out: dict[str, str] = {}
