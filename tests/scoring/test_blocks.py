"""Blocks: an interruption at any point, and any number of processes, give every row once."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ibft.artifacts.rows import Score
from ibft.errors import UserError
from ibft.scoring import blocks as module
from ibft.scoring.blocks import Batch, block_path, merged_blocks, score_blocks

ITEMS = [(3 * number, f"text {number * 7 % 10}") for number in range(23)]  # gaps as of a draw, ids that occur twice


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 5)


class Scorer:
    """Scores two items at a time, the last ones first; counts them, and is interrupted before its n-th batch."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.seen: Counter[int] = Counter()
        self.events: list[str] = []
        self._batches_left = stop_before

    def __call__(self, items: Sequence[tuple[int, str]]) -> list[Batch]:
        batches = [items[::-1][start : start + 2] for start in range(0, len(items), 2)]
        return [functools.partial(self._begin, batch) for batch in batches] or [lambda: list]

    def _begin(self, batch: Sequence[tuple[int, str]]) -> Callable[[], list[Score]]:
        if self._batches_left == 0:
            raise KeyboardInterrupt
        if self._batches_left is not None:
            self._batches_left -= 1
        self.seen.update(index for index, _ in batch)
        self.events.append("begin")
        return functools.partial(self._rows, batch)

    def _rows(self, batch: Sequence[tuple[int, str]]) -> list[Score]:
        self.events.append("rows")
        return [Score(id=text, subset="train", index=index, scores={"mean_nll": index / 7}) for index, text in batch]


def merged(folder: Path) -> list[tuple[int, str]]:
    return [(row.index, row.id) for block in merged_blocks(folder, {"train": len(ITEMS)}) for row in block]


def test_rows_come_back_in_the_order_of_the_data(tmp_path: Path) -> None:
    scorer = Scorer()
    advanced: list[int] = []
    score_blocks(tmp_path, "train", ITEMS, list, scorer, advance=advanced.append)
    assert merged(tmp_path) == ITEMS
    assert sum(advanced) == len(ITEMS)
    assert [len(block) for block in merged_blocks(tmp_path, {"train": len(ITEMS)})] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("stop_before", range(14))
def test_an_interruption_before_any_batch_costs_nothing(tmp_path: Path, stop_before: int) -> None:
    first, second = Scorer(stop_before), Scorer()
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, "train", ITEMS, list, first)
    advanced: list[int] = []
    score_blocks(tmp_path, "train", ITEMS, list, second, advance=advanced.append)
    assert merged(tmp_path) == ITEMS
    assert first.seen + second.seen == Counter(index for index, _ in ITEMS)
    assert sum(advanced) == len(ITEMS)
    assert not list(tmp_path.glob("*.partial.jsonl"))


@pytest.mark.parametrize("stop_before", range(14))
def test_ahead_an_interruption_costs_one_batch_at_most(tmp_path: Path, stop_before: int) -> None:
    first, second = Scorer(stop_before), Scorer()
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, "train", ITEMS, list, first, is_ahead=True)
    score_blocks(tmp_path, "train", ITEMS, list, second, is_ahead=True)
    assert merged(tmp_path) == ITEMS
    twice = (first.seen + second.seen) - Counter(index for index, _ in ITEMS)
    assert sum(twice.values()) <= 2


def test_ahead_the_device_never_waits_for_rows(tmp_path: Path) -> None:
    """Also from one block to the next; otherwise one batch after the other."""
    ahead, beside = Scorer(), Scorer()
    for name in ("ahead", "beside"):
        (tmp_path / name).mkdir()
    score_blocks(tmp_path / "ahead", "train", ITEMS, list, ahead, is_ahead=True)
    assert ahead.events == ["begin", *["begin", "rows"] * 13, "rows"]
    score_blocks(tmp_path / "beside", "train", ITEMS, list, beside)
    assert beside.events == ["begin", "rows"] * 14
    assert merged(tmp_path / "ahead") == merged(tmp_path / "beside") == ITEMS


def test_every_batch_interrupted_once(tmp_path: Path) -> None:
    total: Counter[int] = Counter()
    for _ in range(100):
        scorer = Scorer(stop_before=1)
        try:
            score_blocks(tmp_path, "train", ITEMS, list, scorer)
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
        score_blocks(tmp_path, "train", ITEMS, list, first)
    partial = block_path(tmp_path, "train", 0).with_suffix(".partial.jsonl")
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    partial.write_bytes(b"".join(lines[:3]) + lines[3][:kept])
    second = Scorer()
    score_blocks(tmp_path, "train", ITEMS, list, second)
    assert merged(tmp_path) == ITEMS
    twice = (first.seen + second.seen) - Counter(index for index, _ in ITEMS)
    assert sum(twice.values()) == 1


def test_complete_blocks_are_not_scored_again(tmp_path: Path) -> None:
    score_blocks(tmp_path, "train", ITEMS, list, Scorer())
    again = Scorer(stop_before=0)
    score_blocks(tmp_path, "train", ITEMS, list, again)
    assert not again.seen


def test_subsets_do_not_meet(tmp_path: Path) -> None:
    score_blocks(tmp_path, "train", ITEMS, list, Scorer())
    control = Scorer()
    score_blocks(tmp_path, "control", ITEMS[:2], list, control)
    assert sum(control.seen.values()) == 2
    rows = [row for block in merged_blocks(tmp_path, {"train": len(ITEMS), "control": 2}) for row in block]
    assert [row.index for row in rows] == [index for index, _ in [*ITEMS, *ITEMS[:2]]]


@pytest.mark.parametrize("num_processes", [2, 3, 7])
def test_processes_share_the_blocks(tmp_path: Path, num_processes: int) -> None:
    scorers = [Scorer() for _ in range(num_processes)]
    for rank in reversed(range(num_processes)):
        score_blocks(tmp_path, "train", ITEMS, list, scorers[rank], rank=rank, num_processes=num_processes)
    assert merged(tmp_path) == ITEMS
    assert sum((scorer.seen for scorer in scorers), Counter()) == Counter(index for index, _ in ITEMS)
    assert sum(bool(scorer.seen) for scorer in scorers) == min(num_processes, 5)


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    interrupted = Scorer(stop_before=4)
    with pytest.raises(KeyboardInterrupt):
        score_blocks(tmp_path, "train", ITEMS, list, interrupted, rank=1, num_processes=2)
    with pytest.raises(UserError, match=r"train-000000\.jsonl is missing.*share the run folder"):
        merged(tmp_path)
    alone = Scorer()
    score_blocks(tmp_path, "train", ITEMS, list, alone)
    assert merged(tmp_path) == ITEMS
    assert interrupted.seen + alone.seen == Counter(index for index, _ in ITEMS)


def test_no_items_make_no_block(tmp_path: Path) -> None:
    score_blocks(tmp_path, "train", [], list, Scorer())
    assert list(tmp_path.iterdir()) == []
    assert list(merged_blocks(tmp_path, {"train": 0})) == []
