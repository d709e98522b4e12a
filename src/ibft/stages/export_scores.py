"""The scores for an arm's model card: from the run's report, if they are of the arm as it is trained now."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ibft.artifacts.metrics import Metrics
from ibft.artifacts.report import read_report
from ibft.artifacts.summaries import read_json
from ibft.pages.model_card import CardScores
from ibft.run.folder import RunFolder
from ibft.run.inputs import difference, plain
from ibft.run.recipe import BASE_ARM
from ibft.run.stage import read_record
from ibft.stages.identity import weights_identity
from ibft.statistics.pass_at_k import metric_name

__all__ = ["scores_for_card"]

_REMEDY = "Remove it, then run `ibft run RECIPE` again."


def scores_for_card(run: RunFolder, arm: str, weights: Path) -> CardScores | str:
    """Return the scores of the base model and of `arm` in `report/report.json`, or a sentence why there are none.

    Args:
        run: the run folder.
        arm: the trained arm.
        weights: the folder of its weights.

    Raises:
        UserError: a file is damaged.
    """
    comparison = read_report(run.path / "report")
    if comparison is None:
        return "Not measured: the run that made this model has no report."
    shown = [row for name in (BASE_ARM, arm) for row in comparison.arms if row.name == name]
    if arm not in {row.name for row in shown}:
        return "Not measured: the report of the run that made this model does not have it."
    benchmark = ""
    for row in shown:
        if not _is_current(run, row.name, weights):
            return "Not measured: the report of the run that made this model is of another training."
        judged = read_json(run.path / "judge" / row.name / "metrics.json", Metrics, _REMEDY)
        # Judging again leaves the identities as they are (what the sandbox failed on is tried again): figures decide.
        same = [name for k in comparison.k if (name := metric_name(k)) in judged.metrics]
        if (row.num_problems, row.num_samples) != (judged.num_problems, judged.num_samples) or any(
            row.metrics[name] != judged.metrics[name] for name in same
        ):
            return "Not measured: the report of the run that made this model is older than its last evaluation."
        benchmark = judged.problems
    notes = [note for note in comparison.notes if not note.startswith("Not judged yet")]
    return CardScores(msgspec.structs.replace(comparison, arms=shown, notes=notes), benchmark)


def _is_current(run: RunFolder, arm: str, weights: Path) -> bool:
    """Decide whether what was judged was sampled from the weights that are in the run folder."""
    judged, sampled = (read_record(run.path / stage / arm) for stage in ("judge", "generate"))
    if judged is None or sampled is None or judged.inputs.get("generate") != sampled.identity:
        return False
    if arm == BASE_ARM:
        return True
    trained = read_record(run.path / "train" / arm)
    made_from = plain({"train": trained and trained.identity, "weights": weights_identity(weights)})
    return trained is not None and difference(sampled.inputs, made_from, is_part=True) is None
