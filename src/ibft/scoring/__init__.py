"""How well a model knows an example: forward pass in, scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["score"]

if TYPE_CHECKING:
    from ibft.scoring.engine import score


def __getattr__(name: str) -> Any:
    """Import the engine on first use: `ibft.min_k_prob` is in this package and needs no torch."""
    if name != "score":
        raise AttributeError(f"module 'ibft.scoring' has no attribute {name!r}")
    from ibft.scoring.engine import score

    return score
