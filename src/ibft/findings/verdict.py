"""The findings in words: is there a memorization barrier, how big is it, how sure, and what should be done.

Decided by rules that are fixed beforehand; the first that holds:

1. No control set, no score of any of its examples, or one set all in the other: unclear; get one (`control`).
2. Fewer than 50 pairs of similar length, fewer than 10 files on a side, or the score missing on most: unclear; a
   larger control set (`control`).
3. The share's whole interval is at most 7.5%, where 5% is chance: no (`nothing`). But unclear (a control set of the
   same style, `control`) where the control set may just be easier to predict: the whole interval of the blind
   classifier's AUROC is above 0.7, or there is none, or that of the score's AUROC is below 0.45. Unclear as well
   where memory shows elsewhere than in the lowest scores: the score beats the blind classifier, with the whole
   interval of its AUROC above 0.55; or that of the share repeated word for word is 2.5 points above the control's.
4. The interval contains 5%: unclear; a larger control set (`control`).
5. The score does not beat the blind classifier, or there is none: unclear; a control set of the same style
   (`control`), or a larger one where it beats the classifier, but not 0.5.
6. Yes. At least half of the memorized examples have duplicates, and more than chance explains: `prune`, duplicates
   first. Else, up to a share of 15%, both of the matched examples and of all: `prune`; above: `ib`.

Only the headline score counts, since the best of many would be too good by chance. Extraction can forbid
a "no" and never makes a "yes": it speaks for the examples that it finds, not for a barrier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ibft.artifacts.scan import Auroc, Barrier, BarrierVerdict, ControlComparison, Extraction, ScoreAuroc
from ibft.findings.barrier import EXPECTED_SHARE
from ibft.findings.wording import (
    extraction_sentences,
    percent,
    percent_interval,
    size_sentence,
    style_sentence,
    sureness_sentence,
)

__all__ = [
    "DIFFERENT_STYLE",
    "EASY_CONTROL",
    "LARGE_SHARE",
    "MIN_GROUPS",
    "MIN_PAIRS",
    "NEGLIGIBLE_SHARE",
    "barrier_verdict",
]

MIN_PAIRS = 50
"""With fewer matched pairs, one or two control examples decide the threshold."""
MIN_GROUPS = 10
"""With fewer independent files on a side, intervals mean little."""
NEGLIGIBLE_SHARE = 0.075
"""Up to half again as many predictable examples as by chance are not worth a remedy."""
DIFFERENT_STYLE = 0.7
"""From this AUROC of the blind classifier on, the control set may as well be easier, and so hide a barrier."""
EASY_CONTROL = 0.45
"""Below this AUROC of the score, the control set is so much easier that it may hide a barrier; above 1 less it, harder.

Two normal distributions with this AUROC are 0.18 standard deviations apart: 3.4% instead of 5% lie below the threshold.
"""
LARGE_SHARE = 0.15
"""5% by chance and the 10% that the method's paper drops (arXiv 2510.16022, figure 4); to drop more costs too much."""

_UNSEEN = (
    "Give data.control code that the model cannot have seen (newer than the model, or never published), of the same "
    "language, style and length as the training data."
)
_MORE = "Give data.control more examples, of the training data's lengths and of many files."
_NOT_SHOWN = (
    "What this does not show: that an example was in the model's training data. Code can be predictable because it is "
    "common or simple. What it continues word for word more often than the control set's code is the firmest evidence."
)
_ALIKE = (
    "Give data.control code of the same kind as the training data (the same projects, after the model's cutoff, are "
    "best), so that only having been seen can tell them apart."
)


