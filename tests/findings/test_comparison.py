import itertools

import numpy as np
import pytest

from ibft.findings.columns import Columns
from ibft.findings.comparison import compare_with_control
from ibft.findings.matching import match_by_length
from ibft.statistics.uncertainty import auroc, delong_interval

NUMBERS = itertools.count()


def single(num: int) -> np.ndarray:
    """Groups of one example each, which no other call gives."""
    return np.fromiter(itertools.islice(NUMBERS, num), np.int64)


def made(
    num_tokens: np.ndarray, groups: np.ndarray, scores: dict[str, np.ndarray] | None = None, tags: object = None
) -> Columns:
    num = len(num_tokens)
    zeros = np.zeros(num, np.int64)
    return Columns(
        num_tokens,
        groups,
        scores or {},
        num_prefix_tokens=zeros,
        num_suffix_tokens=zeros,
        num_matched_tokens=zeros,
        suffix_log_prob=np.full(num, np.nan),
        files=[None] * num,
        tags=[()] * num if tags is None else tags,
        codes=single(num),
    )


def columns(values: np.ndarray, groups: np.ndarray | None = None) -> Columns:
    num = len(values)
    return made(np.full(num, 30), single(num) if groups is None else groups, {"min_k_prob_20": values})


def compared(train: Columns, control: Columns, texts=None, seed: int = 0):
    matches = match_by_length(train.num_tokens, control.num_tokens)
    return compare_with_control(train, control, matches, texts, seed)


def test_an_auroc_for_every_score_of_both_subsets_in_their_order() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 40), rng.normal(1, 1, 40)
    missing = np.full(40, np.nan)
    train = made(
        np.full(40, 9),
        single(40),
        {"b": values[0], "a": -values[0], "none": missing, "own": values[0]},
    )
    control = made(np.full(40, 9), single(40), {"a": -values[1], "b": values[1], "none": values[1]})
    found = compared(train, control)
    assert [one.name for one in found.scores] == ["b", "a"]
    b, a = (one.auroc for one in found.scores)
    assert b.value == pytest.approx(auroc(*values))
    assert b.ci95 == pytest.approx(delong_interval(*values))
    assert a.value == pytest.approx(1 - b.value)
    assert found.length.value == 0.5
    assert (found.num_pairs, found.num_groups) == (40, {"train": 40, "control": 40})
    assert found.blind is None
    assert found.scores[0].beats_blind is found.scores[0].above_blind is None


def test_missing_values_are_left_out_of_their_score_alone() -> None:
    rng = np.random.default_rng(1)
    full = rng.normal(size=50)
    holes = np.where(np.arange(50) % 5 == 0, np.nan, full)
    train = made(np.full(50, 9), single(50), {"full": full, "holes": holes})
    control = made(np.full(50, 9), single(50), {"full": full + 1, "holes": np.where(holes > 0, np.inf, holes + 1)})
    by_name = {one.name: one for one in compared(train, control).scores}
    assert (by_name["full"].num_train, by_name["full"].num_control) == (50, 50)
    assert by_name["holes"].num_train == 40
    assert by_name["holes"].num_control == int((holes <= 0).sum())


def code(rng: np.random.Generator, num: int, word: str, often: float) -> list[str]:
    words = [f"w{i}" for i in range(30)]
    return [" ".join([*rng.choice(words, 10), *([word] if rng.random() < often else [])]) for _ in range(num)]


def test_the_blind_classifier_sees_the_matched_texts_in_the_rows_order() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(2)
    num = 120
    all_texts = {"train": code(rng, num, "old", 0.5), "control": code(rng, num, "new", 0.5)}
    has_word = np.array([text.endswith("old") for text in all_texts["train"]])
    # The score knows what the classifier knows, so both AUROCs are alike if, and only if, the rows are aligned.
    train = columns(np.where(has_word, -1.0, 0.0) + rng.normal(0, 0.01, num))
    control = columns(np.array([1.0 if text.endswith("new") else 0.0 for text in all_texts["control"]]))
    asked = []

    def texts(subset, rows):
        asked.append((subset, rows.tolist()))
        return [all_texts[subset][row] for row in rows]

    found = compared(train, control, texts)
    assert [subset for subset, _ in asked] == ["train", "control"]
    assert all(rows == sorted(rows) for _, rows in asked)
    [score] = found.scores
    assert found.num_blind_pairs == num
    assert found.blind.value > 0.8
    assert score.above_blind.value == pytest.approx(score.auroc.value - found.blind.value)
    assert abs(score.above_blind.value) < 0.1
    assert score.above_blind.ci95.high - score.above_blind.ci95.low < 0.2


