"""Compression weights: by rank, mean 1, most predictable first; ties and missing scores."""

from __future__ import annotations

import random

import pytest

from ibft.errors import UserError
from ibft.objectives.adaptive import compression_weights


def test_most_predictable_is_compressed_most() -> None:
    scores = {"a": 0.1, "b": 2.0, "c": 0.5}
    assert compression_weights(scores, ["b", "a", "c"]) == [0.0, 2.0, 1.0]


def test_ties_share_their_mean_rank() -> None:
    scores = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 4.0}
    assert compression_weights(scores, list("abcd")) == pytest.approx([5 / 3, 5 / 3, 2 / 3, 0])


def test_mean_is_one_and_only_the_rank_counts() -> None:
    draw = random.Random(0)
    scores = {str(index): draw.choice([0.0, 0.5, draw.expovariate(1)]) for index in range(101)}
    weights = compression_weights(scores, list(scores))
    assert sum(weights) / len(weights) == pytest.approx(1)
    assert weights == pytest.approx(compression_weights({k: v**3 for k, v in scores.items()}, list(scores)))


def test_a_single_example_is_compressed_as_without_weights() -> None:
    assert compression_weights({"a": 3.0}, ["a"]) == [1.0]


@pytest.mark.parametrize("scores", [{"a": 1.0}, {"a": 1.0, "b": None}])
def test_an_example_without_score_is_refused(scores: dict[str, float | None]) -> None:
    with pytest.raises(UserError, match=r"1 of 2 training examples have no score \(the first: b\)"):
        compression_weights(scores, ["a", "b"])
