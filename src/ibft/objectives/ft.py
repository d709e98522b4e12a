"""Plain fine-tuning."""

from __future__ import annotations

from ibft.objectives.base import Objective

__all__ = ["FTObjective"]


class FTObjective(Objective, frozen=True, tag_field="name", tag="ft"):
    """Plain fine-tuning: cross-entropy on the completion. TRL's own loss."""

    formula = "-log p(y)"
    source = "TRL"
    cost = ""
    place = 0

    arm: str = "ft"
