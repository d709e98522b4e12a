import itertools
import math

import msgspec
import numpy as np
import pytest

from ibft.artifacts.scan import ScanSummary
from ibft.errors import UserError
from ibft.findings.columns import Columns
from ibft.findings.summary import summarize

SCORE = "min_k_prob_20"


NUMBERS = itertools.count()


def columns(values: np.ndarray, num_tokens: np.ndarray | None = None, **others: object) -> Columns:
    """Every example is a group of its own, unless `groups` says otherwise."""
    num = len(values)
    lengths = np.full(num, 30) if num_tokens is None else num_tokens
    zeros = np.zeros(num, np.int64)
    given = {"groups": single(num), "scores": {SCORE: values, "mean_nll": values / 2}}
    given |= {"num_prefix_tokens": zeros, "num_suffix_tokens": zeros, "num_matched_tokens": zeros}
    given |= {
        "suffix_log_prob": np.full(num, np.nan),
        "files": [None] * num,
        "tags": [()] * num,
        "codes": single(num) + 10**9,
    }
    return Columns(lengths, **given | others)


def single(num: int) -> np.ndarray:
    """Codes that no other call gives."""
    return np.fromiter(itertools.islice(NUMBERS, num), np.int64)


def texts(subset: str, rows: np.ndarray) -> list[str]:
    """The same for both subsets, so that nothing can be told from them."""
    return [f"a{row % 7} b{row % 3}" for row in rows]


def memorized(num: int, share: float, **others: object) -> Columns:
    """Training data like the control set, but for the first `share` of it, which is far more predictable."""
    values = np.random.default_rng(0).normal(10, 1, num)
    values[: int(num * share)] -= 8
    return columns(values, **others)


CONTROL = columns(np.random.default_rng(1).normal(10, 1, 500))


def test_memorized_examples_are_found_and_what_they_share() -> None:
    pytest.importorskip("sklearn")
    files = [f"lib/seen/{i % 30}.py" if i < 100 else f"lib/other{i % 9}/{i}.py" for i in range(600)]
    copies = np.array([i - 1 if i < 30 and i % 2 else i for i in range(600)])
    groups = np.unique(files, return_inverse=True)[1] + 10**6
    train = memorized(600, 0.3, files=files, tags=[["x"]] * 600, codes=copies, groups=groups)
    summary = summarize(train, CONTROL, score=SCORE, texts=texts, seed=1)
    assert summary.verdict.barrier == "yes"
    assert summary.verdict.advice == "ib"
    assert summary.barrier.share == pytest.approx(0.3 + 0.7 * 0.05, abs=0.03)
    assert summary.barrier.ci95.low < summary.barrier.share < summary.barrier.ci95.high
    assert summary.barrier.num_examples == 500
    assert summary.barrier.num_train == 600
    assert 180 <= summary.barrier.num_train_memorized <= 225
    assert summary.comparison.num_unmatched == {"train": 100, "control": 0}
    traits = {(one.kind, one.name): one for one in summary.barrier.traits}
    assert traits["file", "lib/seen/"].num_memorized == 100
    # Copies and what they are copies of.
    assert traits["duplicates", "has a duplicate in the data"].num_examples == 30
    assert ("tag", "x") not in traits


def test_sets_that_do_not_differ() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(2)
    train, control = columns(rng.normal(size=6_000)), columns(rng.normal(size=6_000))
    summary = summarize(train, control, score=SCORE, texts=texts)
    assert (summary.verdict.barrier, summary.verdict.advice) == ("no", "nothing")
    assert summary.comparison.scores[0].auroc.value == pytest.approx(0.5, abs=0.02)


def test_short_training_data_is_compared_with_short_control_data() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 60, 3_000), rng.integers(40, 200, 3_000)
    # Predictable is what is short, in both sets alike.
    train, control = (columns(np.log(own) + rng.normal(0, 0.1, 3_000), own) for own in lengths)
    summary = summarize(train, control, score=SCORE)
    found = summary.comparison.scores[0].auroc
    assert found.value == pytest.approx(0.5, abs=0.03)
    assert summary.comparison.length.value == pytest.approx(0.5, abs=0.02)
    assert summary.barrier.share < 0.09
    assert summary.comparison.num_unmatched["train"] > 1_500


def test_without_a_control_set() -> None:
    summary = summarize(memorized(50, 0.5), score=SCORE, region="all", skipped={"train": {"too long": 3}})
    assert summary.comparison is summary.barrier is None
    assert summary.verdict.advice == "control"
    assert summary.region == "all"
    assert summary.subsets["train"].num_examples == 53
    assert list(summary.subsets) == ["train"]


def test_subsets_count_what_has_no_score() -> None:
    values = np.array([1.0, math.nan, 3.0])
    scores = {SCORE: values, "mean_nll": np.array([0.5, 0.7, 9.0]), "none": np.full(3, math.nan)}
    train = columns(values, np.array([3, 4, 5]), scores=scores)
    control = columns(np.array([2.0]))
    summary = summarize(train, control, score=SCORE, skipped={"train": {"empty completion": 1}, "control": {}})
    own = summary.subsets["train"]
    assert (own.num_examples, own.num_scored, own.num_tokens) == (4, 2, 12)
    assert own.medians == {SCORE: 2.0, "mean_nll": 0.7}
    assert summary.skipped == {"train": {"empty completion": 1}, "control": {}}
    assert summary.verdict.barrier == "unclear"


