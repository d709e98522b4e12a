"""What recalls the answer, in words: which shortcut there is, or that there is none, and what that means for IB-FT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ibft.artifacts.recall import RecallSummary, SegmentMean, SegmentRecall

__all__ = ["headline", "sentences"]

_MEANING_NONE = "What it means for IB-FT: there is no cue in the {names} for a bottleneck to compress."
_MEANING_FOUND = (
    "What it means for IB-FT: fine-tuning can answer from {names} without reading the rest of the prompt. That is what "
    "a bottleneck claims to take away; exchanging {names} for foreign text takes it away as well: compare the two."
)
_NOT_SEEN = (
    "What cannot be seen this way: a dormant memory, which speaks only where the rest of the prompt is missing and not "
    "where it is foreign; one that needs two segments together; and one that begins with the answer's own first tokens."
)
_STYLE = "A difference counts as memory only as far as the control set is of the same kind as the training data."


def headline(summary: RecallSummary) -> str:
    """Say in one sentence which segments are active shortcuts, which are none, or why that cannot be said."""
    if not summary.segments:
        return "Not measured: no prompt has segments that could be exchanged and tell something of its answer."
    if "control" not in summary.num_examples:
        return "Unclear: there is no control set to compare with, and a segment may say much of any answer."
    if found := [segment.kind for segment in summary.segments if segment.is_shortcut]:
        return f"Yes: an active shortcut on the {_joined(found)}."
    known = [segment for segment in summary.segments if segment.is_shortcut is not None]
    if not known:
        return "Unclear: too few examples of the two sets have the same segments, or their shares vary too much."
    return f"No active shortcut on the {_joined([segment.kind for segment in known])}."


def sentences(summary: RecallSummary) -> list[str]:
    """Say what the names and the shortcuts recover, what that means, and what is not seen or not defined."""
    if not summary.segments:
        return _undefined(summary.undefined)
    found = [segment for segment in summary.segments if segment.is_shortcut]
    shown = found or [segment for segment in summary.segments if segment.kind == "name"] or summary.segments[:1]
    text = [_recovered(segment) for segment in shown]
    if found:
        text.append(_MEANING_FOUND.format(names=f"the {_joined([segment.kind for segment in found])}"))
        text.append(_STYLE)
    else:
        others = [segment for segment in summary.segments if segment not in shown]
        text += [*_small(summary.segments), *_unclear(others)]
        if absent := [segment.kind for segment in summary.segments if segment.is_shortcut is False]:
            text.append(_MEANING_NONE.format(names=_joined(absent)))
    return [*text, _NOT_SEEN, *_undefined(summary.undefined)]


def _recovered(segment: SegmentRecall) -> str:
    """Say how much a segment alone recovers on each side, and whether that is a shortcut."""
    train, control = segment.train, segment.control
    if train is None:
        return f"The {segment.kind} has no share in the training data: no prompt has one, or prompts tell too little."
    start = f"The {segment.kind} alone recovers {_mean(train)} of the answer in the training data"
    if control is None:
        return f"{start}."
    end = {True: "an active shortcut", False: f"no active shortcut on the {segment.kind}", None: "unclear"}
    difference = f"{_signed(segment.difference)} ({' to '.join(map(_signed, segment.difference_ci95))})"
    return f"{start} and {_mean(control)} in the control set, a difference of {difference}: {end[segment.is_shortcut]}."


def _small(segments: Sequence[SegmentRecall]) -> list[str]:
    """Say which differences are beyond chance, and too small to count."""
    beyond = [
        f"{segment.kind} {_signed(segment.difference)}"
        for segment in segments
        if segment.is_shortcut is False and segment.difference_ci95.low > 0
    ]
    return [f"Above the control set for sure, but by too little to count: {', '.join(beyond)}."] if beyond else []


def _unclear(segments: Sequence[SegmentRecall]) -> list[str]:
    """Say which differences may be large for all that the data shows."""
    unclear = [
        f"{segment.kind} {_signed(segment.difference)} ({' to '.join(map(_signed, segment.difference_ci95))})"
        for segment in segments
        if segment.is_shortcut is None and not math.isnan(segment.difference_ci95.low)
    ]
    return [f"Unclear, for want of examples, files or precision: {', '.join(unclear)}."] if unclear else []


def _mean(mean: SegmentMean) -> str:
    return f"{mean.mean:.2f} ({mean.ci95.low:.2f} to {mean.ci95.high:.2f})"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: a small negative one is +0.00, and not -0.00


def _undefined(reasons: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how many examples have no shares, by reason: none of them counts as 0."""
    names = {"train": "training", "control": "control"}
    counted = [
        f"{count} {names.get(subset, subset)} examples ({reason})"
        for subset, of_subset in reasons.items()
        for reason, count in of_subset.items()
    ]
    return [f"Without a share, and in no mean: {'; '.join(counted)}."] if counted else []


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
