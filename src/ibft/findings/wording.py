"""The sentences of the verdict: how big, how sure, beside which style, and how much word for word."""

from __future__ import annotations

from collections.abc import Mapping

from ibft.artifacts.scan import Auroc, Barrier, ControlComparison, Extraction, ScoreAuroc
from ibft.statistics.uncertainty import Interval

__all__ = [
    "extraction_sentences",
    "percent",
    "percent_interval",
    "size_sentence",
    "style_sentence",
    "sureness_sentence",
]


def size_sentence(barrier: Barrier) -> str:
    """Say how many examples are too predictable, and how many would be by chance."""
    return (
        f"How big: of {barrier.num_examples:,} training examples, {barrier.num_memorized:,} or "
        f"{percent(barrier.share)} ({percent_interval(barrier.ci95)}) are more predictable than 95% of control "
        f"examples of similar length; {percent(barrier.expected_share)} would be by chance."
    )


def sureness_sentence(auroc: Auroc, comparison: ControlComparison) -> str:
    """Say how well the headline score separates the sets, and from how many independent files."""
    num_train, num_control = comparison.num_groups["train"], comparison.num_groups["control"]
    return (
        f"How sure: a training example is more predictable than a control example with a chance of {_area(auroc)}, "
        f"where 0.5 is no difference; the intervals are at 95%, from {num_train:,} independent training files or "
        f"examples and {num_control:,} of the control set."
    )


def style_sentence(headline: ScoreAuroc, comparison: ControlComparison) -> str:
    """Say whether the score beats a classifier of the texts alone."""
    rule = "a finding counts only where the score beats a classifier that never sees the model"
    if comparison.blind is None or headline.above_blind is None:
        return f"Style: {rule}, and none could be trained here."
    low, high = headline.above_blind.ci95
    difference = f"{headline.above_blind.value:+.2f} ({low:+.2f} to {high:+.2f})"
    outcome = "which the score beats" if headline.beats_blind else "which the score does not beat"
    if not headline.beats_blind and low > 0:
        outcome = "and the score itself may be no better than chance"
    end = f"Style: a classifier that never sees the model reaches {_area(comparison.blind)}, {outcome}: {difference}"
    if not headline.beats_blind:
        return f"{end}; {rule}."
    if comparison.blind.ci95.low > 0.5:
        return f"{end}; part of the difference is style all the same, since the classifier separates the sets, too."
    return f"{end}; so the words alone, which it sees, do not explain the difference."


def extraction_sentences(extraction: Mapping[str, Extraction]) -> list[str]:
    """Say how much is repeated word for word, beside the control set; empty where no example was long enough."""
    train, control = extraction.get("train"), extraction.get("control")
    if train is None:
        return []
    text = (
        f"Word for word: given the first {train.prefix_tokens} tokens, the model writes the next {train.suffix_tokens} "
        f"itself in {train.num_extracted:,} of {train.num_examples:,} training examples, {percent(train.share)} "
        f"({percent_interval(train.ci95)})"
    )
    if control is None:
        return [f"{text}."]
    beside = f"in the control set in {percent(control.share)} ({percent_interval(control.ci95)})"
    if train.ci95.low <= control.ci95.high:
        return [f"{text}; {beside}: no clear difference."]
    return [
        f"{text}; {beside}. The difference, {100 * (train.share - control.share):.1f} points, is about how much the "
        "model knows by heart; the rest is formulaic, as in the control set."
    ]


def percent(share: float) -> str:
    """Return a fraction in percent: one digit after the point, below 1% two significant ones."""
    return (f"{100 * share:.1f}" if share >= 0.01 else f"{100 * share:.2g}").removesuffix(".0") + "%"


def percent_interval(interval: Interval) -> str:
    """Return both ends of an interval of fractions, in percent."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _area(auroc: Auroc) -> str:
    return f"{auroc.value:.2f} ({auroc.ci95.low:.2f} to {auroc.ci95.high:.2f})"
