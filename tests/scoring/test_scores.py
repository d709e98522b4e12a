"""The scores against the papers' formulas written out; the match by its definition."""

import math
import random
import zlib

import numpy as np
import pytest

import ibft
from ibft.scoring.scores import (
    Match,
    against_base,
    exact_memorization,
    example_scores,
    extraction_strength,
    ez_mia,
    greedy_match,
    min_k,
    min_k_prob,
)

CHANCE = random.Random(0)
LOG_PROBS = np.array([-abs(CHANCE.gauss(0, 3)) for _ in range(37)])
Z = np.array([CHANCE.gauss(0, 1) for _ in range(37)])


def mean_of_lowest(values: np.ndarray, k: float) -> float:
    """Minus the mean over the K% least values (arXiv 2310.16789, equation 2; 2404.02936, equation 3), by a loop."""
    count = max(1, math.floor(len(values) * k / 100))
    return -math.fsum(sorted(values)[:count]) / count


def test_min_k_prob_is_the_mean_of_the_least_likely_fifth() -> None:
    log_probs = [-0.1, -5.0, -0.2, -0.3, -3.0, -0.4, -0.5, -0.6, -0.7, -0.8]
    assert min_k_prob(log_probs) == pytest.approx(4.0)  # of 10 tokens the two least likely: -5 and -3
    assert min_k_prob(log_probs, 100) == pytest.approx(1.16)
    assert ibft.min_k_prob(log_probs, 10) == pytest.approx(5.0)


def test_short_examples_use_at_least_one_token_and_empty_ones_are_undefined() -> None:
    assert min_k_prob([-1.0, -2.0]) == 2.0
    assert math.isnan(min_k_prob([]))


@pytest.mark.parametrize("k_percent", [0, -1, 101])
def test_k_out_of_range_is_refused(k_percent: float) -> None:
    with pytest.raises(ValueError, match="k_percent"):
        min_k_prob([-1.0], k_percent)


def test_every_k_equals_the_formula_and_order_does_not_matter() -> None:
    k_percents = [0.5, 2.5, 10, 20, 33, 50, 99, 100]
    expected = [mean_of_lowest(LOG_PROBS, k) for k in k_percents]
    assert min_k(LOG_PROBS, k_percents) == pytest.approx(expected, abs=1e-12)
    assert min_k(LOG_PROBS[::-1], k_percents) == pytest.approx(expected, abs=1e-12)


def test_all_scores_of_an_example() -> None:
    size = len(zlib.compress(b"text"))
    scores = example_scores(LOG_PROBS, Z, [20, 2.5], size, reference_nll=17.0)
    total = -math.fsum(LOG_PROBS)
    expected = {
        "mean_nll": total / 37,
        "zlib_ratio": total / 37 / size,
        "reference_ratio": total / 17,
        "min_k_prob_20": mean_of_lowest(LOG_PROBS, 20),
        "min_k_prob_2.5": mean_of_lowest(LOG_PROBS, 2.5),
        "min_k_plus_plus_20": mean_of_lowest(Z, 20),
        "min_k_plus_plus_2.5": mean_of_lowest(Z, 2.5),
    }
    assert scores == pytest.approx(expected, abs=1e-12)
    assert list(scores) == list(expected)
    assert "reference_ratio" not in example_scores(LOG_PROBS, Z, [20], size)


def test_lower_is_more_predictable_for_every_score() -> None:
    easy, hard = (example_scores(LOG_PROBS * scale, Z + shift, [20], 9, 17.0) for scale, shift in ((0.5, 1), (1, 0)))
    assert all(easy[name] < hard[name] for name in hard)


def test_what_is_undefined_has_no_value() -> None:
    nothing = np.empty(0)
    assert example_scores(nothing, nothing, [20], 9, 1.0) == {}
    certain = example_scores(np.zeros(3), np.zeros(3), [20], 9, reference_nll=0.0)
    assert "reference_ratio" not in certain
    impossible = example_scores(np.array([-1.0, -np.inf]), np.array([0.0, 1.0]), [50], 9)
    assert impossible == {"min_k_plus_plus_50": 0.0}


def match(top1: str, num_prefix: int = 2, num_suffix: int = 3) -> Match | None:
    is_top1 = np.array([letter == "y" for letter in top1])
    return greedy_match(-np.arange(1.0, len(top1) + 1), is_top1, num_prefix, num_suffix)


