"""After training: what each arm memorized of its training data, as text for both pages and the terminal."""

from __future__ import annotations

import math
from typing import NamedTuple

from ibft.artifacts.rescan import Change, ScoreMembership
from ibft.artifacts.scan import Auroc, AurocDifference
from ibft.artifacts.score_names import AGAINST_BASE, score_label
from ibft.pages.audit_rows import interval, number, percent, ratio, signed
from ibft.pages.compare import Cell
from ibft.pages.scan import Rescan, Scan

__all__ = ["AfterTraining", "MemberRow", "WordRow", "after_training"]


class MemberRow(NamedTuple):
    """How well one score tells the examples that an arm was trained on from others."""

    arm: str
    label: str
    before: Cell
    after: Cell
    rise: Cell
    true_positives: Cell
    against: Cell
    is_main: bool


class WordRow(NamedTuple):
    """How much of one set's responses is written word for word, before and after an arm's training."""

    label: str
    num_examples: str
    extraction_strength: Cell
    exact_memorization: Cell


class AfterTraining(NamedTuple):
    """The section "After training": `notes` say what is not known, `sets` what was compared."""

    reference: str
    members: list[MemberRow]
    words: list[WordRow]
    sets: list[str]
    notes: list[str]


def after_training(scan: Scan) -> AfterTraining | None:
    """Return the section; None where no rescan has any of it (none was made, or by an older version)."""
    members, words, sets, notes = [], list[WordRow](), list[str](), list[str]()
    for rescan in scan.rescans:
        summary = rescan.summary
        members += _member_rows(scan, rescan)
        words += _word_rows(rescan)
        if (found := summary.membership) is not None:
            kind = "that it held out" if summary.others == "held_out" else "of the control set"
            sets.append(f"{summary.arm}: {number(found.num_pairs)} trained examples beside as many {kind}.")
            notes += [
                f"{summary.arm}, {score_label(score.name)}: {open_point}."
                for score in found.scores
                if _is_main(score.name, summary.score)
                for open_point in _open_points(score, found.num_pairs)
            ]
        elif summary.not_known:
            notes.append(f"{summary.arm}: {summary.not_known}")
    if not (members or words or notes):
        return None
    return AfterTraining(scan.against.reference, members, words, sets, notes)


def _open_points(score: ScoreMembership, num_pairs: int | None) -> list[str]:
    """Say of how many examples a score is undefined, and why it has no true positives."""
    points = [score.true_positives.reason] if score.true_positives.reason else []
    if num_pairs is not None and score.num_trained is not None and score.num_others is not None:
        trained, others = num_pairs - score.num_trained, num_pairs - score.num_others
        # EZ-MIA is undefined where an arm gets hardly a token wrong: of what it memorized best.
        if trained or others:
            points.append(
                f"undefined for {trained:,} of the trained examples and {others:,} of the others, which do not count"
            )
    return points


def _is_main(name: str, headline: str) -> bool:
    return name in (*AGAINST_BASE, headline)


def _member_rows(scan: Scan, rescan: Rescan) -> list[MemberRow]:
    """Return an arm's rows, those of the scores that people look at first before the others."""
    summary = rescan.summary
    if summary.membership is None:
        return []
    against = {of.name: of.difference for of in scan.against.differences if of.arm == summary.arm}
    rows = [
        MemberRow(
            summary.arm,
            score_label(score.name),
            _auroc(score.before),
            _auroc(score.auroc),
            _difference(score.rise),
            _true_positives(score),
            _difference(against.get(score.name)),
            _is_main(score.name, summary.score),
        )
        for score in summary.membership.scores
    ]
    return sorted(rows, key=lambda row: not row.is_main)


def _word_rows(rescan: Rescan) -> list[WordRow]:
    summary = rescan.summary
    others = "held-out rows" if summary.others == "held_out" else "control set"
    return [
        WordRow(
            f"{summary.arm}: {label}",
            number(of.num_examples),
            _change(of.extraction_strength),
            _change(of.exact_memorization),
        )
        for name, label in (("train", "training data"), ("control", others))
        if (of := summary.word_for_word.get(name)) is not None
    ]


def _auroc(found: Auroc | None) -> Cell:
    return Cell("–") if found is None else Cell(ratio(found.value), interval(found.ci95, ratio))


def _difference(found: AurocDifference | None) -> Cell:
    return Cell("–") if found is None else Cell(signed(found.value), interval(found.ci95, signed))


def _true_positives(score: ScoreMembership) -> Cell:
    found = score.true_positives
    return Cell("–") if math.isnan(found.value) else Cell(percent(found.value), interval(found.ci95))


def _change(found: Change) -> Cell:
    text = f"{ratio(found.before)} → {ratio(found.after)}"
    return Cell(text, f"{signed(found.difference)} ({interval(found.ci95, signed)})")
