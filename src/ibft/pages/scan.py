"""What the scan left: its summary, the numbers for its figure, and its most memorized examples.

Only JSON is read: the table of all scores (`scan/scores.parquet`) needs pyarrow, the page does not. Every field may be
missing: a run folder of an older version is shown as far as it goes, and `ScanSummary.verdict` is None there.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import ShownExample
from ibft.artifacts.scan import Densities, RescanSummary, ScanSummary
from ibft.artifacts.summaries import read_summary
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.run.stage import read_record

__all__ = [
    "SUBSET_NAMES",
    "Rescan",
    "Scan",
    "read_scan",
    "read_shown_examples",
]

SUBSET_NAMES = {"train": "training data", "control": "control set"}


class Rescan(NamedTuple):
    """One fine-tuned arm's scan."""

    summary: RescanSummary
    densities: Densities


class Scan(NamedTuple):
    """The scan of the base model, and of the fine-tuned arms that were scanned again, in the recipe's order."""

    summary: ScanSummary
    densities: Densities
    rescans: list[Rescan]


def read_scan(recipe: Recipe, run: RunFolder) -> Scan | None:
    """The scan, None if it has not run. Rescans that were made beside another scan are left out.

    Raises:
        UserError: one of its files is damaged.
    """
    folder = run.path / "scan"
    summary = read_summary(folder / "summary.json", ScanSummary)
    if summary is None:
        return None
    rescans = []
    scanned = read_record(folder)
    for name in recipe.arms:
        again = run.path / "rescan" / name
        record = read_record(again)
        if scanned and record and record.inputs.get("scan") != scanned.identity:
            continue
        if name != BASE_ARM and (found := read_summary(again / "summary.json", RescanSummary)) is not None:
            found = msgspec.structs.replace(found, arm=name)
            rescans.append(Rescan(found, read_summary(again / "densities.json", Densities) or Densities()))
    return Scan(summary, read_summary(folder / "densities.json", Densities) or Densities(), rescans)


def read_shown_examples(run: RunFolder) -> list[ShownExample]:
    """The most memorized examples, the most memorized first.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / "scan" / "most_memorized.jsonl"
    return list(read_rows(path, ShownExample)) if path.exists() else []
