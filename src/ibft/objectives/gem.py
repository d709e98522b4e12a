"""GEM: reverse KL with an entropy regularizer, as a game between model and critic (arXiv 2408.16673)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["gem"]


def gem(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None = None, *, beta: float) -> Tensor:
    """-log p(y) + sum_v sg(q_v) log p_v with q = softmax(logits / beta), where sg stops the gradient.

    That is sum_v q_v (log p_v - log p(y)). Its gradient at the logits is q - onehot(y), where the cross-entropy has
    p - onehot(y), the same with beta = 1. As q is sharper than p, probability flows to the target mostly from the
    likeliest other tokens, and stops flowing while p still gives others a share. The loss may be negative.

    Source: liziniu/GEM at e5b1430, `sft_trainer.py`, with its default h, the linear one, which is also the only one
    of its Triton kernel; its `logsigmoid` weighs each token by sigmoid(0.01 * logit difference), nearly 1/2.

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: not used.
        beta: temperature of q; 0.7 in the paper. The lower, the more diversity is kept.

    Returns:
        the loss of each token in nats, (n,).
    """
    log_probs_nV = logits_nV.log_softmax(dim=-1)
    q_nV = (logits_nV.detach() / beta).softmax(dim=-1)
    return (q_nV * log_probs_nV).sum(dim=-1) - log_probs_nV.gather(1, targets_n[:, None])[:, 0]
