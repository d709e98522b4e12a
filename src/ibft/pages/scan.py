"""Read what the scan left: its summary, the numbers for its figure, and its most memorized examples.

Only JSON is read: the table of all scores (`scan/scores.parquet`) needs pyarrow, the page does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rescan import ArmDifferences, RescanSummary
from ibft.artifacts.rows import ShownExample
from ibft.artifacts.scan import Densities, ScanSummary
from ibft.artifacts.summaries import read_summary
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.run.stage import read_record

__all__ = ["SUBSET_NAMES", "Rescan", "Scan", "read_scan", "read_shown_examples"]

SUBSET_NAMES = {"train": "training data", "control": "control set"}


class Rescan(NamedTuple):
    """One fine-tuned arm's scan."""

    summary: RescanSummary
    densities: Densities


class Scan(NamedTuple):
    """The scan of the base model, and of the fine-tuned arms that were scanned again, in the recipe's order.

    `against` has the arms beside each other, as far as they are still the ones that were compared.
    """

    summary: ScanSummary
    densities: Densities
    rescans: list[Rescan]
    against: ArmDifferences


def read_scan(recipe: Recipe, run: RunFolder) -> Scan | None:
    """Read the scan; None if it has not run.

    Raises:
        UserError: one of its files is damaged.
    """
    folder = run.path / "scan"
    summary = read_summary(folder / "summary.json", ScanSummary)
    if summary is None:
        return None
    rescans, identities = [], dict[str, str]()
    scanned = read_record(folder)
    for name in recipe.arms:
        again = run.path / "rescan" / name
        record = read_record(again)
        # Made beside another scan, its medians and its threshold are of other examples.
        if scanned and record and record.inputs.get("scan") != scanned.identity:
            continue
        if name != BASE_ARM and (rescan := read_summary(again / "summary.json", RescanSummary)) is not None:
            if record is not None:
                identities[name] = record.identity
            rescans.append(Rescan(msgspec.structs.replace(rescan, arm=name), _read_densities(again)))
    return Scan(summary, _read_densities(folder), rescans, _read_against(run, identities))


def _read_against(run: RunFolder, identities: Mapping[str, str]) -> ArmDifferences:
    against = read_summary(run.path / "rescan" / "arms.json", ArmDifferences) or ArmDifferences()
    # An arm that was scanned again since is another one.
    same = {arm for arm, identity in against.identities.items() if identities.get(arm) == identity}
    kept = [of for of in against.differences if {of.arm, against.reference} <= same]
    return msgspec.structs.replace(against, differences=kept)


def _read_densities(folder: Path) -> Densities:
    return read_summary(folder / "densities.json", Densities) or Densities()


def read_shown_examples(run: RunFolder) -> list[ShownExample]:
    """Read the most memorized examples, the most memorized first.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / "scan" / "most_memorized.jsonl"
    return list(read_rows(path, ShownExample)) if path.exists() else []
