"""The rescan stage: what training did to the scores of the data, and what a trained arm has memorized of it.

rescan/<arm>/scores.parquet         trained examples ("train") and others ("control") under the arm, beside the base
rescan/<arm>/before/scores.parquet  the same examples under the base, with the log-probability of each scored token
rescan/<arm>/summary.json           what they say: `artifacts.rescan.RescanSummary`
rescan/<arm>/densities.json         values of the headline score for the figure: `artifacts.scan.Densities`

The others are examples that the arm was not trained on: those of the control set, or, where the recipe has none, those
that the arm held out (`data.validation`). `stages.rescanned` sets the arms beside each other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ibft.artifacts.json_lines import pretty_json, read_rows, write_atomically
from ibft.artifacts.rescan import Membership, RescanSummary
from ibft.artifacts.rows import Subset
from ibft.artifacts.scan import ScanSummary
from ibft.artifacts.score_names import AGAINST_BASE
from ibft.artifacts.score_table import SCORES_FILE, WORD_FOR_WORD, ScoredRow, read_batches, read_scores
from ibft.artifacts.summaries import read_summary
from ibft.data.fingerprint import fingerprint
from ibft.data.subsets import NumberedExamples, read_subset
from ibft.findings.columns import Columns
from ibft.findings.densities import write_densities
from ibft.findings.membership import Scored, membership, word_for_word
from ibft.findings.score_columns import common_rows, read_columns, read_shares
from ibft.models.loading import load_arm, load_model, load_tokenizer, weights_folder
from ibft.run.folder import RunFolder
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.stage import Stage
from ibft.stages.identity import rescan_inputs, scan_inputs, weights_identity
from ibft.stages.scan import make_scorer, make_table
from ibft.stages.skeleton import complete
from ibft.stages.validation import ROWS_FILE, HeldOutRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BEFORE", "rescan"]

BEFORE = "before"
"""The folder of the scores under the base."""


class _Drawn(NamedTuple):
    """What is scored: trained examples and others; of what kind these are; if there are none, why."""

    trained: NumberedExamples
    others: NumberedExamples | None
    kind: Literal["control", "held_out", ""]
    not_known: str

    @property
    def sources(self) -> list[NumberedExamples]:
        return [self.trained] if self.others is None else [self.trained, self.others]


def rescan(recipe: Recipe, run: RunFolder, arm: str) -> None:
    """Score the scanned examples again under a trained arm: `scan.max_trained_examples` of each set, drawn by seed.

    Raises:
        UserError: the scan is missing or of another recipe, the arm is missing, or the model cannot be loaded.
    """
    if not recipe.scan.max_trained_examples:
        return
    complete(
        recipe,
        lambda recipe: _open(recipe, run, arm),
        lambda recipe, folder: _make(recipe, run, arm, folder),
    )


def _open(recipe: Recipe, run: RunFolder, arm: str) -> Stage:
    scanned, trained = run.record_made_from("scan", scan_inputs(recipe)), run.record(f"train/{arm}")
    weights = weights_identity(weights_folder(recipe, run, arm))
    return run.stage(f"rescan/{arm}", rescan_inputs(recipe, scanned.identity, trained.identity, weights))


def _make(recipe: Recipe, run: RunFolder, arm: str, folder: Path) -> None:
    drawn = _draw(recipe, run, arm)
    # One model after the other, not both at once: where there was memory to train one, there is memory for this.
    make_table(
        recipe,
        drawn.sources,
        folder / BEFORE,
        lambda: make_scorer(recipe, load_model(recipe.model), load_tokenizer(recipe.model), keeps_tokens=True),
        f"Scanning before {arm}",
        keeps_tokens=True,
    )
    make_table(
        recipe,
        drawn.sources,
        folder,
        lambda: make_scorer(
            recipe,
            load_arm(recipe, run, arm),
            load_tokenizer(recipe.model),
            base=_token_log_probs(folder / BEFORE / SCORES_FILE),
        ),
        f"Scanning after {arm}",
        score_names=(*recipe.scan.score_names, *AGAINST_BASE),
    )
    if is_main_process():
        _conclude(recipe, run, arm, folder, drawn)


def _draw(recipe: Recipe, run: RunFolder, arm: str) -> _Drawn:
    # Only examples that have the headline score before, so that both medians are of the same examples.
    scanned = list(read_scores(run.path / "scan", recipe.scan.score, "train"))
    path = run.path / "train" / arm / ROWS_FILE
    held_out = {row.place for row in read_rows(path, HeldOutRow)} if path.exists() else set()
    everything = NumberedExamples("train", partial(read_subset, recipe.data, "train"))
    trained = everything.only(_sample(recipe, [row.place for row in scanned if row.place not in held_out]))
    kind: Literal["control", "held_out", ""] = ""
    rows: list[ScoredRow] = []
    if recipe.data.control is not None:
        kind, rows = "control", list(read_scores(run.path / "scan", recipe.scan.score, "control"))
    elif held_out:
        kind, rows = "held_out", [row for row in scanned if row.place in held_out]
    known = _trained_codes(recipe, scanned, held_out) if rows else frozenset()
    places = [row.place for row in rows if row.fingerprint not in known]
    if not places:
        return _Drawn(trained, None, "", _not_known(recipe, len(rows)))
    # In the place of a control set where the arm held some of its data out.
    read = partial(read_subset, recipe.data, "control" if kind == "control" else "train")
    return _Drawn(trained, NumberedExamples("control", read).only(_sample(recipe, places)), kind, "")


def _sample(recipe: Recipe, places: list[int]) -> list[int]:
    return random.Random(recipe.seed).sample(sorted(places), min(recipe.scan.max_trained_examples, len(places)))


def _trained_codes(recipe: Recipe, scanned: list[ScoredRow], held_out: set[int]) -> frozenset[str]:
    """Return the fingerprints of what the arm was trained on: an equal example of the control set was trained, too."""
    if recipe.scan.max_examples is None:
        return frozenset(row.fingerprint for row in scanned if row.place not in held_out)
    examples = enumerate(read_subset(recipe.data, "train"))  # the scan has seen a draw of them alone
    return frozenset(fingerprint(example.pair) for place, example in examples if place not in held_out)


def _not_known(recipe: Recipe, num_rows: int) -> str:
    open_question = "what the arm memorized of its training data cannot be told from what is easy for it anyway"
    if num_rows:
        return f"All {num_rows:,} examples of the control set are in the training data, so {open_question}."
    if recipe.data.control is not None:
        return f"No example of the control set has scores, so {open_question}."
    return (
        f"There is neither a control set nor a held-out share of the data, so {open_question}. Give `data.control`, or "
        "`data.validation`, such as 5%."
    )


def _token_log_probs(path: Path) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Return the base's log-probabilities of each example's scored tokens, by subset and place."""
    return {
        (subset, place): np.array(values, np.float64)
        for batch in read_batches(path, ["subset", "index", "log_probs"], None, only_scored=True)
        for subset, place, values in zip(batch["subset"], batch["index"], batch["log_probs"], strict=True)
    }


