"""The comparison of the judged arms: what the report and its table say, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibft.artifacts.metrics import Metric
from ibft.artifacts.report import Comparison, Difference, Elicitation, FormatShares
from ibft.comparison import Scores, compare_all
from ibft.errors import UserError
from ibft.objectives.alarms import alarm_note
from ibft.pages.arms import JudgedArm, read_arm
from ibft.pages.elicitation import read_elicitation
from ibft.pages.evidence import read_alarms
from ibft.pages.forgetting import read_forgetting
from ibft.pages.verdict import decide, samples_per_problem
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.statistics.pass_at_k import metric_name

__all__ = ["MAX_COLUMNS", "Cell", "Row", "asked_rows", "compare", "comparison_rows", "headline_names"]

# Below that the rule cannot see that one arm may win much on problems of a rare kind (docs/statistics.md).
_FEW_PROBLEMS = 20
MAX_COLUMNS = 5
"""Tables with more arms than that have a row for each, not a column."""


class Cell(NamedTuple):
    """A table cell: the figure, and below it its interval or the reason why there is none."""

    text: str
    detail: str = ""


class Row(NamedTuple):
    """A table row: what is measured, and one cell for each arm of the comparison."""

    label: str
    cells: list[Cell]

    @property
    def is_shared(self) -> bool:
        """True if no cell has a figure, all for one and the same reason."""
        return self.cells[0].text == "undefined" and len(set(self.cells)) == 1


def compare(recipe: Recipe, run: RunFolder) -> Comparison:
    """Read every judged arm of the recipe and compare them.

    Raises:
        UserError: no arm of the recipe has been judged, or a file of one is damaged.
    """
    ks = sorted({1, *recipe.report.k})  # Pass@1 decides, whatever else is shown
    judged = [arm for name in recipe.arms if (arm := read_arm(recipe, run, name, ks)) is not None]
    if not judged:
        raise UserError(f"{run.path} has no judged arm yet. Run `ibft judge RECIPE` first, or `ibft run RECIPE`.")
    arms = [arm for arm, _ in judged]
    # An undefined Pass@1 is unknown, not 0: such an arm neither wins nor loses.
    differences, undefined = compare_all(
        {arm.name: Scores.of_counts(counts) for arm, counts in judged if arm.pass_at_1.value is not None}
    )
    for pair in undefined:
        raise UserError(f"{pair.reason}. Judge both on one benchmark: run `ibft judge RECIPE`.")
    elicitation = read_elicitation(recipe, run)
    verdict = decide(arms, differences, recipe, elicitation)
    alarms = read_alarms(recipe, run)
    return Comparison(
        headline=verdict.headline,
        verdict=verdict.sentence,
        advice=verdict.advice,
        candidates=verdict.candidates,
        arms=arms,
        differences=differences,
        elicitation=elicitation,
        forgetting=read_forgetting(recipe, run),
        alarms=alarms,
        notes=[
            *_notes(recipe, judged, differences, elicitation),
            *(alarm_note(name, alarm) for name, of_arm in alarms.items() for alarm in of_arm),
        ],
        k=ks,
        temperature=recipe.generate.temperature,
        seed=recipe.seed,
        bootstrap_resamples=recipe.report.bootstrap_resamples,
    )


def headline_names(ks: Sequence[int]) -> list[str]:
    """Return the metrics to show for each k: Pass@k, and from k = 2 on Pass@k^(k)."""
    return [metric_name(k, m) for k in ks for m in sorted({1, k})]


def comparison_rows(comparison: Comparison) -> list[Row]:
    """Return the headline table as text: a row for each metric, a cell for each of `comparison.arms`."""
    arms = comparison.arms
    return [
        *(
            Row(name.capitalize(), [_metric_cell(arm.metrics[name]) for arm in arms])
            for name in headline_names(comparison.k)
        ),
        Row("Problems", [Cell(str(arm.num_problems)) for arm in arms]),
        Row("Samples per problem", [Cell(samples_per_problem(arm)) for arm in arms]),
        *_share_rows([arm.shares for arm in arms]),
        # Pass@k^(k) rewards low entropy: arms are comparable only at equal temperature.
        Row("Temperature", [Cell(f"{comparison.temperature:g}") for _ in arms]),
    ]


def _share_rows(shares: Sequence[FormatShares]) -> list[Row]:
    """Return the rows that separate format from ability, a cell for each of `shares`."""
    return [
        Row("Answer is a program", [_metric_cell(of_arm.program) for of_arm in shares]),
        Row("Passes if a program", [_metric_cell(of_arm.passes_if_program) for of_arm in shares]),
        Row("Cut at the token limit", [_metric_cell(of_arm.cut) for of_arm in shares]),
    ]


def asked_rows(elicitation: Elicitation) -> list[Row]:
    """Return the table of greedy answers: a row for each measure, a cell for each of `elicitation.asked`."""
    asked = elicitation.asked
    return [Row("Pass@1", [_metric_cell(arm.pass_at_1) for arm in asked]), *_share_rows([arm.shares for arm in asked])]


def _notes(
    recipe: Recipe, judged: Sequence[JudgedArm], differences: Sequence[Difference], elicitation: Elicitation | None
) -> list[str]:
    notes = [f"{arm.name}: {note}." for arm, _ in judged for note in arm.notes]
    if elicitation is not None and elicitation.missing:
        notes.append(
            f"Asked and not judged yet, or not without failures of the sandbox: {', '.join(elicitation.missing)}."
        )
    if elicitation is not None and elicitation.not_asked:
        notes.append(
            f"Formats that do not apply to base, or in which it cannot be asked: {', '.join(elicitation.not_asked)}."
        )
    if absent := [name for name in recipe.arms if name not in {arm.name for arm, _ in judged}]:
        notes.append(f"Not judged yet: {', '.join(absent)}.")
    sizes = {arm.num_problems for arm, _ in judged}
    if len(sizes) > 1 or any(difference.num_problems < min(sizes) for difference in differences):
        notes.append("The arms were not judged on the same problems; differences count the shared ones only.")
    # With one sample per problem the rule is exact: differences of -1, 0 and 1 with mean 0 are symmetric.
    if any(difference.is_separated and difference.num_problems < _FEW_PROBLEMS for difference in differences) and any(
        count.num_samples > 1 for _, counts in judged for count in counts.values()
    ):
        notes.append(
            f"Fewer than {_FEW_PROBLEMS} problems: what separates the arms here may turn on problems of a kind that so "
            "few do not contain."
        )
    return notes


def _metric_cell(metric: Metric) -> Cell:
    if metric.value is None:
        return Cell("undefined", metric.reason or "no reason recorded")
    detail = "" if metric.ci95 is None else f"{100 * metric.ci95[0]:.1f}–{100 * metric.ci95[1]:.1f}"
    return Cell(f"{100 * metric.value:.1f}%", detail)
