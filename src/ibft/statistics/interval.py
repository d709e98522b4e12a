"""An interval: two ends."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Interval"]


class Interval(NamedTuple):
    """A 95% interval; both ends are NaN where the value is undefined."""

    low: float
    high: float
