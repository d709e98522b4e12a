"""Anchored supervised fine-tuning: DFT, held near the base model (arXiv 2509.23753)."""

from __future__ import annotations

from torch import Tensor

from ibft.objectives.dft import dft
from ibft.objectives.ft_kl import kl_from_base

__all__ = ["asft"]


def asft(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None, *, kl_weight: float) -> Tensor:
    """sg(p(y)) * -log p(y) + kl_weight * KL(p_base || p), at response tokens.

    The KL's direction is that of the authors' code (zhuchichi56/ASFT at 6f6f51c, `train_v2.py`, mode `asft`), which
    LLaMA-Factory (at ff6d4d1) and Unsloth follow. Deviation: the paper's text, as Unsloth's `losses/asft.py` notes,
    calls it a reverse KL, which would be KL(p || p_base).

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: the base model's, (n, V); no gradient reaches them.
        kl_weight: weight of the KL; 0 is DFT.

    Returns:
        the loss of each token in nats, (n,).
    """
    assert base_logits_nV is not None
    log_probs_nV = logits_nV.log_softmax(dim=-1)
    ce_n = -log_probs_nV.gather(1, targets_n[:, None])[:, 0]
    return dft(ce_n) + kl_weight * kl_from_base(log_probs_nV, base_logits_nV)