def barrier_verdict(
    score: str,
    num_control: int | None,
    comparison: ControlComparison | None,
    barrier: Barrier | None,
    extraction: Mapping[str, Extraction],
    num_train: int | None = None,
    num_in_both: Mapping[str, int] | None = None,
) -> BarrierVerdict:
    """Decide by the rules above.

    Args:
        score: name of the headline score.
        num_control: number of scored control examples; None without a control set.
        comparison: None where nothing could be matched.
        barrier: None there as well.
        extraction: extraction of each subset.
        num_train: number of scored training examples.
        num_in_both: number of scored examples of each subset that are not compared, since the other subset has them.
    """
    sentences = extraction_sentences(extraction)
    if num_control is None:
        sentences.append("How predictable the training data is says nothing without code to compare it with.")
    in_both = num_in_both or {}
    # Chosen before the scan: the best of ten scores would be too good by chance.
    headline = next((row for row in comparison.scores if row.name == score), None) if comparison is not None else None
    if missing := _why_not_compared(num_control, num_train, in_both, comparison):
        return _unclear(*missing, sentences)
    if comparison is None or barrier is None or headline is None:
        return _unclear("too few control examples have a score and the length of a training example", _MORE, sentences)
    assert headline.num_train is not None
    assert headline.num_control is not None
    if (num_pairs := min(headline.num_train, headline.num_control)) < MIN_PAIRS:
        few = f"only {num_pairs} pairs of training and control examples are of similar length; {MIN_PAIRS} are needed"
        return _unclear(few, _MORE, sentences)
    reasons = [size_sentence(barrier), sureness_sentence(headline.auroc, comparison)]
    reasons += [style_sentence(headline, comparison), *sentences, _NOT_SHOWN]
    if any(in_both.values()):
        left_out = f"{in_both.get('train', 0):,} training and {in_both.get('control', 0):,} control examples"
        reasons.append(f"Left out: {left_out}, since the other set has them as well.")
    if doubt := _why_unclear(barrier, headline, comparison.blind, extraction):
        return _unclear(*doubt, reasons)
    if barrier.ci95.high <= NEGLIGIBLE_SHARE:
        return BarrierVerdict(
            barrier="no",
            headline=f"No: of the training examples compared, at most {percent(barrier.ci95.high)} are more "
            "predictable than 95% of the control set; chance gives 5%.",
            sentences=reasons,
            advice="nothing",
            remedy="Fine-tune as usual: there is no memorization barrier to break.",
        )
    advice, remedy = _what_to_do(barrier)
    return BarrierVerdict(
        barrier="yes",
        headline=f"Yes: of the training examples compared, {percent(barrier.share)} are more predictable than 95% of "
        "the control set; chance gives 5%.",
        sentences=reasons,
        advice=advice,
        remedy=remedy,
    )


def _unclear(reason: str, remedy: str, sentences: list[str]) -> BarrierVerdict:
    return BarrierVerdict(
        barrier="unclear", headline=f"Unclear: {reason}.", sentences=sentences, advice="control", remedy=remedy
    )


def _why_not_compared(
    num_control: int | None, num_train: int | None, in_both: Mapping[str, int], comparison: ControlComparison | None
) -> tuple[str, str] | None:
    """Return why there is nothing to compare, and what helps (rules 1 and 2); None if there is."""
    if num_control is None:
        return "there is no control set to compare with", _UNSEEN
    if not num_control:
        return "no example of the control set has a score", _MORE
    if in_both.get("control") == num_control:
        return "all of the control set is in the training data as well", _UNSEEN
    if num_train and in_both.get("train") == num_train:
        return "all of the training data is in the control set as well", _UNSEEN
    if comparison is None:
        return None
    assert comparison.num_pairs is not None
    if comparison.num_pairs < MIN_PAIRS:
        return None  # the caller reports that the pairs are too few, whatever their files
    subset, num_files = min(comparison.num_groups.items(), key=lambda item: item[1])
    if num_files >= MIN_GROUPS:
        return None
    of = "one file" if num_files == 1 else f"{num_files} files"
    if subset == "control":
        return f"the control examples are from {of} only; {MIN_GROUPS} are needed", _MORE
    more = "Take training data of more files, or scan all of it (scan.max_examples); check its field `file`."
    return f"the training examples are from {of} only; {MIN_GROUPS} are needed", more


