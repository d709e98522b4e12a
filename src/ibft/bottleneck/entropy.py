"""Matrix-based entropy: how much a set of hidden states varies, with no trained head that could hide it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["matrix_entropy"]


def matrix_entropy(hidden_NH: Tensor) -> Tensor:
    """Rényi entropy of order 2 of the spread of N hidden states, in nats, from 0 to log(min(N - 1, H)).

    S_2 = -log sum_ij A_ij² with A = U U^T / N, the trace-normalized Gram matrix (Giraldo, Rao, Principe, IEEE
    Trans. Inf. Theory 61, 2015; arXiv 1211.2459) of the linear kernel; exp(S_2) is the effective number of
    directions. For a deterministic layer, S(H) estimates I(X; H): H has no entropy left once X is known.

    The rows of U are the states minus their mean, scaled to length 1. Without the mean's removal the direction that
    all states of a transformer share would hide the rest; without the scaling, shrinking h would count as
    compression. The mean is a constant for the gradient.

    Args:
        hidden_NH: (N, H), any float dtype; computed in float32.

    Returns:
        a float32 scalar; 0 for N < 2, still connected to `hidden_NH`.
    """
    hidden_NH = hidden_NH.float()
    if len(hidden_NH) < 2:
        return hidden_NH.sum() * 0
    centered_NH = hidden_NH - hidden_NH.detach().mean(dim=0)
    unit_NH = torch.nn.functional.normalize(centered_NH, dim=-1)
    # sum_ij A_ij² is the squared norm of the smaller of U U^T and U^T U.
    gram = unit_NH @ unit_NH.T if len(unit_NH) <= unit_NH.size(1) else unit_NH.T @ unit_NH
    return -(gram.square().sum() / len(unit_NH) ** 2).log()
