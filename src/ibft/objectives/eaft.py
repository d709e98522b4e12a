"""Entropy-adaptive fine-tuning: learn less where the model is certain (arXiv 2601.02151)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibft.models.projection import cross_entropy

__all__ = ["eaft", "normalized_top_entropy"]


def eaft(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None = None, *, top_k: int) -> Tensor:
    """sg(H_k / ln k) * -log p(y), where H_k is the entropy of the k likeliest tokens and sg stops the gradient.

    A token that the model is certain about and gets wrong (a "confident conflict") weighs nearly nothing.

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: not used.
        top_k: k; 20 in the paper.

    Returns:
        the loss of each token in nats, (n,).
    """
    return normalized_top_entropy(logits_nV, top_k) * cross_entropy(logits_nV, targets_n)


@torch.no_grad()
def normalized_top_entropy(logits_nV: Tensor, top_k: int) -> Tensor:
    """H_k / ln k of each token, (n,), from 0 (certain) to 1 (k equally likely tokens), without gradient.

    The k probabilities are renormalized to sum to 1, as in the authors' code, which LLaMA-Factory took over (at
    ff6d4d1, `train/trainer_utils.py`). Deviations: that code divides by the constant 3.0, within 0.2% of ln 20;
    here it is ln k, so that the weight reaches 1 for every k. (Axolotl does not divide at all: weights up to 3.)
    A vocabulary smaller than k counts as k.
    """
    top_k = min(top_k, logits_nV.shape[-1])
    log_probs_nk = logits_nV.topk(top_k, dim=-1).values.log_softmax(dim=-1)
    return -(log_probs_nk.exp() * log_probs_nk).sum(dim=-1) / math.log(top_k)
