"""Blocks: an interruption at any point, and any number of processes, give every row once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Pair, Score, Subset
from ibft.data.subsets import NumberedExamples
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.scoring import blocks as module
from ibft.scoring.blocks import block_path, complete_blocks, score_blocks
from ibft.scoring.encoder import Block
from ibft.scoring.engine import ScoredRows, one_ahead

ITEMS = [(3 * number, f"text {number * 7 % 10}") for number in range(23)]  # gaps as of a draw, ids that occur twice


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 5)


def source(items: Sequence[tuple[int, str]], subset: Subset = "train") -> NumberedExamples:
    """The examples of these places, whose ids are the texts; others stand between."""
    texts = dict(items)
    pairs = [Pair(texts.get(place, "left out"), "p", "c") for place in range(max(texts, default=-1) + 1)]
    return NumberedExamples(subset, lambda: (Example(pair, None) for pair in pairs), texts.keys())


SOURCES = [source(ITEMS)]


class Scorer:
    """Scores two items at a time, the last ones first; counts them, and is interrupted before its n-th batch.

    Args:
        stop_before: the n-th batch, from 0.
        is_ahead: as beside a GPU, a batch begins before the rows of the one before are made.
    """

    def __init__(self, stop_before: int | None = None, is_ahead: bool = False) -> None:
        self.seen: Counter[int] = Counter()
        self.events: list[str] = []
        self._batches_left, self._is_ahead = stop_before, is_ahead

    def score(self, blocks: Iterable[Block]) -> Iterator[ScoredRows]:
        begun = self._begun(blocks)
        for subset, number, batch in one_ahead(begun) if self._is_ahead else begun:
            self.events.append("rows")
            rows = [
                Score(id=example.pair.id, subset=subset, index=index, scores={"mean_nll": index / 7})
                for index, example in batch
            ]
            yield ScoredRows(subset, number, rows)

    def _begun(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for subset, number, items in blocks:
            for start in range(0, len(items), 2):
                if self._batches_left == 0:
                    raise KeyboardInterrupt
                if self._batches_left is not None:
                    self._batches_left -= 1
                batch = items[::-1][start : start + 2]
                self.seen.update(index for index, _ in batch)
                self.events.append("begin")
                yield Block(subset, number, batch)


def rows_of(folder: Path, counts: dict[Subset, int]) -> list[list[Score]]:
    return [list(read_rows(file, Score)) for file in complete_blocks(folder, counts)]


def merged(folder: Path) -> list[tuple[int, str]]:
    rows = rows_of(folder, {"train": len(ITEMS)})
    return [(row.index, row.id) for block in rows for row in sorted(block, key=lambda row: row.index)]


def test_rows_come_back_in_the_order_of_the_data(tmp_path: Path) -> None:
    scorer = Scorer()
    advanced: list[int] = []
    score_blocks(tmp_path, SOURCES, scorer, advance=lambda num, subset: advanced.append(num))
    assert merged(tmp_path) == ITEMS
    assert sum(advanced) == len(ITEMS)
    assert [len(block) for block in rows_of(tmp_path, {"train": len(ITEMS)})] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("stop_before", range(14))
def test_an_interruption_before_any_batch_costs_nothing(tmp_path: Path, stop_before: int) -> None:
    first, second = Scorer(stop_before), Scorer()
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, SOURCES, first)
    advanced: list[int] = []
    score_blocks(tmp_path, SOURCES, second, advance=lambda num, subset: advanced.append(num))
    assert merged(tmp_path) == ITEMS
    assert first.seen + second.seen == Counter(index for index, _ in ITEMS)
    assert sum(advanced) == len(ITEMS)
    assert not list(tmp_path.glob("*.partial.jsonl"))


@pytest.mark.parametrize("stop_before", range(14))
def test_ahead_an_interruption_costs_one_batch_at_most(tmp_path: Path, stop_before: int) -> None:
    first, second = Scorer(stop_before, is_ahead=True), Scorer(is_ahead=True)
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, SOURCES, first)
    score_blocks(tmp_path, SOURCES, second)
    assert merged(tmp_path) == ITEMS
    twice = (first.seen + second.seen) - Counter(index for index, _ in ITEMS)
    assert sum(twice.values()) <= 2


def test_ahead_the_device_never_waits_for_rows(tmp_path: Path) -> None:
    """Also from one block to the next; otherwise one batch after the other."""
    ahead, beside = Scorer(is_ahead=True), Scorer()
    for name in ("ahead", "beside"):
        (tmp_path / name).mkdir()
    score_blocks(tmp_path / "ahead", SOURCES, ahead)
    assert ahead.events == ["begin", *["begin", "rows"] * 13, "rows"]
    score_blocks(tmp_path / "beside", SOURCES, beside)
    assert beside.events == ["begin", "rows"] * 14
    assert merged(tmp_path / "ahead") == merged(tmp_path / "beside") == ITEMS


def test_every_batch_interrupted_once(tmp_path: Path) -> None:
    total: Counter[int] = Counter()
    for _ in range(100):
        scorer = Scorer(stop_before=1)
        try:
            score_blocks(tmp_path, SOURCES, scorer)
            break
        except KeyboardInterrupt:
            total += scorer.seen
    assert merged(tmp_path) == ITEMS
    assert total + scorer.seen == Counter(index for index, _ in ITEMS)


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_an_unfinished_last_line_is_scored_again_and_whole_ones_are_not(tmp_path: Path, kept: int) -> None:
    """As kill -9 in the middle of a write leaves it."""
    first = Scorer(stop_before=2)
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, SOURCES, first)
    partial = block_path(tmp_path, "train", 0).with_suffix(".partial.jsonl")
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    partial.write_bytes(b"".join(lines[:3]) + lines[3][:kept])
    second = Scorer()
    score_blocks(tmp_path, SOURCES, second)
    assert merged(tmp_path) == ITEMS
    twice = (first.seen + second.seen) - Counter(index for index, _ in ITEMS)
    assert sum(twice.values()) == 1


def test_complete_blocks_are_not_scored_again(tmp_path: Path) -> None:
    score_blocks(tmp_path, SOURCES, Scorer())
    again = Scorer(stop_before=0)
    score_blocks(tmp_path, SOURCES, again)
    assert not again.seen


def test_subsets_do_not_meet(tmp_path: Path) -> None:
    score_blocks(tmp_path, SOURCES, Scorer())
    control = Scorer()
    score_blocks(tmp_path, [source(ITEMS[:2], "control")], control)
    assert sum(control.seen.values()) == 2
    rows = [row for block in rows_of(tmp_path, {"train": len(ITEMS), "control": 2}) for row in block]
    assert sorted(row.index for row in rows[:-2]) == [index for index, _ in ITEMS]
    assert sorted(row.index for row in rows[-2:]) == [index for index, _ in ITEMS[:2]]


@pytest.mark.parametrize("num_processes", [2, 3, 7])
def test_processes_share_the_blocks(tmp_path: Path, num_processes: int) -> None:
    scorers = [Scorer() for _ in range(num_processes)]
    for rank in reversed(range(num_processes)):
        score_blocks(tmp_path, SOURCES, scorers[rank], rank=rank, num_processes=num_processes)
    assert merged(tmp_path) == ITEMS
    assert sum((scorer.seen for scorer in scorers), Counter()) == Counter(index for index, _ in ITEMS)
    assert sum(bool(scorer.seen) for scorer in scorers) == min(num_processes, 5)


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    interrupted = Scorer(stop_before=4)
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, SOURCES, interrupted, rank=1, num_processes=2)
    with pytest.raises(UserError, match=r"train-000000\.jsonl is missing.*share the run folder"):
        merged(tmp_path)
    alone = Scorer()
    score_blocks(tmp_path, SOURCES, alone)
    assert merged(tmp_path) == ITEMS
    assert interrupted.seen + alone.seen == Counter(index for index, _ in ITEMS)


def test_no_items_make_no_block(tmp_path: Path) -> None:
    score_blocks(tmp_path, [source([])], Scorer())
    assert list(tmp_path.iterdir()) == []
    assert list(complete_blocks(tmp_path, {"train": 0})) == []
