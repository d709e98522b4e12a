"""The rescanned arms beside each other: has one memorized less of the same training data than another?

rescan/arms.json    `artifacts.rescan.ArmDifferences`

Like the report it is not a `Stage`: it takes a second, and is made again after each rescan of what is there.
"""

from __future__ import annotations

from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.artifacts.rescan import ArmDifference, ArmDifferences
from ibft.artifacts.rows import Subset
from ibft.artifacts.score_names import AGAINST_BASE
from ibft.artifacts.score_table import SCORES_FILE
from ibft.findings.columns import Columns
from ibft.findings.membership import Scored, differences
from ibft.findings.score_columns import common_rows, read_columns, read_places
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.stage import StageRecord, read_record

__all__ = ["compare_rescanned"]


def compare_rescanned(recipe: Recipe, run: RunFolder) -> None:
    """Compare every rescanned arm with plain fine-tuning, or with the first arm where none of them is that.

    Raises:
        UserError: a table of scores is damaged, or the file cannot be written.
    """
    rescanned = _rescanned(recipe, run)
    path = run.path / "rescan" / "arms.json"
    if len(rescanned) < 2:
        path.unlink(missing_ok=True)
        return
    plain = {objective.arm for objective in recipe.objective if objective.is_plain}
    reference = next((arm for arm in rescanned if arm in plain), next(iter(rescanned)))
    found: list[ArmDifference] = []
    for arm in rescanned:
        if arm != reference:
            found += differences(arm, *_both(recipe, run, arm, reference), recipe.scan.score, recipe.seed)
    identities = {arm: record.identity for arm, record in rescanned.items()}
    with run.writing():
        write_atomically(
            path, pretty_json(ArmDifferences(reference=reference, identities=identities, differences=found))
        )


def _rescanned(recipe: Recipe, run: RunFolder) -> dict[str, StageRecord]:
    """Return the arms whose rescans have others than trained examples, of the scan that the folder holds."""
    scanned = read_record(run.path / "scan")
    found = {}
    for objective in recipe.objective:
        folder = run.path / "rescan" / objective.arm
        record = read_record(folder)
        if record and scanned and record.inputs.get("scan") == scanned.identity:
            path = folder / SCORES_FILE
            if read_places(path, "train") and read_places(path, "control"):
                found[objective.arm] = record
    return found


def _both(recipe: Recipe, run: RunFolder, arm: str, reference: str) -> tuple[Scored, Scored]:
    """Return the rows that both arms have."""
    paths = (run.path / "rescan" / arm / SCORES_FILE, run.path / "rescan" / reference / SCORES_FILE)

    def columns(subset: Subset) -> list[Columns]:
        rows, names = common_rows(*paths, subset), (*recipe.scan.score_names, *AGAINST_BASE)
        return [read_columns(path, subset, names).take(kept) for path, kept in zip(paths, rows, strict=True)]

    of_arm, of_reference = map(Scored, columns("train"), columns("control"))
    return of_arm, of_reference