def test_texts_come_in_ascending_rows_and_go_to_the_classifier_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def classifier(train, control, *, groups, seed):
        seen.update(train=train, control=control, groups=groups)
        return np.arange(len(train)), np.arange(len(control)) + 0.5

    monkeypatch.setattr("ibft.findings.comparison.blind_values", classifier)
    rng = np.random.default_rng(7)
    train, control = columns(rng.normal(size=30)), columns(rng.normal(size=40))
    matches = match_by_length(train.num_tokens, control.num_tokens)
    asked = []

    def texts(subset, rows):
        asked.append(rows.tolist())
        return [f"{subset} {row}" for row in rows]

    compare_with_control(train, control, matches, texts)
    assert all(rows == sorted(rows) for rows in asked)
    assert matches.control.tolist() != sorted(matches.control)
    assert seen["train"] == [f"train {row}" for row in matches.train]
    assert seen["control"] == [f"control {row}" for row in matches.control]
    assert seen["groups"][1].tolist() == control.groups[matches.control].tolist()


def test_a_score_beats_the_blind_classifier_only_clearly() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    texts = {"train": code(rng, 100, "x", 0.5), "control": code(rng, 100, "x", 0.5)}

    def beats(shift: float) -> bool | None:
        train, control = columns(rng.normal(0, 1, 100)), columns(rng.normal(shift, 1, 100))
        found = compared(train, control, lambda subset, rows: [texts[subset][row] for row in rows])
        [score] = found.scores
        assert score.beats_blind == (score.above_blind.ci95.low > 0)
        return score.beats_blind

    assert beats(2.0)
    assert not beats(0.0)


def test_too_few_texts_give_no_blind_classifier() -> None:
    pytest.importorskip("sklearn")
    train = columns(np.arange(12.0), np.full(12, -1))
    control = columns(np.arange(12.0) + 3)
    found = compared(train, control, lambda subset, rows: ["x y z"] * len(rows))
    assert found.blind is None
    assert found.num_blind_pairs == 0
    # One file is one example: no interval can be given.
    assert found.scores == []
    assert found.num_groups["train"] == 1


def test_at_most_5000_pairs_are_read_for_the_blind_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr("ibft.findings.comparison.MAX_EXAMPLES", 50)
    rng = np.random.default_rng(4)
    train, control = columns(rng.normal(size=200)), columns(rng.normal(size=200))
    asked = {}

    def texts(subset, rows):
        asked[subset] = rows
        return [f"word{row}" for row in rows]

    found = compared(train, control, texts)
    assert found.num_blind_pairs == len(asked["train"]) == len(asked["control"]) == 50
    assert asked["train"].max() > 100
    assert found.num_pairs == found.scores[0].num_train == 200


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="column tags has 1 values for 2 examples"):
        made(np.ones(2, np.int64), single(2), tags=[()])
    with pytest.raises(ValueError, match="column mean_nll has 3"):
        made(np.ones(2, np.int64), single(2), {"mean_nll": np.ones(3)})


def test_no_score_beats_a_blind_classifier_that_is_worse_than_chance_by_being_no_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    worse = rng.normal(1, 1, 300), rng.normal(0, 1, 300)
    monkeypatch.setattr("ibft.findings.comparison.blind_values", lambda *_, **__: worse)
    alike = compared(columns(rng.normal(size=300)), columns(rng.normal(size=300)), lambda _, rows: ["x"] * len(rows))
    [score] = alike.scores
    assert alike.blind.value < 0.3
    assert score.above_blind.ci95.low > 0
    assert score.beats_blind is False
