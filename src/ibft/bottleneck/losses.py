"""The bottleneck's two terms as pure functions of tensors.

Shapes: B sequences, T positions, H hidden size, D bottleneck dimensions, N labelled positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

__all__ = ["cross_entropy_sum", "kl_to_standard_normal", "labelled_positions"]

IGNORED = -100
"""The label of positions outside the loss, as in PyTorch, transformers and TRL."""

CHUNK = 256
"""Positions projected onto the vocabulary at a time: 256 x 50,000 float32 logits are 50 MiB."""


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each element, in nats, not reduced.

    Args:
        mean: any shape; for the bottleneck (B, T, D).
        logvar: natural logarithm of the variance, same shape.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def labelled_positions(hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states that predict a labelled token, and those tokens.

    Position t predicts the token at t + 1, so the last position of a sequence predicts nothing.

    Args:
        hidden_BTH: hidden states, (B, T, H).
        labels_BT: token ids, (B, T), not shifted; -100 marks tokens outside the loss.

    Returns:
        hidden states (N, H) and their next tokens (N,), in order; N may be 0.
    """
    next_labels = labels_BT[:, 1:].to(hidden_BTH.device)
    mask = next_labels != IGNORED
    return hidden_BTH[:, :-1][mask], next_labels[mask]


def cross_entropy_sum(hidden_NH: Tensor, targets_N: Tensor, lm_head: nn.Module) -> Tensor:
    """Cross-entropy of `lm_head(hidden)` summed over N positions, without ever holding N x V logits.

    With a frozen linear head the gradient of the hidden states is computed in the forward, chunk by chunk, so
    that the logits are computed once; any other head (trainable, quantized) is called as a module, chunk by
    chunk, and computed again in the backward. Logits are reduced in float32 whatever the head's dtype.

    Args:
        hidden_NH: (N, H), any float dtype; the projection runs in the head's.
        targets_N: token ids, (N,); none is -100.
        lm_head: maps (n, H) to (n, V).

    Returns:
        a float32 scalar in nats; 0 for N = 0, still connected to `hidden_NH`.
    """
    if _is_frozen_linear(lm_head):
        keep_gradient = torch.is_grad_enabled() and hidden_NH.requires_grad
        return _apply(_FrozenHeadCrossEntropy, hidden_NH, targets_N, lm_head.weight, lm_head.bias, keep_gradient)
    return _checkpointed_cross_entropy_sum(hidden_NH, targets_N, lm_head)


def _is_frozen_linear(lm_head: nn.Module) -> bool:
    return type(lm_head) is nn.Linear and not any(parameter.requires_grad for parameter in lm_head.parameters())


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    apply: Callable[..., Tensor] = function.apply
    return apply(*arguments)


class _FrozenHeadCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy through a frozen linear head; saves dL/dh (N, H) instead of any logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, targets_N: Tensor, weight_VH: Tensor, bias_V: Tensor | None, keep_gradient: bool
    ) -> Tensor:
        """Sum the chunks' losses; with `keep_gradient`, also compute each chunk's dL/dh = (softmax - onehot) W."""
        total = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        gradient_NH = torch.empty_like(hidden_NH) if keep_gradient else None
        for start in range(0, len(hidden_NH), CHUNK):
            rows = slice(start, start + CHUNK)
            logits_nV = F.linear(hidden_NH[rows].to(weight_VH.dtype), weight_VH, bias_V).float()
            target_n1 = targets_N[rows, None]
            logsumexp_n1 = logits_nV.logsumexp(dim=-1, keepdim=True)
            total += (logsumexp_n1 - logits_nV.gather(1, target_n1)).sum()
            if gradient_NH is not None:
                # In place: from here on the chunk's logits hold dL/dlogits = softmax - onehot.
                logits_nV.sub_(logsumexp_n1).exp_()
                logits_nV.scatter_add_(1, target_n1, torch.full_like(target_n1, -1, dtype=logits_nV.dtype))
                gradient_NH[rows] = (logits_nV.to(weight_VH.dtype) @ weight_VH).to(gradient_NH.dtype)
        ctx.save_for_backward(gradient_NH)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        """Scale the saved gradient."""
        (gradient_NH,) = ctx.saved_tensors
        return grad_outputs[0] * gradient_NH, None, None, None, None


def _checkpointed_cross_entropy_sum(hidden_NH: Tensor, targets_N: Tensor, lm_head: nn.Module) -> Tensor:
    def chunk_sum(hidden_nH: Tensor, target_n: Tensor) -> Tensor:
        return F.cross_entropy(lm_head(hidden_nH).float(), target_n, reduction="sum")

    dtype = next((p.dtype for p in lm_head.parameters() if p.is_floating_point()), hidden_NH.dtype)
    total = hidden_NH.float().sum() * 0  # keeps an empty batch connected, so that its backward gives zeros
    for start in range(0, len(hidden_NH), CHUNK):
        rows = slice(start, start + CHUNK)
        # No randomness inside, so no generator state to save and restore.
        total = total + checkpoint(
            chunk_sum, hidden_NH[rows].to(dtype), targets_N[rows], use_reentrant=False, preserve_rng_state=False
        )
    return total
