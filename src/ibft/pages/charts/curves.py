"""Lines over a common x axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.pages.charts.style import (
    LIGHT,
    Drawing,
    add_legend,
    log_axis,
    new_figure,
    percent_end,
    series_color,
    series_line,
    series_marker,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "draw_curves"]

_MAX_UNMARKED = 4
"""This many lines can be distinguished by color and dashes alone."""


class Curve(NamedTuple):
    """One series: equally long x and y; `intervals` (same length) adds whiskers and markers."""

    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] | None = None


def draw_curves(
    series: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    *,
    whole_x: bool = False,
    is_percentage: bool = False,
    is_log: bool = False,
    styles: Mapping[str, int] | None = None,
    targets: Mapping[str, Curve] | None = None,
    limits: Sequence[float] = (),
    ticks: Mapping[float, str] | None = None,
) -> Drawing:
    """Draw lines over a common x axis, one per series.

    Args:
        series: name to curve.
        x_label: with its unit.
        y_label: with its unit.
        whole_x: x counts something, so only whole numbers are marked.
        is_percentage: y is in percent, so its axis begins at zero.
        is_log: y has a logarithmic axis; what is not positive falls off its lower end.
        styles: the number of each series' color and marker, if a name is to have the same in several charts.
        targets: a curve beside a series, which it should follow, as a thin line in its color.
        limits: values of y that are marked right across.
        ticks: the values of x that are marked, with their texts.
    """
    from matplotlib.ticker import MaxNLocator

    numbers = {name: styles[name] if styles else position for position, name in enumerate(series)}
    figure, axes = new_figure(height_in=2.6)
    if is_log:
        log_axis(axes)
    for limit in limits:
        axes.axhline(limit, color=LIGHT["muted"], linewidth=1, linestyle=(0, (2, 2)))
    for position, (name, curve) in enumerate(series.items()):
        look = {"color": series_color(numbers[name]), "linestyle": series_line(numbers[name]), "label": name}
        # Whiskers of several series at one x would hide each other.
        shift = (position - (len(series) - 1) / 2) * _gap(ticks)
        _draw(
            axes, curve, series_marker(numbers[name]), look, position, len(series), shift, is_clipped=not is_percentage
        )
    for name, curve in (targets or {}).items():
        axes.plot(curve.x, curve.y, color=series_color(numbers[name]), linewidth=0.8)
        if curve.intervals is not None:
            axes.vlines(curve.x, *zip(*curve.intervals, strict=True), color=series_color(numbers[name]), linewidth=0.5)
    if ticks is not None:
        axes.set_xticks(list(ticks), list(ticks.values()))
    if whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    if is_percentage:
        axes.set_ylim(0, percent_end(axes.get_ylim()[1]))
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=12)  # beside the axis it would be turned, and hard to read
    add_legend(figure, axes)
    last = "; ".join(f"{name} ends at {curve.y[-1]:.3g}" for name, curve in series.items() if len(curve.y))
    return Drawing(figure, f"{y_label} over {x_label}: {last}")


def _gap(ticks: Mapping[float, str] | None) -> float:
    """Return how far apart two series are drawn that have whiskers."""
    return 0.08 if ticks is None else 0.01 * (max(ticks) - min(ticks))


def _draw(
    axes: Axes,
    curve: Curve,
    marker: str,
    look: dict[str, Any],
    position: int,
    number: int,
    shift: float,
    *,
    is_clipped: bool,
) -> None:
    """Draw the curve that is number `position` of `number`."""
    if curve.intervals is None:
        # A line through one point is invisible, so a single point is marked; of many lines, some points of each.
        is_marked = len(curve.x) == 1 or number > _MAX_UNMARKED
        every = max(1, len(curve.x) // 6)
        where = (position * every // number, every)
        axes.plot(curve.x, curve.y, marker=marker if is_marked else "", markevery=where, linewidth=1.8, **look)
        return
    x = [value + shift for value in curve.x]
    axes.plot(x, curve.y, marker=marker, markersize=6, clip_on=is_clipped, linewidth=1.8, **look)
    axes.vlines(x, *zip(*curve.intervals, strict=True), color=look["color"], linewidth=1.2, alpha=0.8)
