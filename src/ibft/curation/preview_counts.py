"""Counts and samples of a stream of examples, in memory that does not grow with it."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from ibft.artifacts.preview import Bin, LongestRow, SetPreview, SkipReason, SourceCounts
from ibft.data.skipped import SkippedRow
from ibft.data.tokens import EncodedRow

__all__ = ["SetCounter", "SpreadSample", "encodable", "length_bins"]

_NUM_BINS = 20
"""At most this many bins of one width: a bar each is a line in the terminal."""
_WIDE, _STEPS = 8, (1, 2, 3, 5, 7)

Item = TypeVar("Item")


class SpreadSample(Generic[Item]):
    """The first item of a stream of any length, and others spread over it: one drawn from each stretch.

    Stretches double in length whenever there are twice as many as are wanted, so that at most 2 · size items are held.

    Args:
        size: how many items are wanted, the first one included.
        seed: random seed of the draw.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._num_spread, self._random = size - 1, random.Random(seed)
        self._first: list[Item] = []
        self._drawn: list[Item] = []  # one for each stretch
        self._stretch, self._num_in_last = 1, 1

    def add(self, item: Item) -> None:
        """Take the next item of the stream."""
        if not self._first:
            self._first = [item] if self._num_spread >= 0 else []
            return
        if self._num_spread <= 0:
            return
        if self._num_in_last == self._stretch or not self._drawn:
            if len(self._drawn) == 2 * self._num_spread:
                pairs = zip(self._drawn[::2], self._drawn[1::2], strict=True)
                self._drawn = [self._random.choice(pair) for pair in pairs]
                self._stretch *= 2
            self._drawn.append(item)
            self._num_in_last = 1
            return
        self._num_in_last += 1
        if self._random.random() * self._num_in_last < 1:
            self._drawn[-1] = item

    def items(self) -> list[Item]:
        """Return the items in their order, as many as are wanted or as there are."""
        num, wanted = len(self._drawn), self._num_spread
        if num <= wanted:
            return [*self._first, *self._drawn]
        return [*self._first, *(self._drawn[(2 * place + 1) * num // (2 * wanted)] for place in range(wanted))]


class SetCounter:
    """Counts what becomes of the rows of one set; takes the rows that cannot be read, too (`TakesSkipped`).

    Args:
        sources: names of its sources.
        num_positions: the model's context.
    """

    def __init__(self, sources: Sequence[str], num_positions: float) -> None:
        self._num_positions = num_positions
        self._sources = {source: Counter[str]() for source in sources}
        self._lengths: Counter[int] = Counter()
        self._too_long = self._num_rows = self.num_beyond_context = 0
        self._longest: LongestRow | None = None
        self._sentences: dict[str, tuple[str, str]] = {}
        self._num_skipped: Counter[str] = Counter()
        self.first_beyond_context: LongestRow | None = None
        self.first_error: SkippedRow | None = None
        """The first row that `data.on_bad_row: stop` stops at."""

    def append(self, row: SkippedRow) -> None:
        """Count a row that cannot be read."""
        self._skip(row, row.source or next(iter(self._sources)))

    def add(self, source: str, encoded: EncodedRow, max_tokens: int) -> None:
        """Count an example of a source."""
        row = encoded.tokenized or encoded.skipped
        assert row is not None
        if encoded.num_tokens > (self._longest.num_tokens if self._longest else 0):
            self._longest = LongestRow(encodable(row.id), encoded.num_tokens)
        if encoded.skipped is not None:
            self._too_long += encoded.num_tokens > max_tokens
            self._skip(encoded.skipped, source, encoded.num_tokens)
        if encoded.tokenized is not None:
            num_trained = sum(end - first for first, end in encoded.tokenized.trained)
            self._lengths[encoded.num_tokens] += 1
            self._sources[source].update(examples=1, tokens=encoded.num_tokens, trained=num_trained)
            if encoded.num_tokens > self._num_positions:
                self.num_beyond_context += 1
                self.first_beyond_context = self.first_beyond_context or LongestRow(row.id, encoded.num_tokens)

    def _skip(self, row: SkippedRow, source: str, num_tokens: int = 0) -> None:
        if row.reason not in self._sentences:
            length = f" (it has {num_tokens:,} tokens)" if num_tokens else ""
            sentence = row.message or f"The example {row.id} is left out: {row.reason}{length}."
            self._sentences[row.reason] = encodable(row.id), encodable(sentence)
        self._num_skipped[row.reason] += 1
        self._sources[source].update(skipped=1)
        if row.message is not None and self.first_error is None:
            self.first_error = row

    @property
    def num_examples(self) -> int:
        """How many examples are used."""
        return self._lengths.total()

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why rows are left out, and how many, the most frequent reason first."""
        return self._num_skipped.most_common()

    def result(self, name: str, max_tokens: int) -> SetPreview:
        """Return the set in numbers."""
        num_skipped = self._num_skipped.total()
        return SetPreview(
            name=name,
            num_rows=self.num_examples + num_skipped,
            num_examples=self.num_examples,
            num_skipped=num_skipped,
            num_tokens=sum(counts["tokens"] for counts in self._sources.values()),
            num_trained=sum(counts["trained"] for counts in self._sources.values()),
            median_tokens=_median(self._lengths),
            bins=length_bins(self._lengths, self._too_long, max_tokens),
            longest=self._longest,
            num_beyond_context=self.num_beyond_context,
            sources=[
                SourceCounts(
                    name=source,
                    num_examples=counts["examples"],
                    num_skipped=counts["skipped"],
                    num_tokens=counts["tokens"],
                    num_trained=counts["trained"],
                )
                for source, counts in self._sources.items()
            ],
            skipped=[SkipReason(reason, num, *self._sentences[reason]) for reason, num in self.reasons],
        )


def length_bins(lengths: Mapping[int, int], num_too_long: int, max_tokens: int) -> list[Bin]:
    """Return token counts in bins from the shortest example to the longest; and one of all that are too long.

    The bins have one width (1, 2 or 5 times a power of ten; at most 20 of them) unless the longest example is over
    eight times as long as the median one: then each ends 1.4 to 2 times as far as the one before.

    Args:
        lengths: number of tokens, at most `max_tokens`, to number of examples.
        num_too_long: examples that are longer.
        max_tokens: the most that are allowed.
    """
    bins = [Bin(max_tokens + 1, None, num_too_long)] if num_too_long else []
    if not lengths:
        return bins
    shortest, longest = min(lengths), max(lengths)
    if longest > _WIDE * (_median(lengths) or 0):
        ends = [0, *(step * 10**power for power in range(12) for step in _STEPS)]
    else:
        widths = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
        width = next(width for width in widths if longest - shortest <= width * (_NUM_BINS - 1))
        ends = list(range(0, longest + width, width))
    ends = ends[max(0, bisect_left(ends, shortest) - 1) : bisect_left(ends, longest) + 1]
    counts = Counter[int]()
    for length, count in lengths.items():
        counts[bisect_left(ends, length)] += count
    edges = enumerate(itertools.pairwise(ends), start=1)
    return [Bin(start + 1, min(end, max_tokens), counts[place]) for place, (start, end) in edges] + bins


def _median(counts: Mapping[int, int]) -> float | None:
    """Return the median of numbers that are given by how often each occurs."""
    total, below = sum(counts.values()), 0
    middle: list[int] = []
    for number in sorted(counts):
        below += counts[number]
        # The lower and the upper middle; of an odd count they are one.
        middle += [number] * ((below > (total - 1) // 2) + (below > total // 2) - len(middle))
        if len(middle) == 2:
            return sum(middle) / 2
    return None


def encodable(text: str) -> str:
    """Return the text with a question mark for each lone surrogate, which no file and no terminal takes."""
    return text.encode(errors="replace").decode()
