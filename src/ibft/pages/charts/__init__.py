"""Charts for pages and papers: densities, histograms, curves, dots with whiskers. Pure: equal data, equal drawing.

Each function returns a `Drawing`, which becomes an SVG or a PDF in the light palette, fit for a file of its own, or an
SVG with CSS variables for its colors, for a page that has dark mode too (`THEME_CSS` defines them). Series differ by
marker and line style as well as by color. Figures are drawn narrow, so that their text stays readable on a phone.
"""

from __future__ import annotations

from ibft.pages.charts.curves import Curve, draw_curves
from ibft.pages.charts.density import draw_densities
from ibft.pages.charts.histogram import Bar, draw_histogram
from ibft.pages.charts.intervals import Dot, draw_against, draw_intervals, draw_named_intervals
from ibft.pages.charts.style import MARKER_GLYPHS, THEME_CSS, Drawing

__all__ = [
    "MARKER_GLYPHS",
    "THEME_CSS",
    "Bar",
    "Curve",
    "Dot",
    "Drawing",
    "draw_against",
    "draw_curves",
    "draw_densities",
    "draw_histogram",
    "draw_intervals",
    "draw_named_intervals",
]