class _Rows(NamedTuple):
    """One subset under the base and under the arm: the same rows."""

    before: Columns
    after: Columns
    shares_before: Mapping[str, NDArray[np.float64]]
    shares_after: Mapping[str, NDArray[np.float64]]

    @property
    def columns(self) -> tuple[Columns, Columns]:
        return self.before, self.after


def _read(recipe: Recipe, folder: Path, subset: Subset) -> _Rows:
    paths, names = (folder / BEFORE / SCORES_FILE, folder / SCORES_FILE), recipe.scan.score_names
    rows = common_rows(*paths, subset)
    before, after = (
        read_columns(path, subset, names_of).take(kept)
        for path, names_of, kept in zip(paths, (names, (*names, *AGAINST_BASE)), rows, strict=True)
    )
    shares_before, shares_after = (
        {name: read_shares(path, subset, name)[kept] for name in WORD_FOR_WORD}
        for path, kept in zip(paths, rows, strict=True)
    )
    return _Rows(before, after, shares_before, shares_after)


def _conclude(recipe: Recipe, run: RunFolder, arm: str, folder: Path, drawn: _Drawn) -> None:
    score = recipe.scan.score
    subsets: tuple[Subset, ...] = ("train",) if drawn.others is None else ("train", "control")
    rows = {subset: _read(recipe, folder, subset) for subset in subsets}
    scanned = read_summary(run.path / "scan" / "summary.json", ScanSummary)
    threshold = scanned.barrier.threshold if scanned and scanned.barrier else math.nan
    after = rows["train"].after.scores[score]
    found: Membership | None = None
    not_known = drawn.not_known
    if drawn.others is not None:
        before, now = (
            Scored(trained, others)
            for trained, others in zip(rows["train"].columns, rows["control"].columns, strict=True)
        )
        found = membership(before, now, score, recipe.seed)
        if found is None:
            not_known = "No example that the arm was not trained on is of similar length as one that it was trained on."
    summary = RescanSummary(
        arm=arm,
        score=score,
        num_examples=len(after),
        median_before=float(np.median(rows["train"].before.scores[score])),
        median_after=float(np.median(after)),
        share_below_threshold=None if math.isnan(threshold) else float((after < threshold).mean()),
        others=drawn.kind,
        num_others=None if drawn.others is None else len(rows["control"].after),
        membership=found,
        not_known=not_known,
        word_for_word={
            subset: word_for_word(of.shares_before, of.shares_after, of.after.groups) for subset, of in rows.items()
        },
    )
    write_densities(folder, score, {f"training data after {arm}": after}, recipe.seed)
    write_atomically(folder / "summary.json", pretty_json(summary))
