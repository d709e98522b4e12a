"""Densities of sets of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ibft.pages.charts.style import LIGHT, Drawing, add_legend, new_figure, series_color, series_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw_densities", "kernel_density"]

_NUM_BINS = 1024


def draw_densities(
    series: Mapping[str, Sequence[float]],
    x_label: str,
    *,
    medians: Mapping[str, float] | None = None,
    threshold: float | None = None,
) -> Drawing:
    """Draw the densities of several sets of numbers, each with its median as a vertical line.

    Gaussian kernels with Silverman's bandwidth. Where no number is negative they are reflected at zero, and the axis
    begins there; else it begins at the 0.5th percentile. It ends at the 99.5th.

    Args:
        series: name to numbers; an empty series is left out.
        x_label: with its unit.
        medians: the median of all numbers, for a series that is a sample of more.
        threshold: what lies to its left is shaded.
    """
    import numpy as np

    arrays: dict[str, NDArray[np.float64]] = {
        name: np.asarray(values, dtype=np.float64) for name, values in series.items() if len(values)
    }
    figure, axes = new_figure(height_in=2.5)
    parts = []
    if arrays:
        is_bounded = min(float(values.min()) for values in arrays.values()) >= 0
        start, end = _ends(list(arrays.values()), threshold, is_bounded=is_bounded)
        grid = np.linspace(start, end, 256, dtype=np.float64)
        if threshold is not None:
            axes.axvspan(start, threshold, color=LIGHT["grid"], alpha=0.55, linewidth=0, zorder=0.5)
        for index, (name, values) in enumerate(arrays.items()):
            color = series_color(index + 1)
            median = (medians or {}).get(name, float(np.median(values)))
            density = kernel_density(values, grid, is_bounded=is_bounded)
            label = f"{name} (median {'−' * (median < 0)}{abs(median):.2f})"
            axes.plot(grid, density, color=color, linestyle=series_line(index), linewidth=2, label=label)
            axes.fill_between(grid, density, color=color, alpha=0.12, linewidth=0)
            axes.axvline(median, color=color, linestyle=series_line(index), linewidth=1)
            parts.append(label)
        axes.set_xlim(start, end)
    if threshold is not None:
        axes.axvline(threshold, color=LIGHT["ink"], linewidth=1.2, linestyle=(0, (2, 2)))
        parts.append(f"threshold {threshold:.2f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel("density")
    axes.set_yticks([])
    add_legend(figure, axes)
    return Drawing(figure, f"Density of {x_label}: {'; '.join(parts) or 'no data'}")


def _ends(arrays: Sequence[NDArray[np.float64]], threshold: float | None, *, is_bounded: bool) -> tuple[float, float]:
    """Return where the axis begins and ends."""
    import numpy as np

    # Percentiles, not extremes: a few outliers must not squeeze the rest. A threshold is always on the axis.
    marks = [] if threshold is None else [threshold]
    end = max([float(np.percentile(values, 99.5)) for values in arrays] + marks)
    if is_bounded:
        return 0.0, end * 1.05 or 1.0
    start = min([float(np.percentile(values, 0.5)) for values in arrays] + marks)
    margin = 0.05 * (end - start) or 1.0
    return start - margin, end + margin


def kernel_density(
    values: NDArray[np.float64], grid: NDArray[np.float64], *, is_bounded: bool = True
) -> NDArray[np.float64]:
    """Return the density of `values` at the points of `grid`, reflected at zero if `is_bounded`."""
    import numpy as np

    spread = float(np.std(values))
    quartiles = np.percentile(values, [25, 75])
    iqr = float(quartiles[1] - quartiles[0]) / 1.349
    scale = min(spread, iqr) if iqr > 0 else spread
    # One value, or equal ones, still get a visible peak.
    bandwidth = max(0.9 * scale * len(values) ** -0.2, float(grid[-1] - grid[0]) / 200)
    # Binning keeps the kernel matrix small for data of any size. Values far from the grid have no part in it.
    ends = (float(grid[0]) - 4 * bandwidth, float(grid[-1]) + 4 * bandwidth)
    counts, edges = np.histogram(values, bins=_NUM_BINS, range=ends)
    centers = (edges[:-1] + edges[1:]) / 2
    # Reflected, so that no mass leaks below zero.
    signs = (1, -1) if is_bounded else (1,)
    kernels = sum(np.exp(-0.5 * ((grid[:, None] - sign * centers) / bandwidth) ** 2) for sign in signs)
    density: NDArray[np.float64] = kernels @ counts / (len(values) * bandwidth * np.sqrt(2 * np.pi))
    return density
