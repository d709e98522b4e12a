"""Selective token masking: leave out the tokens that surprise the base model (arXiv 2501.14315)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibft.models.projection import cross_entropy

__all__ = ["stm"]


def stm(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None, *, max_perplexity: float) -> Tensor:
    """-log p(y) where the base model's perplexity of the token, 1 / p_base(y), is at most max_perplexity; else 0.

    Source: appier-research/robust-llm-finetunes at 5ea67bd, `collate_fn.py` (2.5, strictly above is masked) and
    `generate_stm_training_data.py` (the perplexity of a token is exp of its own cross-entropy).

    Deviation: there a masked token gets the label -100, so it does not count in the mean; here it counts as a token
    with a loss of 0, since a step's kept tokens are known only after all of its forwards. So the loss and its
    gradient are smaller by the share that is kept, which AdamW's update does not feel, but a bound on the gradient's
    norm does: it clips less.

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: the base model's, (n, V); no gradient reaches them.
        max_perplexity: above it, a token is masked.

    Returns:
        the loss of each token in nats, (n,).
    """
    assert base_logits_nV is not None
    is_kept_n = cross_entropy(base_logits_nV.detach(), targets_n) <= math.log(max_perplexity)
    return torch.where(is_kept_n, cross_entropy(logits_nV, targets_n), 0.0)
