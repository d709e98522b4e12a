"""Charts as SVG text: densities, curves, and dots with whiskers. Pure: data in, the same text out every time.

Each function returns a whole SVG in the light palette, fit for a file of its own. `themed` rewrites the colors
to CSS variables for a page that has dark mode too (`THEME_CSS` defines them). Series differ by marker and line
style as well as by color. Figures are drawn narrow, so that their text stays readable on a phone.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["MARKER_GLYPHS", "THEME_CSS", "Curve", "Dot", "curves_svg", "density_svg", "intervals_svg", "themed"]

# Okabe & Ito's palette for color-blind readers (jfly.uni-koeln.de/color), darkened or lightened per mode until each
# color has a contrast of at least 3:1 (WCAG 1.4.11) with the page's background, #ffffff or #15181c.
_LIGHT = {
    "series-1": "#5a6068",
    "series-2": "#0072b2",
    "series-3": "#c95900",
    "series-4": "#008a64",
    "series-5": "#b0578a",
    "series-6": "#8a6d00",
    "ink": "#1c2024",
    "muted": "#5d646c",
    "grid": "#d9dde2",
}
_DARK = {
    "series-1": "#b4bcc6",
    "series-2": "#56b4e9",
    "series-3": "#ff9d5c",
    "series-4": "#3fcf9f",
    "series-5": "#e79ac5",
    "series-6": "#e3c34a",
    "ink": "#e8ebee",
    "muted": "#a3abb4",
    "grid": "#383e46",
}
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKER_GLYPHS = ("●", "■", "▲", "◆", "▼", "✚")
"""The markers of the series in order, as text: to name a series outside the chart."""

_WIDTH_IN = 5.0
_MAX_BINS = 1024


def _variables(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in palette.items())


THEME_CSS = (
    f":root{{{_variables(_LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(_DARK)}}}}}"
)
"""The colors of `themed` charts as CSS variables, for light and dark screens; paper is light."""


class Dot(NamedTuple):
    """A value with its interval, in the unit of the axis; `interval` is None where there is none."""

    value: float
    interval: tuple[float, float] | None


class Curve(NamedTuple):
    """One series: equally long x and y; `intervals` (same length) adds whiskers and markers."""

    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] | None = None


def density_svg(series: Mapping[str, Sequence[float]], x_label: str) -> str:
    """Densities of several sets of non-negative numbers, each with its median as a vertical line.

    Gaussian kernels with Silverman's bandwidth, reflected at zero so that no mass leaks below it. The axis ends
    at the 99.5th percentile: a few outliers must not squeeze the rest.
    """
    import numpy as np

    arrays: dict[str, NDArray[np.float64]] = {
        name: np.asarray(values, dtype=np.float64) for name, values in series.items() if len(values)
    }
    figure, axes = _figure(height_in=2.5)
    parts = []
    if arrays:
        end = max(float(np.percentile(values, 99.5)) for values in arrays.values()) * 1.05 or 1.0
        grid = np.linspace(0, end, 256, dtype=np.float64)
        for index, (name, values) in enumerate(arrays.items()):
            color, median = _color(index + 1), float(np.median(values))
            density = _kernel_density(values, grid)
            label = f"{name} (n = {len(values)}, median {median:.2f})"
            axes.plot(grid, density, color=color, linestyle=_LINES[index % len(_LINES)], linewidth=2, label=label)
            axes.fill_between(grid, density, color=color, alpha=0.12, linewidth=0)
            axes.axvline(median, color=color, linestyle=_LINES[index % len(_LINES)], linewidth=1)
            parts.append(label)
        axes.set_xlim(0, end)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel("density")
    axes.set_yticks([])
    _legend(figure, axes)
    return _to_svg(figure, f"Density of {x_label}: {'; '.join(parts) or 'no data'}")


def curves_svg(
    series: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    *,
    whole_x: bool = False,
    is_percentage: bool = False,
    styles: Mapping[str, int] | None = None,
) -> str:
    """Lines over a common x axis, one a series.

    Args:
        series: name to curve.
        x_label: with its unit.
        y_label: with its unit; drawn above the axis, where it needs no turned head.
        whole_x: x counts something, so only whole numbers are marked.
        is_percentage: y is in percent, so its axis begins at zero.
        styles: the number of each series' color and marker, where one name has the same in several charts.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(height_in=2.6)
    for position, (name, curve) in enumerate(series.items()):
        index = styles[name] if styles else position
        look: dict[str, Any] = {
            "color": _color(index),
            "linestyle": _LINES[index % len(_LINES)],
            "linewidth": 1.8,
            "label": name,
        }
        if curve.intervals is None:
            # A line through one point is invisible, so a single point is marked.
            axes.plot(curve.x, curve.y, marker=_marker(index) if len(curve.x) == 1 else "", **look)
        else:
            # Whiskers of several series at one x would hide each other.
            shift = (position - (len(series) - 1) / 2) * 0.08
            x = [value + shift for value in curve.x]
            axes.plot(x, curve.y, marker=_marker(index), markersize=6, clip_on=not is_percentage, **look)
            axes.vlines(x, *zip(*curve.intervals, strict=True), color=_color(index), linewidth=1.2, alpha=0.8)
    if whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    if is_percentage:
        axes.set_ylim(0, _percent_end(axes.get_ylim()[1]))
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=12)
    _legend(figure, axes)
    last = "; ".join(f"{name} ends at {curve.y[-1]:.3g}" for name, curve in series.items() if len(curve.y))
    return _to_svg(figure, f"{y_label} over {x_label}: {last}")