def _why_unclear(
    barrier: Barrier, headline: ScoreAuroc, blind: Auroc | None, extraction: Mapping[str, Extraction]
) -> tuple[str, str] | None:
    """Return why the figures say neither yes nor no, and what helps (rules 3 to 5); None if they do."""
    if barrier.ci95.high <= NEGLIGIBLE_SHARE:
        doubt = _why_not_no(headline, blind, extraction)
        return (f"few training examples are too predictable, but {doubt}", _ALIKE) if doubt else None
    if barrier.ci95.low <= barrier.expected_share:
        return (
            f"the share of predictable training examples could still be chance ({percent_interval(barrier.ci95)})",
            "Give data.control more examples: the interval narrows with their number and with that of their files.",
        )
    if headline.above_blind is None:
        return "the training data is more predictable, but no classifier of its style could be set beside that", _ALIKE
    if headline.above_blind.ci95.low <= 0:
        return "the training data is more predictable, but its style alone gives as much away", _ALIKE
    if not headline.beats_blind:
        return (
            "more training examples than by chance are too predictable, but on the whole they are not for sure",
            _MORE,
        )
    return None


def _why_not_no(headline: ScoreAuroc, blind: Auroc | None, extraction: Mapping[str, Extraction]) -> str:
    """Return what speaks against "no" though few examples are below the threshold; empty if nothing does (rule 3)."""
    # Without these rules a control set that is far easier gave "no", and so did one without a blind classifier, and
    # data of which much is repeated word for word.
    if blind is None:
        return "no classifier could tell whether the control set is of the same style"
    if blind.ci95.low > DIFFERENT_STYLE:
        return "the control set is of so different a style that this may be why"
    if headline.auroc.ci95.high < EASY_CONTROL:
        return "on the whole the control set is easier to predict, which may hide what is memorized"
    if headline.beats_blind and headline.auroc.ci95.low > 1 - EASY_CONTROL:
        return "on the whole the training data is more predictable, and not by its words alone"
    if len(extraction) == 2:
        train, control = extraction["train"], extraction["control"]  # formulaic code is repeated word for word as well
        if train.ci95.low - control.ci95.high > NEGLIGIBLE_SHARE - EXPECTED_SHARE:
            return "much more of it than of the control set is repeated word for word"
    return ""


def _what_to_do(barrier: Barrier) -> tuple[Literal["prune", "ib"], str]:
    """Return advice and remedy where there is a barrier (rule 6)."""
    duplicates = next((trait for trait in barrier.traits if trait.kind == "duplicates"), None)
    assert barrier.num_train is not None  # it is None only in summaries of older versions
    assert barrier.num_train_memorized is not None
    number, share_of_all = f"{barrier.num_train_memorized:,}", barrier.num_train_memorized / barrier.num_train
    # First of all, since copies make a model memorize (Lee et al., arXiv 2107.06499).
    if duplicates is not None and duplicates.share_of_memorized >= 0.5:
        return "prune", (
            "First drop the copies (`ibft prune DATA --scores RUN/scan --control duplicates --drop "
            f"{barrier.num_copies} --out deduplicated.jsonl`): "
            f"{percent(duplicates.share_of_memorized)} of the memorized examples have one. Then scan again."
        )
    # Of all as well: most memorized examples may be of lengths that the control set does not have.
    if max(barrier.share, share_of_all) <= LARGE_SHARE:
        return "prune", (
            f"Drop the {number} most memorized examples (`ibft prune DATA --scores RUN/scan --drop "
            f"{barrier.num_train_memorized} --out pruned.jsonl`), and as "
            "many of the same lengths by chance in a second run (`--control length-matched`): the difference between "
            "the two is what pruning does."
        )
    return "ib", (
        f"Dropping all {number} memorized examples would cost {percent(share_of_all)} of the data. "
        "Train with the bottleneck (`objective: ib`) beside plain fine-tuning (`ft`), and keep what the benchmark "
        "shows to be better."
    )
