"""Dots with whiskers, in percent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ibft.charts.style import LIGHT, add_legend, new_figure, percent_end, series_color, series_marker, to_svg

__all__ = ["Dot", "intervals_svg", "named_intervals_svg"]


class Dot(NamedTuple):
    """A value with its interval, in the unit of the axis; `interval` is None where there is none."""

    value: float
    interval: tuple[float, float] | None


def intervals_svg(rows: Mapping[str, Mapping[str, Dot]], x_label: str, *, styles: Mapping[str, int]) -> str:
    """Dots with whiskers, in percent: one band a row, in it one line a series.

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
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=9)  # room for the half of a dot at zero
    for lower, upper in zip(centers[1:], centers, strict=False):
        axes.axhline((lower + upper) / 2, color=LIGHT["grid"], linewidth=0.8)
    axes.set_xlabel(x_label)
    add_legend(figure, axes)
    parts = [f"{row}: " + ", ".join(f"{n} {d.value:.1f}" for n, d in dots.items()) for row, dots in rows.items()]
    return to_svg(figure, f"{x_label}. {'; '.join(parts)}")


def named_intervals_svg(dots: Mapping[str, Dot], x_label: str, *, styles: Mapping[str, int]) -> str:
    """Dots with whiskers, in percent, one named line each: for one measure of many series.

    Args:
        dots: series name to its dot, from top to bottom.
        x_label: what is measured, with its unit.
        styles: series name to the number of its color and marker.
    """
    step = 0.28
    figure, axes = new_figure(height_in=0.6 + len(dots) * step)
    for line, (name, dot) in enumerate(dots.items()):
        color = series_color(styles[name])
        if dot.interval is not None:
            axes.hlines(-line, *dot.interval, color=color, linewidth=2, clip_on=False)
        marker = series_marker(styles[name])
        axes.plot([dot.value], [-line], linestyle="", marker=marker, color=color, markersize=7, clip_on=False, zorder=3)
    axes.set_yticks([-line for line in range(len(dots))], list(dots))
    axes.set_ylim(0.6 - len(dots), 0.6)
    axes.set_xlim(0, percent_end(axes.get_xlim()[1]))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_xlabel(x_label)
    return to_svg(figure, f"{x_label}: {', '.join(f'{name} {dot.value:.1f}' for name, dot in dots.items())}")