def intervals_svg(rows: Mapping[str, Mapping[str, Dot]], x_label: str, *, styles: Mapping[str, int]) -> str:
    """Dots with whiskers, in percent: one band a row, in it one line a series.

    Args:
        rows: row label to the dots of the series; a series that a row lacks leaves its line empty.
        x_label: with its unit.
        styles: series name to the number of its color and marker, in the order of the lines.
    """
    step = 0.26
    band = max(1, len(styles)) * step + 0.3
    figure, axes = _figure(height_in=0.7 + len(rows) * band)
    centers = [(len(rows) - 1 - row) * band for row in range(len(rows))]
    for line, (name, index) in enumerate(styles.items()):
        offset = ((len(styles) - 1) / 2 - line) * step
        points = [(c + offset, dots[name]) for c, dots in zip(centers, rows.values(), strict=True) if name in dots]
        for y, dot in points:
            if dot.interval is not None:
                axes.hlines(y, *dot.interval, color=_color(index), linewidth=2, clip_on=False)
        axes.plot(
            [dot.value for _, dot in points],
            [y for y, _ in points],
            linestyle="",
            marker=_marker(index),
            color=_color(index),
            markersize=7,
            clip_on=False,  # a dot at zero is whole
            zorder=3,
            label=name,
        )
    axes.set_yticks(centers, list(rows))
    axes.set_ylim(-band / 2, (len(rows) - 0.5) * band)
    axes.set_xlim(0, _percent_end(axes.get_xlim()[1]))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=9)  # room for the half of a dot at zero
    for lower, upper in zip(centers[1:], centers, strict=False):
        axes.axhline((lower + upper) / 2, color=_LIGHT["grid"], linewidth=0.8)
    axes.set_xlabel(x_label)
    _legend(figure, axes)
    parts = [f"{row}: " + ", ".join(f"{n} {d.value:.1f}" for n, d in dots.items()) for row, dots in rows.items()]
    return _to_svg(figure, f"{x_label}. {'; '.join(parts)}")


def themed(svg: str) -> str:
    """The chart for an HTML page: its colors as CSS variables, its text in the page's font."""
    for name, color in _LIGHT.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def _kernel_density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    spread = float(np.std(values))
    quartiles = np.percentile(values, [25, 75])
    iqr = float(quartiles[1] - quartiles[0]) / 1.349
    scale = min(spread, iqr) if iqr > 0 else spread
    # One value, or equal ones, still get a visible peak.
    bandwidth = max(0.9 * scale * len(values) ** -0.2, float(grid[-1]) / 200)
    # Binning keeps the kernel matrix small for data of any size.
    counts, edges = np.histogram(values, bins=min(_MAX_BINS, max(10, 4 * len(values))))
    centers = (edges[:-1] + edges[1:]) / 2
    kernels = sum(np.exp(-0.5 * ((grid[:, None] - sign * centers) / bandwidth) ** 2) for sign in (1, -1))
    density: NDArray[np.float64] = kernels @ counts / (len(values) * bandwidth * np.sqrt(2 * np.pi))
    return density


def _percent_end(automatic: float) -> float:
    """Where an axis of percentages ends: not beyond 100, and not so close to 0 that noise looks large."""
    return min(max(automatic, 5.0), 100.0)


def _color(index: int) -> str:
    return _LIGHT[f"series-{index % 6 + 1}"]


def _marker(index: int) -> str:
    return _MARKERS[index % len(_MARKERS)]


def _figure(height_in: float) -> tuple[Figure, Axes]:
    """An empty figure with quiet axes. The canvas is the SVG one: no display, no global state of pyplot."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LIGHT["muted"])
    axes.grid(visible=True, color=_LIGHT["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_LIGHT["muted"], labelcolor=_LIGHT["ink"], labelsize=12, left=False)
    axes.xaxis.label.set(color=_LIGHT["ink"], fontsize=12)
    axes.yaxis.label.set(color=_LIGHT["ink"], fontsize=12)
    axes.title.set_color(_LIGHT["ink"])
    axes._left_title.set_color(_LIGHT["ink"])  # type: ignore[attr-defined]
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it covers no data; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = max(1, min(len(labels), 46 // (max(map(len, labels)) + 6)))  # 46 characters fit the width
        figure.set_figheight(figure.get_figheight() + 0.25 * -(-len(labels) // columns))
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=columns,
            frameon=False,
            fontsize=12,
            labelcolor=_LIGHT["ink"],
            handlelength=2.6,
            columnspacing=1.2,
        )


def _to_svg(figure: Figure, description: str) -> str:
    import matplotlib

    # The salt makes the ids of a chart equal from run to run, and different from another chart's on one page.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": description, "font.family": "sans-serif", "font.size": 12}
    buffer = io.StringIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