def test_examples_without_the_headline_score_are_not_matched() -> None:
    num = 400
    lengths = np.arange(num) % 40 + 1
    values = np.where(lengths <= 20, np.nan, lengths + np.random.default_rng(5).normal(0, 0.1, num))
    other = np.where(lengths > 30, np.nan, values)
    summary = summarize(columns(values, lengths), columns(other, lengths), score=SCORE)
    # Those of 21 to 30 tokens.
    assert summary.comparison.num_pairs == 100
    assert summary.comparison.num_unmatched == {"train": 100, "control": 0}
    assert summary.comparison.scores[0].num_train == summary.comparison.scores[0].num_control == 100
    assert summary.barrier.num_train == 200


def test_extraction_of_both_subsets() -> None:
    num = 60

    def with_extraction(num_extracted: int) -> Columns:
        return columns(
            np.random.default_rng(4).normal(size=num),
            num_prefix_tokens=np.full(num, 20),
            num_suffix_tokens=np.full(num, 10),
            num_matched_tokens=np.where(np.arange(num) < num_extracted, 10, 1),
        )

    summary = summarize(with_extraction(30), with_extraction(1), score=SCORE)
    assert summary.extraction["train"].share == 0.5
    assert summary.extraction["control"].num_extracted == 1
    assert any("knows by heart" in one for one in summary.verdict.sentences)
    assert summarize(memorized(60, 0.1), with_extraction(1), score=SCORE).extraction.keys() == {"control"}


@pytest.mark.parametrize("num", [0, 1, 2])
def test_hardly_any_examples(num: int) -> None:
    few = columns(np.ones(num))
    for train, control in ((few, CONTROL), (memorized(500, 0.1), few), (few, few)):
        summary = summarize(train, control, score=SCORE, texts=texts)
        assert (summary.verdict.barrier, summary.verdict.advice) == ("unclear", "control")
        assert msgspec.json.decode(msgspec.json.encode(summary), type=ScanSummary) == summary


def test_all_scores_equal() -> None:
    pytest.importorskip("sklearn")
    summary = summarize(columns(np.ones(200)), columns(np.ones(200)), score=SCORE, texts=texts)
    assert summary.barrier.share == 0
    assert summary.verdict.barrier == "no"
    assert summary.comparison.scores[0].auroc.value == 0.5


def test_the_same_seed_gives_the_same_summary_and_it_is_valid_json() -> None:
    pytest.importorskip("sklearn")
    train = memorized(300, 0.2)
    first, again, other = (summarize(train, CONTROL, score=SCORE, texts=texts, seed=seed) for seed in (5, 5, 6))
    encoded = msgspec.json.encode(first)
    assert encoded == msgspec.json.encode(again) != msgspec.json.encode(other)
    assert b"null" not in encoded.replace(b'"recall":null', b"")  # it was not asked
    assert msgspec.json.decode(encoded, type=ScanSummary) == first


def test_an_unknown_headline_score_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"min_k_prob_20, mean_nll"):
        summarize(CONTROL, CONTROL, score="zlib")


def test_code_in_both_sets_is_left_out_of_both_and_of_the_training_data_alone_where_dates_vouch() -> None:
    train = memorized(600, 0.3, codes=np.arange(600))
    values = np.random.default_rng(1).normal(10, 1, 500)
    overlapping = columns(values, codes=np.arange(500, 1000))
    both = summarize(train, overlapping, score=SCORE, texts=texts)
    assert both.num_in_both == {"train": 100, "control": 100}
    assert both.comparison.num_pairs == 400
    assert both.verdict.sentences[-1].startswith("Left out: 100 training and 100 control examples")
    dated = summarize(train, overlapping, score=SCORE, texts=texts, is_dated=True)
    assert dated.num_in_both == {"train": 100, "control": 0}
    assert dated.comparison.num_pairs == 500
    same = summarize(train, columns(train.scores[SCORE], codes=np.arange(600)), score=SCORE, texts=texts)
    assert same.comparison is None
    assert same.num_in_both == {"train": 600, "control": 600}
    assert "all of the control set is in the training data" in same.verdict.headline


def test_tags_that_whole_files_carry_are_not_told_because_memorized_examples_crowd_in_few_files() -> None:
    rng = np.random.default_rng(3)
    told = 0
    for _ in range(40):
        files = np.repeat(np.arange(40), 25)
        values = rng.normal(10, 1, 40)[files] + rng.normal(0, 1, 1000)
        tags = [(f"tag{file % 4}",) for file in rng.permutation(40)[files]]
        summary = summarize(columns(values, groups=files, tags=tags), CONTROL, score=SCORE)
        told += any(one.kind == "tag" for one in summary.barrier.traits)
    assert told <= 4


def test_the_fifth_percentile_needs_nineteen_control_examples() -> None:
    train = memorized(500, 0.3)
    assert summarize(train, columns(CONTROL.scores[SCORE][:18]), score=SCORE).barrier is None
    assert summarize(train, columns(CONTROL.scores[SCORE][:19]), score=SCORE).barrier is not None
