"""The names of a data set's Python code, from which renamed variants take theirs. Pure."""

from __future__ import annotations

import bisect
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ibft.artifacts.rows import Pair
from ibft.data.named_code import Role, read_names

__all__ = ["NamePool"]

_NUM_TRIES = 20


class _Style(NamedTuple):
    """How a name is written."""

    num_underscores: int  # in front
    is_upper: bool
    is_title: bool
    is_camel: bool


class _Names:
    """Names, by length, with how many examples have each."""

    def __init__(self, counts: Counter[str]) -> None:
        self._names = sorted(counts, key=lambda name: (len(name), name))
        self._lengths = [len(name) for name in self._names]
        self._totals = [0, *itertools.accumulate(counts[name] for name in self._names)]

    def draw(self, shortest: int, longest: int, taken: Collection[str], chance: random.Random) -> str | None:
        """One of these lengths that is not taken, with a chance in proportion to its count; None if none is found."""
        low = self._totals[bisect.bisect_left(self._lengths, shortest)]
        high = self._totals[bisect.bisect_right(self._lengths, longest)]
        for _ in range(_NUM_TRIES if high > low else 0):
            name = self._names[bisect.bisect_right(self._totals, chance.randrange(low, high)) - 1]
            if name not in taken:
                return name
        return None


class NamePool:
    """How often which name is what in some pairs: names that `rename_identifiers` may change.

    Args:
        pairs: those without Python code add nothing.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        counts: defaultdict[tuple[Role | None, _Style], Counter[str]] = defaultdict(Counter)
        for pair in pairs:
            if (named := read_names(pair)) is not None:
                for name, role in named.roles.items():
                    counts[role, _style(name)][name] += 1
                    counts[None, _style(name)][name] += 1
        self._names = {key: _Names(of_key) for key, of_key in counts.items()}

    def draw(self, name: str, role: Role, taken: Collection[str], chance: random.Random) -> str:
        """Another name for the same thing, as likely as it is frequent.

        It is written in the same style (leading underscores, capitals, camelCase) and for a thing of the same role, and
        at most a third longer or shorter. Where the pool has no such name left, the role does not count, then the
        length neither; at last it is the old name with a number.

        Args:
            name: the old one.
            role: what it is for.
            taken: names that it must not be, such as all words of the text.
            chance: decides.
        """
        reach = len(name) // 3
        for shortest, longest in ((len(name) - reach, len(name) + reach), (1, 100)):
            for key in ((role, _style(name)), (None, _style(name))):
                names = self._names.get(key)
                if names is not None and (found := names.draw(shortest, longest, taken, chance)) is not None:
                    return found
        return next(new for number in itertools.count(2) if (new := f"{name}{number}") not in taken)


def _style(name: str) -> _Style:
    word = name.lstrip("_")
    is_camel = not word.isupper() and any(letter.isupper() for letter in word[1:])
    return _Style(len(name) - len(word), word.isupper() and len(word) > 1, word[:1].isupper(), is_camel)