@pytest.mark.parametrize(
    ("top1", "expected"),
    [
        ("yyyyy", 3),
        ("nnyyy", 3),  # the prefix is given, whatever the model makes of it
        ("yynyy", 0),
        ("yyyyn", 2),
        ("yyynyyyy", 1),  # right again after an error: no longer the greedy continuation
        ("yyyyyyyn", 3),  # behind the suffix
    ],
)
def test_the_match_is_the_run_of_likeliest_tokens_behind_the_prefix(top1: str, expected: int) -> None:
    found = match(top1)
    assert found is not None
    assert (found.num_prefix_tokens, found.num_suffix_tokens, found.num_matched_tokens) == (2, 3, expected)
    assert found.suffix_log_prob == -3 - 4 - 5


def test_a_response_shorter_than_prefix_and_suffix_is_not_tried() -> None:
    assert match("yyyy") is None
    assert match("", 1, 1) is None


def released(log_probs: np.ndarray, base: np.ndarray, is_top1: np.ndarray) -> float:
    """P / N of arXiv 2601.12104 as its release has it (`error_zone_pos_neg_sum_ratio`), by loops."""
    positive = negative = 0.0
    for value, before, right in zip(log_probs, base, is_top1, strict=True):
        if not right and value > before:
            positive += value - before
        elif not right:
            negative += before - value
    return positive / (negative + 1e-12)


def test_ez_mia_orders_examples_as_the_release_does_with_the_sign_turned() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(200):
        log_probs, base = -rng.exponential(2, (2, 40))
        is_top1 = rng.random(40) < 0.4
        ours.append(ez_mia(log_probs, base, is_top1))
        theirs.append(released(log_probs, base, is_top1))
    assert 1 / np.array(ours) - 1 == pytest.approx(np.array(theirs), abs=1e-6)
    assert np.argsort(ours).tolist() == np.argsort(theirs)[::-1].tolist()


def test_ez_mia_looks_only_where_the_arm_is_wrong() -> None:
    base, is_top1 = np.array([-3.0, -3.0, -3.0, -3.0]), np.array([False, False, False, True])
    assert ez_mia(np.array([-1.0, -2.0, -4.0, -99.0]), base, is_top1) == pytest.approx(1 / 4)  # P = 3, N = 1
    # Everything went up: as sure as can be, and not the non-member of the release.
    assert ez_mia(np.array([-1.0, -2.0, -2.0, -99.0]), base, is_top1) == 0
    assert ez_mia(np.array([-4.0, -5.0, -6.0, -0.1]), base, is_top1) == 1


def test_ez_mia_is_undefined_where_there_is_no_error_zone() -> None:
    base = np.array([-3.0, -3.0])
    assert math.isnan(ez_mia(np.array([-1.0, -1.0]), base, np.array([False, True])))  # one wrong token
    assert math.isnan(ez_mia(base, base, np.array([False, False])))  # the base itself
    assert math.isnan(ez_mia(np.empty(0), np.empty(0), np.empty(0, bool)))


def test_scores_against_the_base() -> None:
    found = against_base(np.array([-1.0, -0.5]), np.array([-2.0, -1.0]), np.array([False, False]))
    assert found == {"base_ratio": 0.5, "ez_mia": 0.0}
    assert against_base(np.array([0.0]), np.array([0.0]), np.array([True])) == {}


def test_word_for_word_is_the_shortest_prefix_from_which_all_is_right() -> None:
    """By trying every prefix, as OpenUnlearning does."""
    rng = np.random.default_rng(1)
    for num in range(1, 30):
        is_top1 = rng.random(num) < 0.7
        shortest = next(k for k in range(num + 1) if is_top1[k:].all())
        assert extraction_strength(is_top1) == pytest.approx(1 - shortest / num)
        assert exact_memorization(is_top1) == pytest.approx(sum(is_top1) / num)
    assert extraction_strength(np.array([True, False])) == 0  # there 1/2: it never tries the whole
    assert extraction_strength(np.ones(3, bool)) == exact_memorization(np.ones(3, bool)) == 1
    assert math.isnan(extraction_strength(np.empty(0, bool)))
    assert math.isnan(exact_memorization(np.empty(0, bool)))
