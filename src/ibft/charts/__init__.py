"""Charts as SVG text: densities, curves, and dots with whiskers. Pure: data in, the same text out every time.

Each function returns a whole SVG in the light palette, fit for a file of its own. `themed` rewrites the colors
to CSS variables for a page that has dark mode too (`THEME_CSS` defines them). Series differ by marker and line
style as well as by color. Figures are drawn narrow, so that their text stays readable on a phone.
"""

from __future__ import annotations

from ibft.charts.curves import Curve, curves_svg
from ibft.charts.density import density_svg
from ibft.charts.intervals import Dot, intervals_svg, named_intervals_svg
from ibft.charts.style import MARKER_GLYPHS, THEME_CSS, themed

__all__ = [
    "MARKER_GLYPHS",
    "THEME_CSS",
    "Curve",
    "Dot",
    "curves_svg",
    "density_svg",
    "intervals_svg",
    "named_intervals_svg",
    "themed",
]
