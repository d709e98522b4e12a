"""Dots with whiskers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ibft.pages.charts.style import (
    LIGHT,
    Drawing,
    add_legend,
    new_figure,
    percent_end,
    series_color,
    series_line,
    series_marker,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Dot", "draw_against", "draw_intervals", "draw_named_intervals"]


class Dot(NamedTuple):
    """A value with its interval, in the unit of the axis; `interval` is None where there is none."""

    value: float
    interval: tuple[float, float] | None


def draw_intervals(rows: Mapping[str, Mapping[str, Dot]], x_label: str, *, styles: Mapping[str, int]) -> Drawing:
    """Draw dots with whiskers, in percent: one band per row, in it one line per series.

    Args:
        rows: row label to the dots of the series; a series that a row lacks leaves its line empty.
        x_label: with its unit.
        styles: series name to the number of its color and marker, in the order of the lines.
    """
    step = 0.26
    band = max(1, len(styles)) * step + 0.3
    figure, axes = new_figure(height_in=0.7 + len(rows) * band)
    centers = [(len(rows) - 1 - row) * band for row in range(len(rows))]
    for line, (name, index) in enumerate(styles.items()):
        offset = ((len(styles) - 1) / 2 - line) * step
        points = [(c + offset, dots[name]) for c, dots in zip(centers, rows.values(), strict=True) if name in dots]
        for y, dot in points:
            if dot.interval is not None:
                axes.hlines(y, *dot.interval, color=series_color(index), linewidth=2, clip_on=False)
        axes.plot(
            [dot.value for _, dot in points],
            [y for y, _ in points],
            linestyle="",
            marker=series_marker(index),
            color=series_color(index),
            markersize=7,
            clip_on=False,  # a dot at zero is whole
            zorder=3,
            label=name,
        )
    axes.set_yticks(centers, list(rows))
    axes.set_ylim(-band / 2, (len(rows) - 0.5) * band)
    axes.set_xlim(0, percent_end(axes.get_xlim()[1]))
    # Names, not numbers, are on the y axis.
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=9)  # room for the half of a dot at zero
    for lower, upper in zip(centers[1:], centers, strict=False):
        axes.axhline((lower + upper) / 2, color=LIGHT["grid"], linewidth=0.8)
    axes.set_xlabel(x_label)
    add_legend(figure, axes)
    parts = [f"{row}: " + ", ".join(f"{n} {d.value:.1f}" for n, d in dots.items()) for row, dots in rows.items()]
    return Drawing(figure, f"{x_label}. {'; '.join(parts)}")


def draw_named_intervals(dots: Mapping[str, Dot], x_label: str, *, styles: Mapping[str, int]) -> Drawing:
    """Draw dots with whiskers, in percent, one named line each: for one measure of many series.

    Args:
        dots: series name to its dot, from top to bottom.
        x_label: what is measured, with its unit.
        styles: series name to the number of its color and marker.
    """
    figure, axes = new_figure(height_in=0.6 + len(dots) * 0.28)
    _draw_dots(axes, dots, styles)
    axes.set_xlim(0, percent_end(axes.get_xlim()[1]))
    axes.set_xlabel(x_label)
    return Drawing(figure, f"{x_label}: {', '.join(f'{name} {dot.value:.1f}' for name, dot in dots.items())}")


def draw_against(
    dots: Mapping[str, Dot],
    x_label: str,
    *,
    groups: Mapping[str, Collection[str]],
    reference: tuple[str, Dot] | None,
    neutral: float,
) -> Drawing:
    """Draw dots with whiskers, one named line each, against a reference's value and interval right across.

    Args:
        dots: series name to its dot, from top to bottom.
        x_label: what is measured, with its unit.
        groups: what some series have in common, to their names: each group has a color, a marker and a legend. The
            series of no group are drawn like the first one.
        reference: its name and dot, as a line and a band.
        neutral: the value that means nothing, as a dotted line.
    """
    figure, axes = new_figure(height_in=0.6 + len(dots) * 0.28)
    axes.axvline(neutral, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 2)))
    if reference is not None:
        label, band = reference
        color = series_color(2)
        if band.interval is not None:
            axes.axvspan(*band.interval, color=color, alpha=0.16, linewidth=0, zorder=0.5)
        axes.axvline(band.value, color=color, linewidth=1.6, linestyle=series_line(1), label=label)
    _draw_dots(axes, dots, {name: index for index, names in enumerate(groups.values()) for name in names})
    for index, (group, names) in enumerate(groups.items()):
        if any(name in dots for name in names):
            axes.plot([], [], linestyle="", marker=series_marker(index), color=series_color(index), label=group)
    axes.set_xlabel(x_label)
    add_legend(figure, axes)
    named = dict([reference] if reference else []) | dict(dots)
    return Drawing(figure, f"{x_label}: {', '.join(f'{name} {dot.value:.3f}' for name, dot in named.items())}")


def _draw_dots(axes: Axes, dots: Mapping[str, Dot], styles: Mapping[str, int]) -> None:
    """Draw one line per name, from top to bottom; a name without a style looks like the first."""
    for line, (name, dot) in enumerate(dots.items()):
        color, marker = series_color(styles.get(name, 0)), series_marker(styles.get(name, 0))
        if dot.interval is not None:
            axes.hlines(-line, *dot.interval, color=color, linewidth=2, clip_on=False)
        # Not clipped: a dot at zero is whole.
        axes.plot([dot.value], [-line], linestyle="", marker=marker, color=color, markersize=7, clip_on=False, zorder=3)
    axes.set_yticks([-line for line in range(len(dots))], list(dots))
    axes.set_ylim(0.6 - len(dots), 0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=9)  # room for the half of a dot at zero
