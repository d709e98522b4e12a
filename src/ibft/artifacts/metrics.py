"""From tallies to `metrics.json`: every Pass@k and Pass@k^(m) with its interval, or the reason it has none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from ibft.artifacts.hollow import Hollow
from ibft.artifacts.json_lines import pretty_json
from ibft.errors import UserError
from ibft.statistics.pass_at_k import Count, curve_of_each, metric_name, why_undefined
from ibft.statistics.uncertainty import bootstrap_means

__all__ = ["Curve", "Metric", "Metrics", "curves", "means", "require_k", "summarize"]


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mean over all problems with its 95% interval; both are None where undefined, and `reason` says why."""

    value: float | None
    ci95: tuple[float, float] | None
    reason: str | None = None


class Curve(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pass@k^(m) for m = 1 to k as arrays, with the ends of the 95% intervals.

    The same figures as in `metrics`, in the form a plot needs. All None where undefined; `reason` says why.
    """

    values: tuple[float, ...] | None
    ci95_low: tuple[float, ...] | None
    ci95_high: tuple[float, ...] | None
    reason: str | None = None


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `metrics.json`.

    `curves` has the curve of each k, under its number. `statuses` counts the results by `rows.Status`; `notes` are
    sentences a reader of the figures should see; `k`, `seed` and `bootstrap_resamples` are what the figures were
    computed with. `excluded` names the problems that are left out since their own reference does not pass, with the
    reason; `num_weak` counts the samples whose tests ran in the candidate's interpreter, `num_extracted` those whose
    text held more than the program that was judged. `hollow` says that most samples hold no program. `readings` are the
    figures if others were counted as correct (`tally.Tally`), without intervals and where they are defined; the two on
    warnings only where there are such samples, which `num_warned` counts.
    """

    num_problems: int
    num_samples: int
    metrics: dict[str, Metric]
    statuses: dict[str, int]
    problems: str
    sandbox: str
    tool_versions: dict[str, str]
    k: tuple[int, ...]
    seed: int
    bootstrap_resamples: int
    excluded: dict[str, str] = {}
    num_weak: int = 0
    num_extracted: int = 0
    num_warned: int = 0
    readings: dict[str, dict[str, float]] = {}
    hollow: Hollow | None = None
    notes: list[str] = []
    curves: dict[str, Curve] = {}

    @property
    def unjudged(self) -> str | None:
        """The sentence, without its period, why not one sample could be judged; None where one was."""
        num_failed = self.statuses.get("infrastructure_error", 0)
        if self.num_samples > num_failed:
            return None
        if num_failed:
            return f"the sandbox failed on all of the {num_failed} samples: see `ibft doctor`"
        task_id, reason = next(iter(self.excluded.items()), ("", "there are no samples"))
        return (
            f"the problems of all samples are excluded, since their own reference solutions do not pass here (first: "
            f"{task_id}: {reason})"
        )

    def to_json(self) -> bytes:
        """Return the file's content, indented for people, each list of numbers on one line."""
        # A curve with a line for each of its numbers would bury everything else.
        indented = pretty_json(self)
        # A raw newline cannot occur inside a JSON string, so only lists match.
        return re.sub(rb"\[\n[\d\s.,e+-]*\]", lambda numbers: b" ".join(numbers[0].split()), indented)

    @classmethod
    def from_json(cls, data: bytes) -> Metrics:
        """Read what `to_json` wrote."""
        return msgspec.json.decode(data, type=cls)


def summarize(
    counts: Sequence[Count], k: Sequence[int], *, num_resamples: int, seed: int, reason: str | None = None
) -> dict[str, Metric]:
    """Compute Pass@k for each k, and Pass@k^(m) for every m from 2 to k, by name in ascending order.

    Args:
        counts: one tally for each problem of the benchmark, problems without samples included.
        k: the numbers of samples drawn.
        num_resamples: resamples of the bootstrap over problems.
        seed: random seed of the bootstrap.
        reason: makes every metric undefined, where something other than too few samples forbids them.
    """
    metrics: dict[str, Metric] = {}
    defined: dict[str, list[float]] = {}
    for size in sorted(set(k)):
        why = reason or why_undefined(counts, size)
        # Undefined first, so that the order is by k and m whatever is defined.
        metrics |= {metric_name(size, m): Metric(None, None, why) for m in range(1, size + 1)}
        if why is None:
            values_of_each_m = curve_of_each(counts, size)
            defined |= {metric_name(size, m): values for m, values in enumerate(values_of_each_m, start=1)}
    # All at once: the resampled problems are drawn one time for all metrics.
    intervals = bootstrap_means(list(defined.values()), num_resamples=num_resamples, seed=seed)
    for (name, values), interval in zip(defined.items(), intervals, strict=True):
        metrics[name] = Metric(math.fsum(values) / len(values), (interval.low, interval.high))
    return metrics


def means(counts: Sequence[Count], k: Sequence[int]) -> dict[str, float]:
    """Return Pass@k and Pass@k^(k) without intervals, for each k for which they are defined."""
    figures = {}
    for size in sorted(set(k)):
        if why_undefined(counts, size) is None:
            of_each_m = curve_of_each(counts, size)
            figures[metric_name(size)] = math.fsum(of_each_m[0]) / len(counts)
            figures[metric_name(size, size)] = math.fsum(of_each_m[-1]) / len(counts)
    return figures


def require_k(k: Sequence[int]) -> None:
    """Refuse numbers that are not the k of Pass@k.

    Raises:
        UserError: there is none, or one is below 1.
    """
    if not k or min(k) < 1:
        raise UserError(f"k is {','.join(map(str, k)) or 'empty'}: give one or more numbers from 1 up, such as 1,5,10.")


def curves(metrics: Mapping[str, Metric], k: Sequence[int]) -> dict[str, Curve]:
    """Return the curve of each k, by `str(k)` in ascending order, from the metrics of `summarize` for these k."""
    return {str(size): _curve([metrics[metric_name(size, m)] for m in range(1, size + 1)]) for size in sorted(set(k))}


def _curve(points: Sequence[Metric]) -> Curve:
    values = [point.value for point in points if point.value is not None]
    intervals = [point.ci95 for point in points if point.ci95 is not None]
    if len(values) < len(points) or len(intervals) < len(points):
        return Curve(None, None, None, next((point.reason for point in points if point.reason), None))
    low, high = zip(*intervals, strict=True)
    return Curve(tuple(values), low, high)
