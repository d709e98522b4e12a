"""Find what the memorized training examples have in common: lengths, duplicates, files, packages, tags."""

from __future__ import annotations

import math
import os.path
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.scan import Trait
from ibft.statistics.uncertainty import Interval, effective_size, wilson_interval

if TYPE_CHECKING:
    from ibft.statistics.groups import Codes, Floats
    from ibft.statistics.uncertainty import Flags

__all__ = ["MAX_TRAITS", "MIN_GROUP", "common_traits"]

MIN_GROUP = 5
"""Files, packages and tags with fewer examples are not tested."""
MAX_TRAITS = 8

_Kind = Literal["length", "duplicates", "file", "tag"]


def common_traits(
    is_memorized: Flags,
    num_tokens: Codes,
    has_duplicate: Flags,
    files: Sequence[str | None],
    tags: Sequence[Sequence[str]],
    groups: Codes,
    scores: Floats,
) -> list[Trait]:
    """Return what the memorized of N examples have in common: at most 8 traits, the clearest first.

    Tested are the quarters of length, duplicates, and every file, package (the first folder below the one that all
    files share) and tag with at least 5 examples. Reported is what the memorized ones have more often than a random
    draw of as many (Fisher's exact test, one-sided, with Holm's correction, 5%). It describes these examples alone.

    Args:
        is_memorized: N flags.
        num_tokens: N lengths.
        has_duplicate: N flags.
        files: N paths; None where an example has none.
        tags: N sequences of tags.
        groups: N codes; equal codes are one group.
        scores: N scores, of which the memorized examples have the lowest; the design effect of few comes from them.
    """
    flags = np.asarray(is_memorized, bool)
    num, num_memorized = len(flags), int(flags.sum())
    if not 0 < num_memorized < num:
        return []
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, num + 1)))])
    # Where the memorized examples crowd in few groups, whatever these share would be reported: so counts are divided by
    # the design effect (Rao and Scott 1992).
    independent = min(1.0, effective_size(flags, groups, scores) / num)

    def log_p(weight: float, members: int, hits: int) -> float:
        # The hypergeometric distribution is one of whole numbers.
        return _log_tail(log_factorials, *(round(weight * count) for count in (num, num_memorized, members, hits)))

    tested = sorted(
        (log_p(weight, members, hits), kind, name, members, hits, weight)
        for kind, name, members, hits, weight in _candidates(flags, num_tokens, has_duplicate, files, tags, independent)
    )
    traits = []
    for rank, (log_chance, kind, name, members, hits, weight) in enumerate(tested[:MAX_TRAITS]):
        if log_chance > math.log(0.05 / (len(tested) - rank)):  # Holm (1979): of n p-values, 5% / n, / (n - 1), ...
            break
        interval = wilson_interval(weight * hits, weight * members)
        overall = num_memorized / num
        traits.append(
            Trait(
                kind=kind,
                name=name,
                num_examples=members,
                num_memorized=hits,
                share_of_memorized=hits / num_memorized,
                share_of_all=members / num,
                ratio=hits / members / overall,
                ci95=Interval(interval.low / overall, interval.high / overall),
            )
        )
    return traits


def _candidates(
    flags: NDArray[np.bool_],
    num_tokens: Codes,
    has_duplicate: Flags,
    files: Sequence[str | None],
    tags: Sequence[Sequence[str]],
    independent: float,
) -> Iterator[tuple[_Kind, str, int, int, float]]:
    """Yield kind, name, how many examples have the trait, how many of these are memorized, and the weight of each."""
    lengths = np.asarray(num_tokens, np.int64)
    quarters = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths)
    for quarter in np.unique(quarters):
        inside = quarters == quarter
        low, high = lengths[inside].min(), lengths[inside].max()
        name = f"{low} to {high} tokens" if low < high else f"{low} tokens"
        yield "length", name, int(inside.sum()), int(flags[inside].sum()), independent
    inside = np.asarray(has_duplicate, bool)
    if inside.any():
        yield "duplicates", "has a duplicate in the data", int(inside.sum()), int(flags[inside].sum()), independent
    by_file = _tally(((file,) if file is not None else () for file in files), flags)
    by_tag = _tally(map(set, tags), flags)
    tallies: list[tuple[_Kind, list[tuple[str, int, int]], float]] = [
        ("file", _packages(by_file), independent),
        ("file", by_file, 1.0),  # whole weight: a file is reported because the memorized examples crowd there
        ("tag", by_tag, independent),
    ]
    for kind, tally, weight in tallies:
        yield from ((kind, name, members, hits, weight) for name, members, hits in tally if members >= MIN_GROUP)


def _tally(names: Iterator[tuple[str, ...] | set[str]], flags: NDArray[np.bool_]) -> list[tuple[str, int, int]]:
    """Return each name with how many examples have it, and how many of these are memorized."""
    members, hits = Counter[str](), Counter[str]()
    for names_of_example, flag in zip(names, flags.tolist(), strict=True):
        for name in names_of_example:
            members[name] += 1
            hits[name] += flag
    return [(name, count, hits[name]) for name, count in members.items()]


def _packages(by_file: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Return the same for the first folders below the one that all files share."""
    folders = [name.replace("\\", "/").split("/")[:-1] for name, _, _ in by_file]
    depth = len(os.path.commonprefix(folders))  # noqa: RUF071 - of lists, so element by element
    totals: dict[str, tuple[int, int, int]] = {}
    for folder, (_, members, hits) in zip(folders, by_file, strict=True):
        if len(folder) > depth:
            name = "/".join(folder[: depth + 1]) + "/"
            num_files, all_members, all_hits = totals.get(name, (0, 0, 0))
            totals[name] = (num_files + 1, all_members + members, all_hits + hits)
    # A folder of a single file would report it twice.
    return [(name, members, hits) for name, (num_files, members, hits) in totals.items() if num_files > 1]


def _log_tail(log_factorials: NDArray[np.float64], num: int, num_memorized: int, members: int, hits: int) -> float:
    """Return ln of the chance that of `members` random examples at least `hits` are memorized (hypergeometric)."""

    def log_choose(of: int, some: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return log_factorials[of] - log_factorials[some] - log_factorials[of - some]  # type: ignore[no-any-return]

    if hits * num <= members * num_memorized:
        return 0.0  # no more than by chance: an upper bound of the p-value, which is never reported
    drawn = np.arange(hits, min(members, num_memorized) + 1)
    terms = log_choose(num_memorized, drawn) + log_choose(num - num_memorized, members - drawn)
    # Relative to the largest term: of such small chances `exp` alone would be 0.
    largest = terms.max()
    total = largest + math.log(float(np.exp(terms - largest).sum()))
    return float(min(0.0, total - log_choose(num, members)))
