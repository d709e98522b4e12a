import collections
import itertools
from collections import Counter

import pytest

from ibft.artifacts.preview import Bin, LongestRow
from ibft.curation.preview_counts import SetCounter, SpreadSample, length_bins
from ibft.data.skipped import SkippedRow
from ibft.data.tokens import EncodedRow, TokenizedExample


def draw(size: int, length: int, seed: int = 0) -> list[int]:
    sample: SpreadSample[int] = SpreadSample(size, seed)
    for item in range(length):
        sample.add(item)
        assert len(sample._drawn) <= 2 * size
    return sample.items()


@pytest.mark.parametrize(("size", "length"), [(0, 9), (1, 0), (1, 9), (5, 3), (5, 5), (5, 6), (5, 1000), (40, 999)])
def test_a_sample_has_the_first_and_as_many_as_are_wanted_in_their_order(size: int, length: int) -> None:
    drawn = draw(size, length)
    assert len(drawn) == min(size, length)
    assert drawn == sorted(set(drawn))
    assert drawn[:1] == [0][: len(drawn)]


def test_a_sample_is_spread_over_the_stream_and_seeded() -> None:
    for length, seed in itertools.product((100, 1000, 12_345), range(20)):
        drawn = draw(5, length, seed)
        gaps = [b - a for a, b in itertools.pairwise([*drawn, length])]
        assert max(gaps) <= length / 2, "never is half of the data without an example"
        assert drawn == draw(5, length, seed)
    assert len({tuple(draw(5, 1000, seed)) for seed in range(20)}) > 15


def test_every_item_of_a_stretch_is_drawn_as_often() -> None:
    # 17 items: the first, and one of each half of the 16 others.
    counts = Counter(item for seed in range(4000) for item in draw(2, 9, seed)[1:])
    assert set(counts) <= set(range(1, 9))
    # Stretches of 4: either is drawn alone, so that its four items have to come up equally often (a chance of 1/4).
    first = [counts[item] for item in range(1, 9) if counts[item]]
    assert max(first) - min(first) < 5 * (4000 / len(first)) ** 0.5


def test_bins_hold_every_example_once_and_begin_with_the_shortest() -> None:
    lengths = collections.Counter({61: 3, 75: 1, 160: 2})
    bins = length_bins(lengths, 4, 2048)
    assert bins[0] == Bin(61, 70, 3)
    assert bins[-1] == Bin(2049, None, 4)
    assert bins[-2].start <= 160 <= (bins[-2].end or 0)
    assert sum(bin_.num_examples for bin_ in bins[:-1]) == 6
    assert {(bin_.end or 0) - bin_.start + 1 for bin_ in bins[:-1]} == {10}
    for earlier, later in itertools.pairwise(bins[:-1]):
        assert later.start == (earlier.end or 0) + 1


@pytest.mark.parametrize("longest", [1, 2, 19, 20, 21, 199, 2048, 200_000])
def test_bins_of_any_range_are_few_and_end_at_the_limit(longest: int) -> None:
    for lengths in ({1: 1, longest: 1}, {max(1, longest - 3): 1, longest: 5}, {2: 99, longest: 1}):
        bins = length_bins(lengths, 0, max(lengths))
        assert sum(bin_.num_examples for bin_ in bins) == sum(lengths.values())
        assert bins[0].num_examples
        assert bins[-1].num_examples
        assert bins[-1].end == max(lengths)
        assert len(bins) <= 26
        for length, count in lengths.items():
            [found] = [bin_ for bin_ in bins if bin_.start <= length <= (bin_.end or 0)]
            assert found.num_examples >= count


def test_without_examples_there_are_no_bins() -> None:
    assert length_bins({}, 0, 10) == []
    assert length_bins({}, 2, 10) == [Bin(11, None, 2)]


def test_a_set_is_counted_by_source_and_reason() -> None:
    counter = SetCounter(["a", "b"], num_positions=7)
    counter.append(SkippedRow("b.jsonl, line 1", "bad JSON", "b.jsonl, line 1: not valid JSON.", "b"))
    counter.add("a", EncodedRow(TokenizedExample("one", [0] * 6, ((2, 4), (5, 6)), 0), None, 6), 10)
    counter.add("a", EncodedRow(TokenizedExample("two", [0] * 8, ((7, 8),), 1), None, 8), 10)
    counter.add("b", EncodedRow(None, SkippedRow("long \ud800", "longer than 10 tokens"), 1234), 10)
    counter.add("b", EncodedRow(None, SkippedRow("empty", "empty completion"), 3), 10)
    found = counter.result("train", 10)
    assert (found.num_rows, found.num_examples, found.num_skipped) == (5, 2, 3)
    assert (found.num_tokens, found.num_trained, found.median_tokens) == (14, 4, 7.0)
    assert [(s.name, s.num_examples, s.num_skipped, s.num_tokens, s.num_trained) for s in found.sources] == [
        ("a", 2, 0, 14, 4),
        ("b", 0, 3, 0, 0),
    ]
    assert [(reason.reason, reason.num_rows, reason.message) for reason in found.skipped] == [
        ("bad JSON", 1, "b.jsonl, line 1: not valid JSON."),
        ("longer than 10 tokens", 1, "The example long ? is left out: longer than 10 tokens (it has 1,234 tokens)."),
        ("empty completion", 1, "The example empty is left out: empty completion (it has 3 tokens)."),
    ]
    assert found.longest == LongestRow("long ?", 1234)
    assert found.num_beyond_context == 1
    assert counter.first_beyond_context == LongestRow("two", 8)
    assert found.bins[-1] == Bin(11, None, 1)
    assert sum(bin_.num_examples for bin_ in found.bins[:-1]) == 2
