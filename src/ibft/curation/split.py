"""A share of the training data held out by group, so that no copy and no near-copy of a row is on both sides.

Rows belong together that are from one file (`data.subsets.origin`), equal, equal as code (`data.code.Unit`), or
near-copies of one another: Jaccard similarity of the answers' shingles from 0.7 on (StarCoder, arXiv 2305.06161); and
conversations of which one trains an answer that the other has, too, after the same turns. A group is whatever is
connected in this way. A near-copy at the threshold is missed with a chance below 0.1%.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.curation.near import NearIndex, answer_keys, exact_key
from ibft.data.code import MIN_TOKENS, SIMILARITY, Unit, codes_of, shingles, whole
from ibft.data.subsets import origin
from ibft.data.training import Example
from ibft.errors import UserError

__all__ = ["Grouping", "Split", "excess_sentence"]

_EXCESS = 1.5
"""Above this many times the rows that were asked for, a warning says so."""


class Split(NamedTuple):
    """Which rows are held out, by their places in the data, and of how many groups the rows of either side are."""

    held_out: frozenset[int]
    num_groups_held_out: int
    num_groups_trained: int


def _num_asked(share: float, num_rows: int) -> int:
    return max(1, round(share * num_rows))


def excess_sentence(share: float, num_held_out: int, num_rows: int) -> str | None:
    """Return a sentence where far more rows are held out than were asked for, since no group is smaller; else None."""
    if num_held_out <= _EXCESS * _num_asked(share, num_rows):
        return None
    return (
        f"data.validation asks for {100 * share:g}% of the rows, and {100 * num_held_out / num_rows:.0f}% are held out "
        f"({num_held_out:,} of {num_rows:,}): that is the smallest group of rows that belong together (from one file, "
        "copies or near-copies). For fewer, give validation data of its own, such as a file."
    )


class Grouping:
    """Groups rows as they are read; needs about 5 KB per row of 100 tokens.

    Without rensa, near-copies are not looked for, and `finds_near` is False.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._contents: list[bytes] = []
        self._first: dict[tuple[str, object], int] = {}
        """What rows of one group share, such as a file: its kind and value, with the first row that has it."""
        self._answers: dict[bytes, list[int]] = {}
        """The rows that have an answer after the same turns; only one of their group once a row trains it."""
        self._trained: set[bytes] = set()
        self._indexed: list[int] = []
        """The row of each answer in the index of near-copies."""
        try:
            self._near: NearIndex | None = NearIndex(SIMILARITY)
        except UserError:
            self._near = None

    @property
    def finds_near(self) -> bool:
        """Whether near-copies are looked for."""
        return self._near is not None

    def watch(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Add the rows as they pass."""
        for example in examples:
            self.add(example)
            yield example

    def add(self, example: Example) -> None:
        """Add the next row of the data."""
        row = len(self._parents)
        self._parents.append(row)
        content = exact_key(example.pair)
        self._contents.append(content)
        file, _ = origin(example)
        if file is not None:
            self._join(row, "file", file)
        for answer, is_trained in answer_keys(example.pair):
            self._join_answer(row, answer, is_trained=is_trained)
        self._join(row, "content", content)
        trained = example.pair.trained if isinstance(example.pair, Conversation) else ()
        if self._join(row, "trained content", (content, trained)):
            return
        unit = _compared(example.pair)
        if len(unit.tokens) < MIN_TOKENS:  # `return self.name` is nobody's copy
            return
        self._join(row, "code", unit.fingerprint)
        # Not left out where the code is known under other names: what is near to one need not be near to the other.
        if self._near is None or self._join(
            row, "tokens", hashlib.blake2b("\0".join(unit.tokens).encode("utf-8", "replace")).digest()
        ):
            return
        entry = self._near.entry(shingles(unit.tokens))
        # Every row of other groups is compared, not only the nearest: it may be near to several.
        for found in self._near.similar(entry, lambda number: self._root(self._indexed[number]) == self._root(row)):
            self._unite(row, self._indexed[found.number])
        self._near.add(entry)
        self._indexed.append(row)

    def _join(self, row: int, kind: str, value: object) -> bool:
        """Put the row into the group of the first one that has this, too; False where it is the first."""
        first = self._first.setdefault((kind, value), row)
        self._unite(row, first)
        return first != row

    def _join_answer(self, row: int, answer: bytes, *, is_trained: bool) -> None:
        """Put the row into the group of those that have the answer, where one of them or the row itself trains it.

        What no row trains, such as the examples that all prompts begin with, joins nothing.
        """
        rows = self._answers.setdefault(answer, [])
        rows.append(row)
        if is_trained:
            self._trained.add(answer)
        if answer in self._trained:
            for other in rows:
                self._unite(other, row)
            del rows[1:]

    def _root(self, row: int) -> int:
        while (parent := self._parents[row]) != row:
            self._parents[row] = row = self._parents[parent]  # halves the way for the next one
        return row

    def _unite(self, row: int, other: int) -> None:
        self._parents[self._root(row)] = self._root(other)

    def split(self, share: float, usable: Collection[int], seed: int) -> Split:
        """Hold out whole groups, drawn by the seed and the rows' contents: their order in the data does not count.

        A group that would exceed the share is passed over, so that one large file does not become the validation data.

        Args:
            share: of the usable rows, above 0 and below 1.
            usable: the places of the rows that can be trained; the others connect rows, and count for nothing.
            seed: random seed of the draw.

        Raises:
            UserError: no group is small enough to be held out.
        """
        groups: dict[int, list[int]] = {}
        for row in sorted(usable):
            groups.setdefault(self._root(row), []).append(row)
        drawn = sorted(groups.values(), key=lambda rows: self._lot(rows, seed))
        limit = _num_asked(share, len(usable))
        held_out: list[list[int]] = []
        count = 0
        for rows in drawn:
            if count + len(rows) <= limit:
                held_out.append(rows)
                count += len(rows)
        if not held_out:
            smallest = min(drawn, key=len)
            if 2 * len(smallest) > len(usable):
                raise UserError(
                    f"data.validation: {len(smallest)} of {len(usable)} rows belong together (from one file, copies "
                    "or near-copies), so no share can be held out. Give validation data of its own, such as a file."
                )
            held_out = [smallest]
        places = frozenset(row for rows in held_out for row in rows)
        return Split(places, len(held_out), len(drawn) - len(held_out))

    def _lot(self, rows: list[int], seed: int) -> bytes:
        content = min(self._contents[row] for row in rows)
        return hashlib.blake2b(content, key=str(seed).encode(), digest_size=16).digest()


def _compared(pair: TrainingPair) -> Unit:
    """Return the code that an example teaches; the whole answers where that is short, such as a command in prose."""
    unit = whole("\n".join(codes_of(pair)))
    if len(unit.tokens) >= MIN_TOKENS:
        return unit
    if isinstance(pair, Conversation):
        return whole("\n".join(pair.turns[place].content or "" for place in pair.trained))
    return whole(pair.completion)
