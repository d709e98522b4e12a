"""Values of a score for a figure: few enough to draw, drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.json_lines import write_atomically
from ibft.artifacts.scan import Densities
from ibft.artifacts.score_names import score_axis

__all__ = ["write_densities"]

_MAX_VALUES = 2000


def write_densities(folder: Path, score: str, series: Mapping[str, NDArray[np.float64]], seed: int) -> None:
    """Write `densities.json`: at most 2,000 of each series' values, a seeded draw."""

    def drawn(values: NDArray[np.float64]) -> list[float]:
        finite = values[np.isfinite(values)]
        if len(finite) > _MAX_VALUES:
            finite = np.sort(np.random.default_rng(seed).choice(finite, _MAX_VALUES, replace=False))
        few: list[float] = finite.tolist()
        return few

    densities = Densities(score, score_axis(score), {name: drawn(values) for name, values in series.items()})
    write_atomically(folder / "densities.json", msgspec.json.encode(densities))
