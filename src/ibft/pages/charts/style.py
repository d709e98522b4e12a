"""The common parts of charts: colors, markers, dashes, quiet axes, the legend, the drawing that becomes SVG or PDF."""

from __future__ import annotations

import functools
import html
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "LIGHT",
    "MARKER_GLYPHS",
    "THEME_CSS",
    "Drawing",
    "add_legend",
    "legend_columns",
    "log_axis",
    "new_figure",
    "percent_end",
    "series_color",
    "series_line",
    "series_marker",
]

# Okabe & Ito's palette for color-blind readers (jfly.uni-koeln.de/color) and four more colors behind it, darkened or
# lightened per mode until each has a contrast of at least 3:1 (WCAG 1.4.11) with the page's background, #ffffff or
# #15181c. No ten colors are safe alone: the series differ by markers and dashes, too.
LIGHT = {
    "series-1": "#5a6068",
    "series-2": "#0072b2",
    "series-3": "#c95900",
    "series-4": "#008a64",
    "series-5": "#b0578a",
    "series-6": "#8a6d00",
    "series-7": "#c8102e",
    "series-8": "#6d4fd0",
    "series-9": "#00838f",
    "series-10": "#568203",
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
    "series-7": "#ff6b7d",
    "series-8": "#b49dff",
    "series-9": "#5fdbe0",
    "series-10": "#a9d54c",
    "ink": "#e8ebee",
    "muted": "#a3abb4",
    "grid": "#383e46",
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_LINES = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (1, 1)),
    (0, (9, 2)),
    (0, (9, 2, 2, 2)),
    (0, (3, 1)),
    (0, (9, 1, 1, 1)),
)
# The cross is also an emoji, unless the selector behind it asks for text.
MARKER_GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖\ufe0e", "★", "◄", "►")
"""The markers of the series in order, as text: to name a series outside the chart."""

_WIDTH_IN = 5.0  # wider figures shrink on a phone until their text cannot be read
_LEGEND_CHARACTERS = 46


def _variables(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in palette.items())


THEME_CSS = f":root{{{_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(_DARK)}}}}}"
"""The colors of themed charts as CSS variables, for light and dark screens; paper is light."""


def series_color(index: int) -> str:
    """Return the light palette's color of the series with this number."""
    return LIGHT[f"series-{index % len(MARKER_GLYPHS) + 1}"]


def series_marker(index: int) -> str:
    """Return its marker, as matplotlib names it."""
    return _MARKERS[index % len(_MARKERS)]


def series_line(index: int) -> Any:
    """Return its dashes, as matplotlib takes them."""
    return _LINES[index % len(_LINES)]


def percent_end(automatic: float) -> float:
    """Return where an axis of percentages ends: at most at 100, and not so close to 0 that noise looks large."""
    return min(max(automatic, 5.0), 100.0)


def new_figure(height_in: float) -> tuple[Figure, Axes]:
    """Make an empty figure with quiet axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    FigureCanvasSVG(figure)  # not pyplot, which wants a display and keeps every figure in a global list
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LIGHT["muted"])
    axes.grid(visible=True, color=LIGHT["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=LIGHT["muted"], labelcolor=LIGHT["ink"], labelsize=12, left=False)
    axes.xaxis.label.set(color=LIGHT["ink"], fontsize=12)
    axes.yaxis.label.set(color=LIGHT["ink"], fontsize=12)
    axes.title.set_color(LIGHT["ink"])
    axes._left_title.set_color(LIGHT["ink"])  # type: ignore[attr-defined]
    return figure, axes


def log_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with powers of ten in plain digits."""
    # matplotlib's own are raised exponents, too small to read on a phone.
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_digits))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", left=False)


def _plain_digits(value: float, _: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.12f}".rstrip("0")


def add_legend(figure: Figure, axes: Axes) -> None:
    """Put the legend above the axes, where it covers no data; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = legend_columns([len(label) for label in labels])
        figure.set_figheight(figure.get_figheight() + 0.25 * -(-len(labels) // columns))
        figure.legend(
            handles,
            labels,
            loc="outside upper left",  # makes room for itself, by the constrained layout
            ncols=columns,
            frameon=False,
            fontsize=12,
            labelcolor=LIGHT["ink"],
            handlelength=2.6,
            columnspacing=1.2,
        )


def legend_columns(lengths: Sequence[int]) -> int:
    """Return how many columns of names fit, filled from top to bottom; each also takes 6 characters of line and gap."""
    for columns in range(len(lengths), 1, -1):
        rows, rest = divmod(len(lengths), columns)
        ends = [column * rows + min(column, rest) for column in range(columns + 1)]
        if sum(max(lengths[a:b]) + 6 for a, b in itertools.pairwise(ends)) <= _LEGEND_CHARACTERS:
            return columns
    return 1


class Drawing:
    """A finished chart: one drawing for pages, files and papers. Each form is the same bytes in every process."""

    def __init__(self, figure: Figure, description: str) -> None:
        self._figure = figure
        self.description = description
        """The chart in words, for those who cannot see it."""
        # Places are settled once: each further pass of the layout moves them a little, and the forms would differ.
        with self._fonts():
            figure.draw_without_rendering()
        figure.set_layout_engine("none")

    @functools.cached_property
    def svg(self) -> str:
        """The SVG in the light palette, fit for a separate file; its text stays text."""
        buffer = io.StringIO()
        # The salt makes the ids of a chart equal from run to run, and different from another chart's on one page.
        self._save(buffer, "svg", {"svg.fonttype": "none", "svg.hashsalt": self.description}, "Date", "Creator")
        svg = buffer.getvalue()
        svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], count=1, flags=re.DOTALL)
        # matplotlib numbers its groups from 1 in each chart, and on a page an id must be unique.
        svg = re.sub(r'<g id="[^"]*"', "<g", svg)
        # The reader's font: matplotlib names those of this machine.
        svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
        svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
        return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(self.description)}"', 1)

    @property
    def themed_svg(self) -> str:
        """The SVG for an HTML page: its colors as the CSS variables of `THEME_CSS`, its text in the page's font."""
        svg = self.svg
        # Charts use no color that is not in the palette, so that dark mode reaches all of a chart.
        for name, color in LIGHT.items():
            svg = svg.replace(color, f"var(--{name})")
        return svg

    @property
    def pdf(self) -> bytes:
        """The PDF in the light palette for a paper: vectors, no date."""
        buffer = io.BytesIO()
        # Type 42 (TrueType): many publishers refuse matplotlib's default, Type 3.
        self._save(buffer, "pdf", {"pdf.fonttype": 42}, "CreationDate", "Creator", "Producer")
        return buffer.getvalue()

    def _save(self, buffer: IO[Any], form: str, settings: dict[Any, Any], *left_out: str) -> None:
        with self._fonts(settings):
            self._figure.savefig(buffer, format=form, metadata=dict.fromkeys(left_out))

    @staticmethod
    def _fonts(settings: dict[Any, Any] | None = None) -> AbstractContextManager[None]:
        import matplotlib

        return matplotlib.rc_context({"font.family": "sans-serif", "font.size": 12} | (settings or {}))
