import numpy as np
import pytest

from ibft.findings.columns import Columns
from ibft.findings.extraction import count_extracted
from ibft.statistics.uncertainty import wilson_interval


def columns(
    matched: list[int], suffix: list[int], log_probs: list[float] | None = None, *, per_group: int = 1
) -> Columns:
    num = len(matched)
    return Columns(
        np.full(num, 100),
        np.arange(num) // per_group,
        {},
        num_prefix_tokens=np.where(np.array(suffix) > 0, 50, 0),
        num_suffix_tokens=np.array(suffix),
        num_matched_tokens=np.array(matched),
        suffix_log_prob=np.full(num, np.nan) if log_probs is None else np.array(log_probs),
        files=[None] * num,
        tags=[()] * num,
        codes=np.arange(num),
    )


def test_extracted_are_those_whose_whole_suffix_is_matched() -> None:
    found = count_extracted(columns([50, 49, 0, 50, 10, 0], [50, 50, 50, 50, 50, 0]))
    assert (found.num_examples, found.num_extracted, found.num_too_short) == (5, 2, 1)
    assert found.share == 0.4
    assert tuple(found.ci95) == pytest.approx(wilson_interval(2, 5))
    assert found.median_matched == 49
    assert (found.prefix_tokens, found.suffix_tokens) == (50, 50)
    assert found.within == []


def test_samples_needed_follow_from_the_suffixes_probabilities() -> None:
    log_probs = [0.0, np.log(0.1), np.log(1e-9), np.nan]
    found = count_extracted(columns([50, 0, 0, 0], [50] * 4, log_probs))
    expected = [(n, (1 + (1 - 0.9**n) + n * 1e-9) / 3) for n in (1, 10, 100, 1000)]
    assert [n for n, _ in found.within] == [1, 10, 100, 1000]
    assert [share for _, share in found.within] == pytest.approx([share for _, share in expected], rel=1e-6)
    tiny = count_extracted(columns([0], [50], [np.log(1e-30)]))
    assert tiny.within[3][1] == pytest.approx(1e-27)
    impossible = count_extracted(columns([0], [50], [-np.inf]))
    assert impossible.within[3] == (1000, 0.0)


def test_files_that_are_extracted_as_a_whole_widen_the_interval() -> None:
    matched = [50] * 20 + [0] * 80
    alone = count_extracted(columns(matched, [50] * 100)).ci95
    grouped = count_extracted(columns(matched, [50] * 100, per_group=10)).ci95
    assert grouped.low < alone.low < 0.2 < alone.high < grouped.high


def test_nothing_to_extract() -> None:
    assert count_extracted(columns([0, 0], [0, 0])) is None
    assert count_extracted(columns([], [])) is None


def test_none_or_one_extracted_is_as_sure_as_files_allow() -> None:
    nearly = np.repeat(np.arange(50) % 5 == 0, 10)  # whole files are nearly written
    ends = []
    for num_extracted in (0, 1):
        matched = np.where(nearly, 40, 0)
        matched[:num_extracted] = 50
        ends.append(count_extracted(columns(matched.tolist(), [50] * 500, per_group=10)).ci95.high)
    assert ends[0] < ends[1] < 2 * ends[0]
    assert ends[0] > 0.03
