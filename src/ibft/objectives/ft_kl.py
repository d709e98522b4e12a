"""Plain fine-tuning that is held near the base model: CE + kl_weight * KL(base || model)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.objectives.base import Objective, Tokens
from ibft.settings import NonNegative

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FTKLObjective"]


class FTKLObjective(Objective, frozen=True, tag_field="name", tag="ft_kl"):
    """Cross-entropy plus kl_weight * KL(base || model) on the response's next-token distributions."""

    formula = "-log p(y) + kl_weight · KL(p_base, p)"
    source = "zhuchichi56/ASFT, `sft+kl`"
    cost = "a base forward"
    place = 3
    needs = ("logits", "base_logits")

    arm: str = "ft_kl"
    # No single source: as in ASFT, so that the two differ in the first term alone.
    kl_weight: NonNegative = 0.05

    def loss(self, tokens: Tokens) -> Tensor:
        """Return -log p(y) + kl_weight * KL(p_base || p), the KL over the whole vocabulary, at response tokens.

        Source: the `sft+kl` baseline of zhuchichi56/ASFT at 6f6f51c, `train_v2.py` (there kl_weight 0.1).
        """
        return tokens.cross_entropy_n + self.kl_weight * tokens.kl_from_base_n

    def sums(self, loss_N: Tensor, cross_entropy_N: Tensor) -> dict[str, Tensor]:
        """Return `ft_kl/kl`, KL(base || model) in nats: what the loss has beyond its first term."""
        # With a weight of 0, the KL is not in the loss.
        return {"ft_kl/kl": (loss_N - cross_entropy_N).sum() / self.kl_weight} if self.kl_weight > 0 else {}
