"""Plain fine-tuning that is held near the base model: CE + kl_weight * KL(base || model)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ft_kl", "kl_from_base"]


def ft_kl(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None, *, kl_weight: float) -> Tensor:
    """-log p(y) + kl_weight * KL(p_base || p), the KL over the whole vocabulary, at response tokens.

    Source: the `sft+kl` baseline of zhuchichi56/ASFT at 6f6f51c, `train_v2.py` (there kl_weight 0.1).

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: the base model's, (n, V); no gradient reaches them.
        kl_weight: weight of the KL; 0 is plain fine-tuning.

    Returns:
        the loss of each token in nats, (n,).
    """
    assert base_logits_nV is not None
    log_probs_nV = logits_nV.log_softmax(dim=-1)
    ce_n = -log_probs_nV.gather(1, targets_n[:, None])[:, 0]
    return ce_n + kl_weight * kl_from_base(log_probs_nV, base_logits_nV)


def kl_from_base(log_probs_nV: Tensor, base_logits_nV: Tensor) -> Tensor:
    """KL(p_base || p) of each token in nats, (n,); its gradient at the logits is p - p_base."""
    base_probs_nV = base_logits_nV.detach().softmax(dim=-1)
    return F.kl_div(log_probs_nV, base_probs_nV, reduction="none").sum(dim=-1)
