"""One subset's scores as columns: what every finding is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "first_copies"]


@dataclass(frozen=True)
class Columns:
    """One subset's N scored examples as columns; examples without scores are left out.

    At most 8 bytes per number, and 70 per distinct file or set of tags.

    Args:
        num_tokens: N numbers of scored tokens, at least 1.
        groups: N codes, int64, equal for examples that depend on one another, also across the subsets: those of one
            file, else copies of one example.
        scores: N float64 per score, in the order in which they are shown; lower = more memorized, NaN = missing.
        num_prefix_tokens: how many tokens discoverable extraction gave to the model. In this column and the next two,
            0 for an example that was too short.
        num_suffix_tokens: how many tokens the model should have written.
        num_matched_tokens: how many of them it wrote before the first difference.
        suffix_log_prob: log-probability of the whole suffix, nats; NaN = missing.
        files: the file that an example is from, or None.
        tags: the tags that its source gives it.
        codes: N int64, equal for equal code, also across the subsets (`data.fingerprint`).

    Raises:
        ValueError: columns differ in length.
    """

    num_tokens: NDArray[np.integer]
    groups: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]
    num_prefix_tokens: NDArray[np.integer]
    num_suffix_tokens: NDArray[np.integer]
    num_matched_tokens: NDArray[np.integer]
    suffix_log_prob: NDArray[np.float64]
    files: Sequence[str | None]
    tags: Sequence[Sequence[str]]
    codes: NDArray[np.int64]

    def __post_init__(self) -> None:
        # A scan's scores are read from the disk one at a time, and are not read for this check.
        columns = {**vars(self), **(self.scores if isinstance(self.scores, dict) else {})}
        for name, column in columns.items():
            if name != "scores" and len(column) != len(self):
                raise ValueError(f"column {name} has {len(column)} values for {len(self)} examples")

    def __len__(self) -> int:
        return len(self.num_tokens)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Return these rows, in this order, with all scores in memory."""
        places = rows.tolist()
        return Columns(
            num_tokens=self.num_tokens[rows],
            groups=self.groups[rows],
            scores={name: self.scores[name][rows] for name in self.scores},
            num_prefix_tokens=self.num_prefix_tokens[rows],
            num_suffix_tokens=self.num_suffix_tokens[rows],
            num_matched_tokens=self.num_matched_tokens[rows],
            suffix_log_prob=self.suffix_log_prob[rows],
            files=[self.files[row] for row in places],
            tags=[self.tags[row] for row in places],
            codes=self.codes[rows],
        )

    def also_in(self, other: Columns) -> NDArray[np.bool_]:
        """Mark the examples whose code is in the other columns as well."""
        return np.isin(self.codes, other.codes)


def first_copies(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each example, the row of the first one with the same code, which may be its own."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.take(first, inverse)
