"""GEM: reverse KL with an entropy regularizer, as a game between model and critic (arXiv 2408.16673)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from ibft.objectives.base import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GEMObjective"]


class GEMObjective(Objective, frozen=True, tag_field="name", tag="gem"):
    """Reverse KL with entropy regularization, by its game formulation (arXiv 2408.16673).

    beta: temperature of the sharpened distribution from which probability flows to the target. 1 would be the
        cross-entropy; the lower, the more diversity is kept.
    """

    formula = "-log p(y) + Σ_v sg(q_v) log p_v, q = softmax(logits / beta)"
    source = "arXiv 2408.16673"
    place = 6
    needs = ("logits",)

    arm: str = "gem"
    # As in the authors' code (liziniu/GEM at e5b1430).
    beta: Annotated[float, Meta(gt=0, lt=1)] = 0.7

    def loss(self, tokens: Tokens) -> Tensor:
        """Return -log p(y) + sum_v sg(q_v) log p_v with q = softmax(logits / beta), where sg stops the gradient.

        That is sum_v q_v (log p_v - log p(y)). Its gradient at the logits is q - onehot(y), where the cross-entropy
        has p - onehot(y), the same with beta = 1. As q is sharper than p, probability flows to the target mostly from
        the likeliest other tokens, and stops flowing while p still gives others a share. The loss may be negative.

        Source: liziniu/GEM at e5b1430, `sft_trainer.py`, with the linear h.
        """
        # The linear h is the authors' default, and the only one of their Triton kernel. Their `logsigmoid` weighs each
        # token by sigmoid(0.01 * logit difference), nearly 1/2.
        q_nV = (tokens.logits_nV.detach() / self.beta).softmax(dim=-1)
        return (q_nV * tokens.log_probs_nV).sum(dim=-1) + tokens.cross_entropy_n
