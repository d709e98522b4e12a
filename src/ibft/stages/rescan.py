"""The rescan stage: the same training examples under a trained arm, so that one sees what training did to them.

rescan/<arm>/scores.parquet, summary.json, densities.json
"""

from __future__ import annotations

import math
import random
from functools import partial
from pathlib import Path

import numpy as np

from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.artifacts.scan import RescanSummary, ScanSummary
from ibft.artifacts.score_table import read_scores
from ibft.artifacts.summaries import read_summary
from ibft.data.subsets import NumberedExamples, read_subset
from ibft.findings.densities import write_densities
from ibft.models.loading import load_arm, load_tokenizer, weights_folder
from ibft.run.folder import RunFolder
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.stage import Stage
from ibft.stages.identity import rescan_inputs, scan_inputs, weights_identity
from ibft.stages.scan import make_scorer, make_table
from ibft.stages.skeleton import complete

__all__ = ["rescan"]


def rescan(recipe: Recipe, run: RunFolder, arm: str) -> None:
    """Score `scan.max_trained_examples` of the scanned training examples, drawn by seed, under a trained arm.

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
    # Only examples that have the headline score before, so that both medians are of the same examples.
    before = {row.place: row.value for row in read_scores(run.path / "scan", recipe.scan.score, "train")}
    count = min(recipe.scan.max_trained_examples, len(before))
    everything = NumberedExamples("train", partial(read_subset, recipe.data, "train"))
    chosen = everything.only(random.Random(recipe.seed).sample(sorted(before), count))
    make_table(
        recipe,
        [chosen],
        folder,
        lambda: make_scorer(recipe, load_arm(recipe, run, arm), load_tokenizer(recipe.model)),
        f"Scanning after {arm}",
    )
    if is_main_process():
        _conclude(recipe, run, arm, folder, before)


def _conclude(recipe: Recipe, run: RunFolder, arm: str, folder: Path, before: dict[int, float]) -> None:
    rows = list(read_scores(folder, recipe.scan.score))
    after = np.array([row.value for row in rows])
    scanned = read_summary(run.path / "scan" / "summary.json", ScanSummary)
    threshold = scanned.barrier.threshold if scanned and scanned.barrier else math.nan
    summary = RescanSummary(
        arm=arm,
        score=recipe.scan.score,
        num_examples=len(rows),
        median_before=float(np.median([before[row.place] for row in rows])),
        median_after=float(np.median(after)),
        share_below_threshold=None if math.isnan(threshold) else float((after < threshold).mean()),
    )
    write_densities(folder, recipe.scan.score, {f"training data after {arm}": after}, recipe.seed)
    write_atomically(folder / "summary.json", pretty_json(summary))
