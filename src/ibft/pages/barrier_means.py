"""The means of the barrier experiment: over worlds, with Student's intervals; what is compared is paired by world."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ibft.artifacts.barrier import BarrierRow, Data
from ibft.artifacts.gauges import Gauges
from ibft.statistics.interval import Interval
from ibft.statistics.student import student_interval

__all__ = [
    "Condition",
    "Estimate",
    "Means",
    "Measure",
    "Setting",
    "all_of_10",
    "dev_pass_at_1",
    "general",
    "pass_at_1",
    "recited",
]

Measure = Callable[[Gauges], float | None]
Value = TypeVar("Value", int, float, str)


class Setting(NamedTuple):
    """A learning rate and its schedule."""

    schedule: str
    learning_rate: float

    @property
    def name(self) -> str:
        """The setting as people write it: `1e-3 constant`."""
        return f"{rate_name(self.learning_rate)} {self.schedule}"


class Condition(NamedTuple):
    """Rows that differ in their seeds alone; a base has a dose and nothing else."""

    dose: int
    arm: str | None = None
    data: Data | None = None
    setting: Setting | None = None


class Estimate(NamedTuple):
    """A mean over worlds, with its interval (None for fewer than two worlds)."""

    value: float
    interval: Interval | None
    num_worlds: int

    @property
    def sign(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, else 0; also where there is none."""
        if self.interval is None:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)


class Means:
    """The rows of an experiment by their conditions.

    Args:
        rows: of all cells that are there.
    """

    def __init__(self, rows: Sequence[BarrierRow]) -> None:
        self._rows: dict[Condition, list[BarrierRow]] = {}
        for row in rows:
            self._rows.setdefault(_condition(row), []).append(row)
        self.doses = _sorted(row.dose for row in rows)
        self.arms = list(dict.fromkeys(row.arm for row in rows if row.arm is not None))
        self.settings = sorted(
            {c.setting for c in self._rows if c.setting is not None}, key=lambda one: (one.learning_rate, one.schedule)
        )
        self.schedules = _sorted(setting.schedule for setting in self.settings)
        self.num_worlds = len({row.world_seed for row in rows})
        self.depths = _sorted(depth for row in rows if row.gauges for depth in row.gauges.general)

    @property
    def conditions(self) -> list[Condition]:
        """All, in the order of the rows."""
        return list(self._rows)

    def rows(self, condition: Condition) -> list[BarrierRow]:
        """Return a condition's rows."""
        return self._rows.get(condition, [])

    def mean(self, condition: Condition, measure: Measure) -> Estimate | None:
        """Return a measure's mean; None where it is undefined: there is no row, or one has no value."""
        return estimate(list(self._by_world(condition, measure).values()))

    def difference(self, a: Condition, b: Condition, measure: Measure) -> Estimate | None:
        """Return the mean of a - b over the worlds that have both."""
        of_a, of_b = self._by_world(a, measure), self._by_world(b, measure)
        return estimate([of_a[world] - of_b[world] for world in of_a if world in of_b])

    def _by_world(self, condition: Condition, measure: Measure) -> Mapping[int, float]:
        """Return each world's mean over its training seeds, which are not worlds; none if a row has no value."""
        worlds: dict[int, list[float]] = {}
        for row in self.rows(condition):
            value = None if row.gauges is None else measure(row.gauges)
            if value is None:
                return {}
            worlds.setdefault(row.world_seed, []).append(value)
        return {world: statistics.fmean(values) for world, values in worlds.items()}


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean of one value per world; None without any."""
    if not values:
        return None
    interval = student_interval(values)
    return Estimate(statistics.fmean(values), None if math.isnan(interval.low) else interval, len(values))


def pass_at_1(gauges: Gauges) -> float:
    """Return Pass@1 on unseen compositions."""
    return gauges.unseen.pass_at_1


def dev_pass_at_1(gauges: Gauges) -> float:
    """Return Pass@1 on the unseen compositions that settings are chosen on."""
    return gauges.dev.pass_at_1


def all_of_10(gauges: Gauges) -> float:
    """Return Pass@10^(10) on unseen compositions."""
    return gauges.unseen.all_of_10


def recited(gauges: Gauges) -> float | None:
    """Return how often the cue alone recites what was planted."""
    return gauges.recitation[0].from_cue if gauges.recitation else None


def general(depth: int) -> Measure:
    """Return the measure of Pass@1 on general problems of a depth."""
    return lambda gauges: gauges.general[depth].pass_at_1


def rate_name(rate: float) -> str:
    """Return a learning rate as people write it: `1e-3`."""
    digits, _, exponent = f"{rate:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def _condition(row: BarrierRow) -> Condition:
    if row.schedule is None or row.learning_rate is None:
        return Condition(row.dose)
    return Condition(row.dose, row.arm, row.data, Setting(row.schedule, row.learning_rate))


def _sorted(values: Iterable[Value]) -> list[Value]:
    return sorted(set(values))
