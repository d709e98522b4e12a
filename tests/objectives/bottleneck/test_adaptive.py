"""Compression weights: by rank, mean 1, most predictable first; ties and missing scores."""

from __future__ import annotations

import random

import pytest

from ibft.objectives.bottleneck.adaptive import compression_weights


def test_most_predictable_is_compressed_most() -> None:
    assert compression_weights([2.0, 0.1, 0.5]) == [0.0, 2.0, 1.0]


def test_ties_share_their_mean_rank() -> None:
    assert compression_weights([1.0, 1.0, 3.0, 4.0]) == pytest.approx([5 / 3, 5 / 3, 2 / 3, 0])


def test_mean_is_one_and_only_the_rank_counts() -> None:
    draw = random.Random(0)
    scores = [draw.choice([0.0, 0.5, draw.expovariate(1)]) for _ in range(101)]
    weights = compression_weights(scores)
    assert sum(weights) / len(weights) == pytest.approx(1)
    assert weights == pytest.approx(compression_weights([score**3 for score in scores]))


def test_an_example_without_score_weighs_as_without_weights() -> None:
    assert compression_weights([1.0, None, 2.0, 3.0]) == [2.0, 1.0, 1.0, 0.0]
    assert compression_weights([None, None]) == [1.0, 1.0]


def test_a_single_example_is_compressed_as_without_weights() -> None:
    assert compression_weights([3.0]) == [1.0]
    assert compression_weights([None, 3.0]) == [1.0, 1.0]
