"""Trained examples against others, under a base and under arms, with numbers whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ibft.findings.columns import Columns
from ibft.findings.membership import Scored, differences, membership, word_for_word
from ibft.statistics.uncertainty import auroc, delong_interval


def columns(start: int, **scores: np.ndarray) -> Columns:
    num = len(next(iter(scores.values())))
    zeros = np.zeros(num, np.int32)
    return Columns(
        num_tokens=zeros + 30,
        groups=np.arange(start, start + num) // 2,  # two of each file
        scores=scores,
        num_prefix_tokens=zeros,
        num_suffix_tokens=zeros,
        num_matched_tokens=zeros,
        suffix_log_prob=np.full(num, np.nan),
        files=[None] * num,
        tags=[()] * num,
        codes=np.arange(start, start + num),
    )


def sides(shift: float, *, num: int = 200, seed: int = 0, ez: float | None = None) -> Scored:
    """Trained examples that score lower by `shift` standard deviations; EZ-MIA's are lower by `ez`."""
    rng = np.random.default_rng(seed)

    def one(start: int, lower: float, of_ez: float) -> Columns:
        scores: dict[str, Any] = {"mean_nll": rng.normal(-lower, 1, num)}
        if ez is not None:
            scores["ez_mia"] = rng.normal(-of_ez, 1, num)
        return columns(start, **scores)

    return Scored(one(0, shift, ez or 0), one(10_000, 0, 0))


def test_every_score_before_and_after() -> None:
    before, after = sides(0), sides(1, seed=1, ez=2)
    found = membership(before, after, "mean_nll")
    assert found is not None
    assert (found.num_pairs, found.num_groups) == (200, {"train": 100, "control": 100})
    nll, ez = found.scores
    values = [side.scores["mean_nll"] for side in after]
    codes = (after.trained.groups, after.others.groups)
    # Matching by length reorders the pairs of equal length, and takes all of them.
    assert nll.auroc.value == pytest.approx(auroc(*values))
    assert nll.auroc.ci95 == pytest.approx(delong_interval(*values, codes))
    assert nll.before is not None
    assert nll.rise is not None
    assert nll.before.value == pytest.approx(auroc(*(side.scores["mean_nll"] for side in before)))
    assert nll.rise.value == pytest.approx(nll.auroc.value - nll.before.value)
    assert nll.rise.ci95.low > 0
    assert (ez.name, ez.before, ez.rise) == ("ez_mia", None, None)
    assert ez.auroc.value > nll.auroc.value
    threshold = np.quantile(after.others.scores["ez_mia"], 0.01, method="weibull")
    assert ez.true_positives.value == (after.trained.scores["ez_mia"] < threshold).mean()
    low, high = ez.true_positives.ci95
    assert low < ez.true_positives.value < high


def test_a_missing_value_leaves_a_row_out_of_that_score_alone() -> None:
    after = sides(1, ez=1)
    after.trained.scores["ez_mia"][:30] = np.nan
    found = membership(sides(0), after, "mean_nll")
    assert found is not None
    nll, ez = found.scores
    assert (nll.num_trained, nll.num_others, ez.num_trained, ez.num_others) == (200, 200, 170, 200)


def test_few_others_have_no_first_percentile() -> None:
    found = membership(sides(0, num=98), sides(1, num=98), "mean_nll")
    assert found is not None
    [nll] = found.scores
    assert np.isnan(nll.true_positives.value)
    assert nll.true_positives.reason.endswith("there are 98")
    assert nll.auroc.value > 0.5


def test_the_lowest_value_of_all_is_no_threshold() -> None:
    after = sides(1, ez=1)
    for side in after:
        side.scores["ez_mia"][:20] = -9
    found = membership(sides(0), after, "mean_nll")
    assert found is not None
    true_positives = found.scores[1].true_positives
    assert true_positives.value == 0
    assert true_positives.reason.startswith("10.0% of the examples that were not trained on have the lowest value")


def test_one_lowest_value_is_a_threshold() -> None:
    after = sides(0, num=99)
    after.others.scores["mean_nll"][7] = -9
    found = membership(sides(0, num=99), after, "mean_nll")
    assert found is not None
    true_positives = found.scores[0].true_positives
    assert (true_positives.value, true_positives.reason) == (0, "")
    # It is none where two of a hundred have it.
    after.others.scores["mean_nll"][8] = -9
    found = membership(sides(0, num=99), after, "mean_nll")
    assert found is not None
    assert found.scores[0].true_positives.reason.startswith("2.0% of the examples")


def test_no_two_of_similar_length() -> None:
    after = sides(1)
    after.others.num_tokens[:] = 90
    assert membership(sides(0), after, "mean_nll") is None


def test_an_arm_that_memorized_less_is_below_the_reference() -> None:
    ft, ib = sides(1, ez=2), sides(1, ez=1, seed=1)
    [nll, ez] = differences("ib", ib, ft, "mean_nll")
    assert (ez.arm, ez.name, ez.num_trained, ez.num_others) == ("ib", "ez_mia", 200, 200)
    expected = [auroc(*(side.scores["ez_mia"] for side in scored)) for scored in (ib, ft)]
    assert ez.difference.value == pytest.approx(expected[0] - expected[1])
    assert ez.difference.ci95.high < 0
    assert nll.difference.ci95.low < 0 < nll.difference.ci95.high


def test_word_for_word_before_and_after() -> None:
    names = ("extraction_strength", "exact_memorization")
    before = dict(zip(names, (np.array([0.0, 0.5, 0.1, 0.2]), np.full(4, 0.5)), strict=True))
    after = dict(zip(names, (np.array([0.5, 0.5, 0.3, 0.3]), np.full(4, 0.5)), strict=True))
    found = word_for_word(before, after, np.arange(4))
    assert found.num_examples == 4
    assert (found.extraction_strength.before, found.extraction_strength.after) == pytest.approx((0.2, 0.4))
    assert found.extraction_strength.difference == pytest.approx(0.2)
    low, high = found.extraction_strength.ci95
    assert low < 0.2 < high
    # Four equal examples do not make a certainty.
    assert found.exact_memorization.ci95.low < -0.3
    assert np.isnan(word_for_word(before, after, np.zeros(4, int)).extraction_strength.ci95.low)  # one file
