"""Densities of sets of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ibft.charts.style import add_legend, new_figure, series_color, series_line, to_svg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["density_svg", "kernel_density"]

_MAX_BINS = 1024


def density_svg(series: Mapping[str, Sequence[float]], x_label: str) -> str:
    """Densities of several sets of non-negative numbers, each with its median as a vertical line.

    Gaussian kernels with Silverman's bandwidth, reflected at zero so that no mass leaks below it. The axis ends
    at the 99.5th percentile: a few outliers must not squeeze the rest.
    """
    import numpy as np

    arrays: dict[str, NDArray[np.float64]] = {
        name: np.asarray(values, dtype=np.float64) for name, values in series.items() if len(values)
    }
    figure, axes = new_figure(height_in=2.5)
    parts = []
    if arrays:
        end = max(float(np.percentile(values, 99.5)) for values in arrays.values()) * 1.05 or 1.0
        grid = np.linspace(0, end, 256, dtype=np.float64)
        for index, (name, values) in enumerate(arrays.items()):
            color, median = series_color(index + 1), float(np.median(values))
            density = kernel_density(values, grid)
            label = f"{name} (n = {len(values)}, median {median:.2f})"
            axes.plot(grid, density, color=color, linestyle=series_line(index), linewidth=2, label=label)
            axes.fill_between(grid, density, color=color, alpha=0.12, linewidth=0)
            axes.axvline(median, color=color, linestyle=series_line(index), linewidth=1)
            parts.append(label)
        axes.set_xlim(0, end)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel("density")
    axes.set_yticks([])
    add_legend(figure, axes)
    return to_svg(figure, f"Density of {x_label}: {'; '.join(parts) or 'no data'}")


def kernel_density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """The density of `values` at the points of `grid`, as `density_svg` describes it."""
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
