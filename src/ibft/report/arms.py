"""The judged arms of a run, and the paired differences between them.

Two arms count as told apart where the 95% interval of their paired Pass@1 difference (bootstrap over problems)
excludes zero *and* at least 6 problems differ. With fewer, no paired two-sided test can reach 5% (2 / 2^5 = 6.25%),
while a bootstrap of so few problems gives intervals that are too narrow. Several comparisons are not corrected for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ibft.errors import UserError
from ibft.metrics.pass_at_k import Count, metric_name, pass_at_k
from ibft.metrics.summary import Metric, Metrics, summarize
from ibft.metrics.uncertainty import paired_difference
from ibft.recipe import Recipe
from ibft.rows import Result, Sample, read_rows
from ibft.runs import RunFolder

__all__ = ["MIN_DIFFERING_PROBLEMS", "Arm", "Difference", "JudgedArm", "difference", "read_arm"]

MIN_DIFFERING_PROBLEMS = 6


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One judged arm. `truncated_share` (0 to 1) counts samples cut at the token limit; None where not recorded."""

    name: str
    num_problems: int
    num_samples: int
    metrics: dict[str, Metric]
    statuses: dict[str, int]
    sandbox: str
    truncated_share: float | None
    notes: list[str]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Pass@1 of `better` minus that of `other` on the same problems, as a fraction, with its 95% interval.

    `better` has the higher Pass@1 (or comes first in the recipe); `is_separated` says whether that is more than
    chance, by the rule at the head of this module.
    """

    better: str
    other: str
    value: float
    ci95: tuple[float, float]
    num_problems: int
    num_differing: int
    is_separated: bool


class JudgedArm(NamedTuple):
    """An arm and its tally of each problem that has samples, by task id."""

    arm: Arm
    counts: dict[str, Count]


def read_arm(recipe: Recipe, run: RunFolder, name: str, ks: Sequence[int]) -> JudgedArm | None:
    """The arm `name`, None if it has not been judged; metrics that the judge did not compute for `ks` are added.

    Raises:
        UserError: a file of the arm is damaged.
    """
    folder = run.path / "judge" / name
    if not (folder / "metrics.json").exists():
        return None
    try:
        known = Metrics.from_json((folder / "metrics.json").read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"{folder / 'metrics.json'}: {error}. Remove it, then run `ibft judge RECIPE` again.") from None
    results = list(read_rows(folder / "results.jsonl", Result))
    total = Counter(result.task_id for result in results)
    correct = Counter(result.task_id for result in results if result.passed)
    counts = {task_id: Count(number, correct[task_id]) for task_id, number in total.items()}
    metrics = dict(known.metrics)
    missing = [k for k in ks if metric_name(k) not in metrics]
    if missing:
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
        truncated_share=_truncated_share(run, name),
        notes=known.notes,
    )
    return JudgedArm(arm, counts)


def _truncated_share(run: RunFolder, name: str) -> float | None:
    path = run.path / "generate" / name / "samples.jsonl"
    if not path.exists():
        return None
    reasons = [sample.finish_reason for sample in read_rows(path, Sample)]
    if not reasons or None in reasons:
        return None
    return reasons.count("length") / len(reasons)


def difference(a: JudgedArm, b: JudgedArm, recipe: Recipe) -> Difference:
    """The paired difference of two arms whose Pass@1 is defined, over the problems that both were judged on.

    Raises:
        UserError: they share no problem.
    """
    if (b.arm.metrics["pass@1"].value or 0) > (a.arm.metrics["pass@1"].value or 0):
        a, b = b, a
    shared = [task_id for task_id in a.counts if task_id in b.counts]
    if not shared:
        raise UserError(
            f"{a.arm.name} and {b.arm.name} share no judged problem. "
            "Judge both on one benchmark: run `ibft judge RECIPE`."
        )
    values_a = [pass_at_k(*a.counts[task_id], 1) for task_id in shared]
    values_b = [pass_at_k(*b.counts[task_id], 1) for task_id in shared]
    found = paired_difference(values_a, values_b, num_resamples=recipe.report.bootstrap_resamples, seed=recipe.seed)
    num_differing = sum(left != right for left, right in zip(values_a, values_b, strict=True))
    return Difference(
        better=a.arm.name,
        other=b.arm.name,
        value=found.value,
        ci95=(found.interval.low, found.interval.high),
        num_problems=len(shared),
        num_differing=num_differing,
        is_separated=found.interval.low > 0 and num_differing >= MIN_DIFFERING_PROBLEMS,
    )
