import math
import random

import pytest

import ibft
from ibft.memorization.findings import auroc, summarize
from ibft.memorization.scores import mean_nll, min_k_prob
from ibft.rows import Score


def test_min_k_prob_is_the_mean_of_the_least_likely_fifth() -> None:
    log_probs = [-0.1, -5.0, -0.2, -0.3, -3.0, -0.4, -0.5, -0.6, -0.7, -0.8]
    assert min_k_prob(log_probs) == pytest.approx(4.0)  # of 10 tokens the two least likely: -5 and -3
    assert min_k_prob(log_probs, 100) == pytest.approx(mean_nll(log_probs)) == pytest.approx(1.16)
    assert ibft.min_k_prob(log_probs, 10) == pytest.approx(5.0)


def test_short_examples_use_at_least_one_token_and_empty_ones_are_undefined() -> None:
    assert min_k_prob([-1.0, -2.0]) == 2.0
    assert math.isnan(min_k_prob([]))
    assert math.isnan(mean_nll([]))


@pytest.mark.parametrize("k_percent", [0, -1, 101])
def test_k_out_of_range_is_refused(k_percent: float) -> None:
    with pytest.raises(ValueError, match="k_percent"):
        min_k_prob([-1.0], k_percent)


def test_auroc_equals_counting_pairs() -> None:
    generator = random.Random(0)
    lower = [generator.randrange(10) for _ in range(40)]
    higher = [generator.randrange(3, 13) for _ in range(30)]
    pairs = [(a < b) + 0.5 * (a == b) for a in lower for b in higher]
    assert auroc(lower, higher) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc([], [1.0]) is None


def test_the_summary_counts_what_has_no_score() -> None:
    scores = [
        Score(id="a", subset="train", num_tokens=3, min_k_prob=1.0, mean_nll=0.5),
        Score(id="b", subset="train", num_tokens=0, reason="empty completion"),
        Score(id="c", subset="control", num_tokens=4, min_k_prob=2.0, mean_nll=1.5),
    ]
    summary = summarize(scores, 20, {"train": {"empty completion": 1}, "control": {}})
    assert (summary.subsets["train"].num_examples, summary.subsets["train"].num_scored) == (2, 1)
    assert summary.auroc_min_k_prob == 1.0
    assert summarize(scores[:2], 20, {}).auroc_mean_nll is None
