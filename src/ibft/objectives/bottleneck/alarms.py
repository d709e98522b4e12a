"""Overload and collapse: is the bottleneck the whole update, or does it not act on the model at all?

Both are read from the gauges in `train/<arm>/log.jsonl`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import Alarm
from ibft.objectives.alarms import MIN_ROWS
from ibft.objectives.bottleneck.form import Form

__all__ = ["COLLAPSE_RATIO", "OVERLOAD_RATIO", "find_alarms"]

# The limits are this project's. The published loss on SmolLM2-135M had ratios of 186 to 630 over the first 20 steps,
# and 2.1 at step 30.
OVERLOAD_RATIO = 10.0
"""The bottleneck's gradient into the LoRA over the cross-entropy's, above which a step is the bottleneck's alone."""
COLLAPSE_RATIO = 0.01
"""The same ratio; below it, the bottleneck does not act on the model."""
COLLAPSE_KL = 0.1
"""Nats per response token; below it, the code says next to nothing about its input."""
COLLAPSE_SHARE = 0.01
"""Share of the code's dimensions; with fewer of them active, the bottleneck is closed."""


class _Reading(NamedTuple):
    """One gauge in one row."""

    step: int
    value: float


def find_alarms(
    rows: Sequence[TrainingLog], *, bottleneck_dim: int, form: type[Form], warmup_steps: int = 0
) -> list[Alarm]:
    """Return at most one alarm of each kind, overload first.

    Rows count where `ib/alpha` is above 0, so an arm with alpha = 0 has no alarm; a gauge that a row lacks, or that
    is null there, neither continues nor ends a series.

    overload: `ib/grad_ratio` above 10 in 3 rows in a row, or in all where there are fewer than 3 rows.
    collapse: active units below 1%, KL below 0.1 nats per token, or `ib/grad_ratio` below 0.01, in 3 rows in a row
        and in every row since, up to the last.

    Args:
        rows: an arm's log so far, in the order of its steps.
        bottleneck_dim: dimensions of the code.
        form: the objective's; it names the remedies.
        warmup_steps: up to this step the ratio may be small, since the weight is: no collapse by that sign.
    """
    weighed = [row for row in rows if (row.metrics.get("ib/alpha") or 0) > 0]
    alarms = (_overload(weighed, form), _collapse(weighed, bottleneck_dim, form, warmup_steps))
    return [alarm for alarm in alarms if alarm is not None]


def _overload(rows: Sequence[TrainingLog], form: type[Form]) -> Alarm | None:
    readings = _readings(rows, "ib/grad_ratio")
    is_over = [reading.value > OVERLOAD_RATIO for reading in readings]
    is_alarm = _series(is_over)
    if not readings or not (any(is_alarm) or (len(rows) < MIN_ROWS and all(is_over))):
        return None
    over = list(itertools.compress(readings, is_alarm)) or readings
    first, last = over[0].step, over[-1].step
    logged = sum(first <= reading.step <= last for reading in readings)
    number = f"all {logged}" if len(over) == logged else f"{len(over)} of {logged}"
    where = f"at step {first}" if first == last else f"at {number} logged steps from {first} to {last}"
    return Alarm(
        kind="overload",
        first_step=first,
        last_step=last,
        message=(
            f"The bottleneck's gradient into the LoRA was more than {OVERLOAD_RATIO:g} times the cross-entropy's "
            f"{where}, up to {_figure(max(reading.value for reading in over))} times: with gradient clipping, the "
            f"bottleneck is then nearly the whole update. Remedy: {form.overload_remedy}."
        ),
    )


def _collapse(rows: Sequence[TrainingLog], bottleneck_dim: int, form: type[Form], warmup_steps: int) -> Alarm | None:
    # `in_path` ends with rows in which it replaces nothing.
    rows = [row for row in rows if row.metrics.get("ib/replaced") != 0]
    units = _trailing(_readings(rows, "ib/active_units"), lambda value: value < COLLAPSE_SHARE * bottleneck_dim)
    kl = _trailing(_readings(rows, "ib/kl_per_token"), lambda value: value < COLLAPSE_KL)
    warm = [row for row in rows if row.step > warmup_steps]
    ratio = _trailing(_readings(warm, "ib/grad_ratio"), lambda value: value < COLLAPSE_RATIO)
    signs = []
    if units:
        signs.append(f"{_figure(units[-1].value)} of {bottleneck_dim} dimensions are active (alarm below 1%)")
    if kl:
        signs.append(f"the KL is {_figure(kl[-1].value)} nats per token (alarm below {COLLAPSE_KL:g})")
    if ratio:
        signs.append(
            f"the bottleneck's gradient into the LoRA is {_figure(ratio[-1].value)} of the cross-entropy's "
            f"(alarm below {COLLAPSE_RATIO:g})"
        )
    if not signs:
        return None
    steps = [reading.step for reading in (*units, *kl, *ratio)]
    first, last = min(steps), max(steps)
    if units or kl:
        what, remedy = "The head alone has closed the bottleneck (posterior collapse)", form.closed_remedy
    else:
        head = ", or the head has adapted to it" if form.has_head else ""
        what, remedy = f"Its weight is too small{head}", form.weak_remedy
    listed = " and ".join(filter(None, [", ".join(signs[:-1]), signs[-1]]))
    return Alarm(
        kind="collapse",
        first_step=first,
        last_step=last,
        message=(
            f"The penalty has not acted on the model since step {first}. {what}: at step {last}, {listed}. "
            f"Remedy: {remedy}."
        ),
    )


def _readings(rows: Sequence[TrainingLog], name: str) -> list[_Reading]:
    return [_Reading(row.step, value) for row in rows if (value := row.metrics.get(name)) is not None]


def _series(is_over: Sequence[bool]) -> list[bool]:
    """Mark each reading that is one of at least `MIN_ROWS` in a row over the limit."""
    kept = [False] * len(is_over)
    for start in range(len(is_over) - MIN_ROWS + 1):
        if all(is_over[start : start + MIN_ROWS]):
            kept[start : start + MIN_ROWS] = [True] * MIN_ROWS
    return kept


def _trailing(readings: Sequence[_Reading], is_low: Callable[[float], bool]) -> list[_Reading]:
    """Return the last readings, as far back as all of them are low; none if they are fewer than `MIN_ROWS`."""
    low = list(itertools.takewhile(lambda reading: is_low(reading.value), reversed(readings)))
    return low[::-1] if len(low) >= MIN_ROWS else []


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.001 or value == 0 else "less than 0.001"
