"""Anchored supervised fine-tuning: DFT, held near the base model (arXiv 2509.23753)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.objectives.base import Objective, Tokens
from ibft.objectives.dft import dft
from ibft.settings import NonNegative

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ASFTObjective"]


class ASFTObjective(Objective, frozen=True, tag_field="name", tag="asft"):
    """Anchored SFT: DFT plus kl_weight * KL(base || model) (arXiv 2509.23753)."""

    formula = "sg(p(y)) · -log p(y) + kl_weight · KL(p_base, p)"
    source = "arXiv 2509.23753"
    cost = "a base forward"
    place = 4
    needs = ("logits", "base_logits")

    arm: str = "asft"
    # As in the authors' example (zhuchichi56/ASFT at 6f6f51c, README); their code has 0.1 by default.
    kl_weight: NonNegative = 0.05

    def loss(self, tokens: Tokens) -> Tensor:
        """Return sg(p(y)) * -log p(y) + kl_weight * KL(p_base || p), at response tokens.

        Source: zhuchichi56/ASFT at 6f6f51c, `train_v2.py`, mode `asft`.
        """
        # The KL's direction is that of the authors' code, which LLaMA-Factory (at ff6d4d1) and Unsloth follow. The
        # paper calls it a reverse KL, which would be KL(p || p_base), as Unsloth's `losses/asft.py` notes.
        return dft(tokens.cross_entropy_n) + self.kl_weight * tokens.kl_from_base_n

    def sums(self, loss_N: Tensor, cross_entropy_N: Tensor) -> dict[str, Tensor]:
        """Return `asft/kl`, KL(base || model) in nats: what the loss has beyond its first term."""
        # With a weight of 0, the KL is not in the loss.
        return {"asft/kl": (loss_N - dft(cross_entropy_N)).sum() / self.kl_weight} if self.kl_weight > 0 else {}
