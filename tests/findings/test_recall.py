"""What the shares say: means with intervals, which segment is a shortcut, and in which words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ibft.artifacts.recall import RecallRow
from ibft.findings.recall import MIN_EXAMPLES, RecalledRows, summarize_recall
from ibft.scoring.recall import SILENT, recalled_shares
from ibft.statistics.ratios import Ratio, ratio_difference, ratio_interval


def row(name: str, alone: dict[str, float], told: float = 20.0) -> RecallRow:
    """A row whose prompt tells so many nats, of which each segment alone tells a share, of any size."""
    nats = {kind: 30.0 - share * told for kind, share in alone.items()}
    shares = recalled_shares(30.0 - told, 30.0, nats)
    return RecallRow(
        id=name,
        subset="train",
        index=0,
        shares=shares or {},
        reason=None if shares else SILENT,
        nll_own=30.0 - told,
        nll_foreign=30.0,
        nll_alone=nats,
    )


def rows(
    shares: list[dict[str, float]], groups: list[int] | None = None, reasons: list[str] | None = None
) -> RecalledRows:
    told = [row(f"r{n}", own) for n, own in enumerate(shares)]
    untold = [RecallRow(id="u", subset="train", index=-1, reason=reason) for reason in reasons or []]
    codes = [*(groups or range(len(told))), *range(1_000, 1_000 + len(untold))]
    return RecalledRows([*told, *untold], np.array(codes, np.int64))


def drawn(mean: float, num: int, seed: int, kinds: tuple[str, ...] = ("name",)) -> list[dict[str, float]]:
    """Shares as they are in real data: many 0, some near 1."""
    rng = np.random.default_rng(seed)
    return [
        {kind: float(value) for kind, value in zip(kinds, of, strict=True)}
        for of in rng.beta(mean, 1 - mean, (num, len(kinds)))
    ]


def test_an_active_shortcut() -> None:
    train, control = rows(drawn(0.9, 100, 0)), rows(drawn(0.1, 100, 1), [n + 500 for n in range(100)])
    summary = summarize_recall(train, control)
    [name] = summary.segments
    assert name.is_shortcut is True
    assert name.train.mean == pytest.approx(np.mean([row.shares["name"] for row in train.rows]))
    assert name.difference == pytest.approx(name.train.mean - name.control.mean)
    assert name.difference_ci95.low < name.difference < name.difference_ci95.high
    assert name.train.share_half == pytest.approx(np.mean([row.shares["name"] >= 0.5 for row in train.rows]))
    assert (name.train.num_examples, name.train.num_groups) == (100, 100)
    assert summary.headline == "Yes: an active shortcut on the name."
    assert any("exchanging the name for foreign text" in sentence for sentence in summary.sentences)


def test_no_active_shortcut_is_said_with_its_figures() -> None:
    train, control = rows([{"name": 0.23}] * 60), rows([{"name": 0.25}] * 60, [n + 500 for n in range(60)])
    summary = summarize_recall(train, control)
    assert summary.headline == "No active shortcut on the name."
    first = summary.sentences[0]
    assert first.startswith("The name alone recovers 0.23 (0.17 to 0.29) of the answer in the training data and 0.25 (")
    assert first.endswith("no active shortcut on the name.")
    assert "-0.02 (" in first
    assert any("no cue in the name for a bottleneck to compress" in sentence for sentence in summary.sentences)
    assert any("a dormant memory" in sentence for sentence in summary.sentences)


def test_a_difference_must_be_large_and_beyond_its_interval() -> None:
    apart = [n + 500 for n in range(100)]
    small = summarize_recall(rows([{"name": 0.4}] * 100), rows([{"name": 0.25}] * 100, apart))
    assert small.segments[0].difference_ci95.low > 0
    assert small.segments[0].is_shortcut is False
    assert small.sentences[1] == "Above the control set for sure, but by too little to count: name +0.15."
    # Large, but from 12 files that differ.
    files = [n % 12 for n in range(96)]
    noisy = [{"name": float(file in (0, 1, 2))} for file in files]
    wide = summarize_recall(rows(noisy, files), rows([{"name": 0.0}] * 96, [n + 500 for n in range(96)]))
    assert wide.segments[0].difference >= 0.2
    assert wide.segments[0].difference_ci95.low < 0
    # Nothing shows that there is none, either.
    assert wide.segments[0].is_shortcut is None
    assert wide.headline.startswith("Unclear: ")
    assert wide.sentences[0].endswith(": unclear.")
    assert not any("no cue" in sentence for sentence in wide.sentences)


def test_what_may_be_a_shortcut_is_not_called_none() -> None:
    apart = [n + 500 for n in range(40)]
    both = [{"name": 0.2, "docstring": float(n % 2)} for n in range(40)]
    fewer = [{"name": 0.2, "docstring": float(n % 3 == 0)} for n in range(40)]
    summary = summarize_recall(rows(both), rows(fewer, apart))
    name, docstring = summary.segments
    assert (name.is_shortcut, docstring.is_shortcut) == (False, None)
    assert docstring.difference < 0.2 < docstring.difference_ci95.high
    assert summary.headline == "No active shortcut on the name."
    [unclear] = [sentence for sentence in summary.sentences if sentence.startswith("Unclear")]
    assert f"docstring {docstring.difference:+.2f} (" in unclear
    assert "name" not in unclear


def test_too_few_examples_or_files_say_nothing() -> None:
    few = summarize_recall(rows([{"name": 1.0}] * (MIN_EXAMPLES - 1)), rows([{"name": 0.0}] * 60))
    assert few.segments[0].is_shortcut is None
    assert few.headline.startswith("Unclear: too few")
    files = [n % 9 for n in range(60)]
    grouped = summarize_recall(rows([{"name": 1.0}] * 60, files), rows([{"name": 0.0}] * 60))
    assert grouped.segments[0].is_shortcut is None


def test_what_has_no_share_is_counted_and_in_no_mean() -> None:
    train = rows([{"name": 0.5, "docstring": 1.0}, {"name": 0.7}], reasons=["silent", "silent", "long"])
    summary = summarize_recall(train)
    assert (summary.num_examples, summary.num_measured) == ({"train": 5}, {"train": 2})
    assert summary.undefined == {"train": {"silent": 2, "long": 1}}
    name, docstring = summary.segments
    assert (name.train.mean, docstring.train.mean) == (pytest.approx(0.6), 1.0)
    assert (docstring.train.num_examples, docstring.control) == (1, None)
    assert math.isnan(docstring.train.ci95.low)
    assert summary.headline.startswith("Unclear: there is no control set")
    assert (
        summary.sentences[-1]
        == "Without a share, and in no mean: 2 training examples (silent); 1 training examples (long)."
    )
    nothing = summarize_recall(rows([], reasons=["silent"]))
    assert nothing.segments == []
    assert nothing.headline.startswith("Not measured")


def test_kinds_are_in_the_order_of_a_prompt() -> None:
    kinds = ("comment", "later sentences", "sentence 2", "sentence 1", "docstring", "signature", "name", "label")
    summary = summarize_recall(rows([dict.fromkeys(kinds, 0.5)]))
    shown = [segment.kind for segment in summary.segments]
    assert shown == [
        "name",
        "signature",
        "docstring",
        "label",
        "sentence 1",
        "sentence 2",
        "later sentences",
        "comment",
    ]


def test_many_looks_find_no_shortcut_by_chance() -> None:
    kinds = tuple("abcdefgh")
    found = 0
    for seed in range(200):
        sets = [rows(drawn(0.3, 50, 2 * seed + side, kinds), [1_000 * side + n for n in range(50)]) for side in (0, 1)]
        found += any(segment.is_shortcut for segment in summarize_recall(*sets).segments)
    assert found <= 2  # of 1,600 segments


def test_a_true_shortcut_is_hardly_ever_called_none() -> None:
    absent = 0
    for seed in range(300):  # of few examples, by a difference that is just large enough
        sets = [rows(drawn(mean, 30, 2 * seed + side)) for side, mean in enumerate((0.4, 0.2))]
        apart = RecalledRows(sets[1].rows, sets[1].groups + 500)
        absent += summarize_recall(sets[0], apart).segments[0].is_shortcut is False
    assert absent <= 0.05 * 300


def test_a_segment_that_tells_nothing_has_a_share_of_0() -> None:
    # What it is worth alone is noise, and half of it is below 0, where T of one example ends.
    rng = np.random.default_rng(0)
    noise = [{"name": float(value)} for value in rng.normal(0, 0.1, 400)]
    [name] = summarize_recall(rows(noise)).segments
    assert np.mean([row.shares["name"] for row in rows(noise).rows]) > 0.03
    assert abs(name.train.mean) < 0.01
    assert name.train.ci95.low < 0 < name.train.ci95.high


def test_a_share_is_of_the_nats_of_all_prompts() -> None:
    told = [row("a", {"name": 1.0}, told=30.0), row("b", {"name": -0.5}, told=10.0)]
    [name] = summarize_recall(RecalledRows(told, np.array([0, 1]))).segments
    assert name.train.mean == pytest.approx((30 - 5) / 40)
    assert name.train.share_half == 0.5


def test_examples_are_not_chosen_by_what_their_prompts_tell() -> None:
    # Which foreign name stands there is worth 5 nats more or less, and the own name tells nothing: where a prompt
    # seems to tell much, it is often that the foreign name misled.
    rng = np.random.default_rng(0)
    told = []
    for number in range(400):
        misled, other = rng.normal(0, 5, 2)
        nll_own, nll_foreign, alone = 10.0, 12.0 + misled, 12.0 + other
        shares = recalled_shares(nll_own, nll_foreign, {"name": alone})
        told.append(
            RecallRow(
                id=f"r{number}",
                subset="train",
                index=number,
                shares=shares or {},
                nll_own=nll_own,
                nll_foreign=nll_foreign,
                nll_alone={"name": alone},
                reason=None if shares else SILENT,
            )
        )
    summary = summarize_recall(RecalledRows(told, np.arange(400)))
    [name] = summary.segments
    assert name.train.ci95.low < 0 < name.train.ci95.high
    assert summary.undefined == {"train": {}}
    chosen = [row for row in told if row.shares]
    assert len(chosen) < 300
    assert summarize_recall(RecalledRows(chosen, np.arange(len(chosen)))).segments[0].train.ci95.low > 0.2


def test_prompts_that_tell_nothing_have_no_share() -> None:
    silent = [row(f"r{n}", {"name": 0.9}, told=0.5) for n in range(60)]
    summary = summarize_recall(
        RecalledRows(silent, np.arange(60)), rows([{"name": 0.1}] * 60, [n + 500 for n in range(60)])
    )
    [name] = summary.segments
    assert (name.train, name.is_shortcut) == (None, None)
    assert name.control is not None
    assert summary.headline.startswith("Unclear: ")


def test_prompts_that_may_tell_nothing_decide_nothing() -> None:
    rng = np.random.default_rng(4)
    nats = rng.normal(0, 7, 40)
    nats += 1.5 - nats.mean()  # more than 1 on average, by a standard error of more than 1
    noisy = [row(f"r{n}", {"name": 1.0}, told=float(told)) for n, told in enumerate(nats)]
    summary = summarize_recall(
        RecalledRows(noisy, np.arange(40)), rows([{"name": 0.0}] * 60, [n + 500 for n in range(60)])
    )
    [name] = summary.segments
    assert name.difference >= 0.2
    assert name.is_shortcut is None


def counted(numerators: object, denominators: object, groups: object) -> Ratio:
    return Ratio(np.array(numerators, float), np.array(denominators, float), np.array(groups, np.int64))


def test_intervals_hold_the_truth_with_files() -> None:
    rng = np.random.default_rng(0)
    held = differs = 0
    for _ in range(400):
        samples = []
        for side in range(2):
            files = rng.integers(0, 15, 90)
            levels = rng.beta(2, 4, 200)
            shares = rng.beta(6 * levels[files], 6 * (1 - levels[files]))
            told = rng.lognormal(2, 0.5, 90)  # some prompts tell much more than others
            samples.append(counted(shares * told, told, files + 100 * side))
        low, high = ratio_interval(samples[0])
        held += low <= 1 / 3 <= high
        low, high = ratio_difference(*samples).interval
        differs += low <= 0 <= high
    assert held >= 0.92 * 400
    assert differs >= 0.92 * 400


def test_intervals_against_the_textbook() -> None:
    from scipy import stats

    values = np.random.default_rng(1).random(50)
    others = np.random.default_rng(2).random(40)
    mean, other = counted(values, np.ones(50), range(50)), counted(others, np.ones(40), range(100, 140))
    assert ratio_interval(mean) == pytest.approx(stats.t.interval(0.95, 49, values.mean(), stats.sem(values)))
    difference = ratio_difference(mean, other)
    reach = stats.t.ppf(0.975, 39) * math.hypot(stats.sem(values), stats.sem(others))
    assert difference.value == pytest.approx(values.mean() - others.mean())
    assert difference.interval == pytest.approx((difference.value - reach, difference.value + reach))
    # Without variance, as Wilson of a share of 0.
    assert ratio_interval(counted([0.0] * 20, [1.0] * 20, range(20))) == pytest.approx((-0.161, 0.161), abs=1e-3)
    assert math.isnan(ratio_interval(counted([0.5, 0.6], [1, 1], [1, 1])).low)
    assert math.isnan(ratio_interval(counted([], [], [])).low)
    assert math.isnan(ratio_difference(counted([], [], []), counted([0.5], [1.0], [1])).value)


def test_a_ratio_against_its_jackknife() -> None:
    rng = np.random.default_rng(3)
    denominators = rng.lognormal(0, 1, 60)
    numerators = denominators * rng.random(60)
    ratio = counted(numerators, denominators, range(60))
    without = [(numerators.sum() - numerators[n]) / (denominators.sum() - denominators[n]) for n in range(60)]
    jackknife = math.sqrt(59 * np.var(without))
    low, high = ratio_interval(ratio)
    assert (low + high) / 2 == pytest.approx(numerators.sum() / denominators.sum())
    assert (high - low) / 2 == pytest.approx(2.001 * jackknife, rel=0.1)
