"""Selective token masking: leave out the tokens that surprise the base model (arXiv 2501.14315)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from ibft.objectives.base import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STMObjective"]


class STMObjective(Objective, frozen=True, tag_field="name", tag="stm"):
    """Selective token masking: tokens that surprise the base model are left out of the loss (arXiv 2501.14315).

    max_perplexity: tokens whose perplexity under the base model, 1 / p, is above it are masked.
    """

    formula = "-log p(y) if 1 / p_base(y) ≤ max_perplexity, else 0"
    source = "arXiv 2501.14315"
    cost = "a base forward"
    place = 7
    needs = ("logits", "base_logits")

    arm: str = "stm"
    # As in the paper.
    max_perplexity: Annotated[float, Meta(gt=1)] = 2.5

    def loss(self, tokens: Tokens) -> Tensor:
        """Return -log p(y) where the base model's perplexity, 1 / p_base(y), is at most max_perplexity, else 0.

        Source: appier-research/robust-llm-finetunes at 5ea67bd, `collate_fn.py` (2.5, strictly above is masked) and
        `generate_stm_training_data.py` (the perplexity of a token is exp of its own cross-entropy).
        """
        base_ce_n = Tokens(tokens.base_logits_nV, tokens.targets_n).cross_entropy_n
        # Deviation: there a masked token gets the label -100, so it does not count in the mean. Here it counts as a
        # token with a loss of 0, since a step's kept tokens are known only after all of its forwards. So loss and
        # gradient are smaller by the kept share. AdamW does not feel it; a bound on the gradient's norm clips less.
        return tokens.cross_entropy_n.where(base_ce_n <= math.log(self.max_perplexity), 0.0)

    def sums(self, loss_N: Tensor, cross_entropy_N: Tensor) -> dict[str, Tensor]:
        """Return `stm/kept`, whose mean is the share of tokens with a loss above 0."""
        return {"stm/kept": (loss_N > 0).sum().float()}
