"""Dynamic fine-tuning: the cross-entropy times the target's own probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.objectives.base import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DFTObjective", "dft"]


class DFTObjective(Objective, frozen=True, tag_field="name", tag="dft"):
    """Dynamic fine-tuning: each token's cross-entropy times its detached probability (arXiv 2508.05629).

    As TRL's `loss_type="dft"`.
    """

    formula = "sg(p(y)) · -log p(y)"
    source = "arXiv 2508.05629; TRL"
    place = 2

    arm: str = "dft"

    def loss(self, tokens: Tokens) -> Tensor:
        """Return sg(p(y)) * -log p(y)."""
        return dft(tokens.cross_entropy_n)


def dft(ce_n: Tensor) -> Tensor:
    """Return sg(p(y)) * -log p(y), where sg stops the gradient: its gradient is that of -p(y) (arXiv 2508.05629).

    Args:
        ce_n: cross-entropy of each token in nats, (n,).
    """
    return (-ce_n).exp().detach() * ce_n
