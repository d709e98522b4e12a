"""The judged arms of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.metrics import Metrics, summarize
from ibft.artifacts.report import Arm, FormatShares
from ibft.artifacts.rows import Result, Sample
from ibft.artifacts.summaries import read_summary
from ibft.artifacts.tally import tally
from ibft.pages.format_shares import ProblemTally, format_shares
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.statistics.pass_at_k import Count, metric_name

__all__ = ["JudgedArm", "read_arm"]

_UNJUDGED = ("excluded", "infrastructure_error")
_NO_PROGRAM = ("no_code", "syntax_error")


class JudgedArm(NamedTuple):
    """An arm and its tally of each problem that has samples, by task id."""

    arm: Arm
    counts: dict[str, Count]


def read_arm(recipe: Recipe, run: RunFolder, name: str, ks: Sequence[int]) -> JudgedArm | None:
    """Read the arm `name`; None if it has not been judged. Metrics that the judge did not compute for `ks` are added.

    Raises:
        UserError: a file of the arm is damaged.
    """
    folder = run.path / "judge" / name
    known = read_summary(folder / "metrics.json", Metrics, "Remove it, then run `ibft judge RECIPE` again.")
    if known is None:
        return None
    # What could not be judged is not a failure: such problems are left out of rates and comparisons alike.
    results = [row for row in read_rows(folder / "results.jsonl", Result) if row.status not in _UNJUDGED]
    counts = tally(results).counts
    metrics = dict(known.metrics)
    if missing := [k for k in ks if metric_name(k) not in metrics]:
        # A problem without any result counts as one without samples: its Pass@k is undefined, not left out.
        failed = known.statuses.get("infrastructure_error", 0)
        metrics |= summarize(
            [*counts.values(), *[Count(0, 0)] * (known.num_problems - len(counts))],
            missing,
            num_resamples=recipe.report.bootstrap_resamples,
            seed=recipe.seed,
            reason=f"{failed} samples could not be judged" if failed else None,
        )
    arm = Arm(
        name=name,
        num_problems=known.num_problems,
        num_samples=known.num_samples,
        metrics=metrics,
        statuses=known.statuses,
        sandbox=known.sandbox,
        shares=_shares(recipe, run, name, results, counts),
        hollow=known.hollow,
        # The page says that an arm is hollow in a box of its own.
        notes=[note for note in known.notes if known.hollow is None or note != known.hollow.message],
    )
    return JudgedArm(arm, counts)


def _shares(
    recipe: Recipe, run: RunFolder, name: str, results: Sequence[Result], counts: Mapping[str, Count]
) -> FormatShares:
    """Return how many of the judged samples are programs, pass and were cut."""
    path = run.path / "generate" / name / "samples.jsonl"
    samples = list(read_rows(path, Sample)) if path.exists() else []
    judged = {(result.task_id, result.index) for result in results}
    cuts = Counter(
        row.task_id for row in samples if row.finish_reason == "length" and (row.task_id, row.index or 0) in judged
    )
    # Samples of another tool, or results without their samples, do not say how they ended.
    is_recorded = bool(samples) and all(sample.finish_reason is not None for sample in samples)
    programs = Counter(row.task_id for row in results if row.status not in _NO_PROGRAM and row.completion.strip())
    tallies = [
        ProblemTally(num_samples, programs[task_id], num_passed, cuts[task_id] if is_recorded else None)
        for task_id, (num_samples, num_passed) in counts.items()
    ]
    return format_shares(tallies, num_resamples=recipe.report.bootstrap_resamples, seed=recipe.seed)
