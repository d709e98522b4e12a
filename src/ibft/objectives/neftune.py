"""NEFTune: plain fine-tuning with noise on the embeddings (arXiv 2310.05914)."""

from __future__ import annotations

import math
from typing import Any

from ibft.objectives.base import Objective
from ibft.settings import Positive

__all__ = ["NEFTuneObjective"]


class NEFTuneObjective(Objective, frozen=True, tag_field="name", tag="neftune"):
    """Plain fine-tuning with uniform noise on the embeddings (arXiv 2310.05914). TRL's own.

    noise_alpha: the noise is uniform in ±noise_alpha / sqrt(T * H), T being the batch's padded length.
    """

    formula = "the same as `ft`, with noise on the embeddings"
    source = "arXiv 2310.05914; TRL"
    place = 8

    arm: str = "neftune"
    # The least of the paper's 5, 10 and 15.
    noise_alpha: Positive = 5.0

    def trl_arguments(self, rows_per_batch: int) -> dict[str, Any]:
        """Return the noise's scale."""
        # Transformers divides the noise by the root of a row's length, and a packed row is a whole batch long.
        return {"neftune_noise_alpha": self.noise_alpha * math.sqrt(rows_per_batch)}
