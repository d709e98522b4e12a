"""Counts in bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ibft.pages.charts.style import LIGHT, Drawing, add_legend, new_figure, series_color

__all__ = ["Bar", "draw_histogram"]


_LEAST_RANGE = 5.0


class Bar(NamedTuple):
    """How many there are from `start` to `end`, both included; `is_beyond` marks what lies beyond a limit."""

    start: int
    end: int
    height: int
    is_beyond: bool = False


def draw_histogram(bars: Sequence[Bar], x_label: str, y_label: str, *, beyond: str = "beyond") -> Drawing:
    """Draw counts in bins; on a logarithmic axis where the bins grow. Bars beyond a limit are hatched.

    Args:
        bars: in their order; those beyond the limit last.
        x_label: with its unit.
        y_label: what is counted.
        beyond: what bars beyond the limit are called in the legend.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    figure, axes = new_figure(height_in=2.5)
    widths = [bar.end - bar.start for bar in bars if not bar.is_beyond]
    is_log = bool(widths) and max(widths) > 2 * widths[0]
    for is_beyond, label, index, hatch in ((False, None, 1, ""), (True, beyond, 2, "////")):
        chosen = [bar for bar in bars if bar.is_beyond is is_beyond]
        axes.bar(
            [bar.start - 0.5 for bar in chosen],
            [bar.height for bar in chosen],
            [bar.end - bar.start + 1 for bar in chosen],
            align="edge",
            color=LIGHT["grid"] if is_beyond else series_color(index),
            edgecolor=series_color(index) if is_beyond else LIGHT["grid"],
            linewidth=0.8,
            hatch=hatch,
            label=label if chosen else None,
        )
    axes.grid(visible=False, axis="x")
    axes.set_ylim(bottom=0)
    if is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        low, high = axes.get_xlim()
        spare = max(0.0, _LEAST_RANGE - (high - low)) / 2  # on an axis of one number, each tick would be that number
        axes.set_xlim(low - spare, high + spare)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=12)  # beside the axis it would be turned, and hard to read
    add_legend(figure, axes)
    parts = [
        f"{'over ' * bar.is_beyond}{bar.start - bar.is_beyond:,}{'' if bar.is_beyond else f' to {bar.end:,}'}: "
        f"{bar.height:,}"
        for bar in bars
        if bar.height
    ]
    return Drawing(figure, f"{y_label} by {x_label}: {'; '.join(parts) or 'no data'}")
