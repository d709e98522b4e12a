"""Which tokens get which color."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ibft.artifacts.rows import ShownExample
from ibft.pages.heatmap import LEGEND, heatmap


def example(probabilities: list[float], **changes: Any) -> ShownExample:
    """One token of prompt and a token of response for each probability, none repeated."""
    values: dict[str, Any] = {
        "id": "a",
        "subset": "train",
        "score": 0.1,
        "file": None,
        "tokens": ["p", *(f"t{index}" for index in range(len(probabilities)))],
        "num_prompt_tokens": 1,
        "log_probs": [math.log(value) if value else -math.inf for value in probabilities],
        "matched": None,
    }
    return ShownExample(**values | changes)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0, "p0"), (0.09, "p0"), (0.11, "p1"), (0.49, "p1"), (0.51, "p2"), (0.89, "p2"), (0.95, "p3"), (0.995, "p4")],
)
def test_the_class_is_the_probability(probability: float, expected: str) -> None:
    assert heatmap(example([probability]), None).stretches[-1].classes == expected
    assert len(LEGEND) == 5


def test_a_log_probability_just_above_zero_or_missing_is_tolerated() -> None:
    assert heatmap(example([1], log_probs=[1e-3]), None).stretches[-1].classes == "p4"
    assert heatmap(example([1, 1], log_probs=[]), None).stretches[1:] == [("", "t0t1")]


def test_neighbors_of_one_look_are_one_stretch_and_the_text_is_whole() -> None:
    shown = heatmap(example([1, 1, 0.6, 1]), None)
    assert shown.stretches == [("prompt", "p"), ("p4", "t0t1"), ("p2", "t2"), ("p4", "t3")]
    assert (shown.num_hidden_before, shown.num_hidden_after) == (0, 0)


def test_the_repeated_stretch_begins_behind_the_prefix() -> None:
    repeated = example([1] * 5, matched=2)
    assert heatmap(repeated, 2).stretches == [
        ("prompt", "p"),
        ("p4", "t0t1"),
        ("p4 matched", "t2t3"),
        ("p4", "t4"),
    ]
    assert not any("matched" in classes for classes, _ in heatmap(repeated, None).stretches)
    assert not any("matched" in classes for classes, _ in heatmap(example([1] * 5), 2).stretches)


def test_long_examples_and_huge_tokens_are_cut_and_counted() -> None:
    tokens = [f"[{index}]" for index in range(1000)]
    shown = heatmap(example([1] * 700, tokens=tokens, num_prompt_tokens=300), None)
    assert (shown.num_hidden_before, shown.num_hidden_after) == (180, 100)
    assert "".join(text for _, text in shown.stretches) == "".join(tokens[180:900])
    [huge] = heatmap(example([1], tokens=["x" * 10_000], num_prompt_tokens=0), None).stretches
    assert len(huge.text) < 200
    assert "+9,880 characters" in huge.text
