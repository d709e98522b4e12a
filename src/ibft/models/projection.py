"""From hidden states to token losses through `lm_head`, without ever holding positions x vocabulary.

Shapes: B sequences, T positions, N labelled positions, H hidden size, V vocabulary, n positions of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from ibft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "Projection",
    "TokenLoss",
    "TokenLosses",
    "capped",
    "cross_entropy",
    "labelled_states",
    "token_losses",
]

IGNORED = -100
"""The label of positions outside the loss, as in PyTorch, transformers and TRL."""

CHUNK = 256
"""Positions projected onto the vocabulary at a time: 256 x 50,000 float32 logits are 50 MiB."""

TokenLoss = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""(logits (n, V) float32, targets (n,), the base model's logits (n, V) or None) -> the loss of each token, (n,).

A token's loss may depend on its own row alone: the gradient is taken of the sum of a chunk's losses."""


@dataclass(frozen=True)
class Projection:
    """The model's `lm_head` and what the model does to its output: softcap * tanh(scale * lm_head(h) / softcap).

    Args:
        lm_head: maps (n, H) to (n, V).
        scale: factor of the logits (Cohere, Granite, Falcon-H1 and others); 1 for most models.
        softcap: bound of the logits (Gemma 2 and 3); None for most models.
    """

    lm_head: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Projection:
        """Return the projection of a causal language model; read for each forward, since FSDP and PEFT replace modules.

        Raises:
            UserError: the model has no `lm_head`.
        """
        lm_head = model.get_output_embeddings()
        if lm_head is None:
            raise UserError(f"model: {type(model).__name__} has no lm_head. Use a causal language model.")
        config = model.config.get_text_config()
        return cls(lm_head, _scale(config), getattr(config, "final_logit_softcapping", None))

    def logits(self, hidden_nH: Tensor) -> Tensor:
        """Return logits (n, V) of a few positions, float32 (float64 of a float64 head), made in the head's dtype."""
        return capped(self.raw(hidden_nH), self.scale, self.softcap)

    def raw(self, hidden_nH: Tensor) -> Tensor:
        """Return the output of `lm_head`, (n, V), in its dtype: the logits before `capped`."""
        raw_nV: Tensor = self.lm_head(hidden_nH.to(_float_dtype(self.lm_head, hidden_nH)))
        return raw_nV


class TokenLosses(NamedTuple):
    """One value per position, each (N,), float32 except for `is_top1`.

    `loss` carries the gradient; `log_prob` (of the target, nats), `entropy` (of the prediction, nats) and `is_top1`
    (bool: no token is likelier than the target) carry none.
    """

    loss: Tensor
    log_prob: Tensor
    entropy: Tensor
    is_top1: Tensor


def cross_entropy(logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None = None) -> Tensor:
    """Return minus the target's log-probability, in nats; the base model's logits are not used."""
    return F.cross_entropy(logits_nV, targets_n, reduction="none")


def labelled_states(hidden_BTH: Tensor, mask: Tensor) -> Tensor:
    """Return the hidden states that predict a labelled token, (N, H), in order; N may be 0.

    Args:
        hidden_BTH: hidden states, (B, T, H).
        mask: True where the next token is labelled, (B, T), or (B, T - 1) without the last position.
    """
    # Position t predicts the token at t + 1, so the last position of a sequence predicts nothing.
    states: Tensor = hidden_BTH[:, : mask.shape[1]][mask.to(hidden_BTH.device)]
    return states


def token_losses(
    hidden_NH: Tensor,
    targets_N: Tensor,
    projection: Projection,
    loss: TokenLoss = cross_entropy,
    base_hidden_NH: Tensor | None = None,
) -> TokenLosses:
    """Compute the loss of each position; a few chunks of logits are alive at a time, whatever N.

    Logits are reduced in float32 whatever the head's dtype.

    Args:
        hidden_NH: (N, H), any float dtype; the projection runs in the head's, or in autocast's. N may be 0.
        targets_N: token ids, (N,); none is -100.
        projection: lm_head, scale and soft cap.
        loss: the loss of one chunk.
        base_hidden_NH: the base model's hidden states of the same positions, (N, H), for losses that need its
            logits; no gradient reaches them.
    """
    lm_head = projection.lm_head
    weight_VH, bias_V = _linear_parameters(lm_head)
    head = None if weight_VH is None else _LinearHead(weight_VH, bias_V, projection.scale, projection.softcap)
    if head is None or any(parameter.requires_grad for parameter in lm_head.parameters()):
        # Trainable, quantized or adapted: a chunk's logits are computed again in the backward.
        logits = projection.logits if head is None else head.logits
        dtype = _float_dtype(lm_head, hidden_NH)
        return _checkpointed_losses(hidden_NH, targets_N, logits, dtype, loss, base_hidden_NH)
    # Frozen: a token's loss depends on its own hidden state alone, so the gradient of the hidden states is computed in
    # the forward, chunk by chunk, and the backward only scales it. Logits are computed once: of 2,048 positions of a
    # vocabulary of 49,152, forward and backward took 1.9 s and 132 MiB instead of 2.8 s and 608 MiB (two threads).
    with _gathered(lm_head):
        keep_gradient = torch.is_grad_enabled() and hidden_NH.requires_grad
        return TokenLosses(
            *_FrozenHeadLosses.apply(hidden_NH, targets_N, head, loss, base_hidden_NH, keep_gradient)  # type: ignore[no-untyped-call]
        )


def _scale(config: Any) -> float:
    """Return what the model multiplies its logits by."""
    # Each architecture has another name for it; Granite's and HyperCLOVA X's share one and mean opposite things.
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (factor := getattr(config, name, None)) is not None:
            return float(factor)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1 / float(divisor)


def _float_dtype(lm_head: nn.Module, hidden_NH: Tensor) -> torch.dtype:
    """Return the head's dtype; the hidden states' own where none of its parameters is of a float dtype."""
    return next((p.dtype for p in lm_head.parameters() if p.is_floating_point()), hidden_NH.dtype)


def _linear_parameters(lm_head: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias of a plain linear layer, whole also where FSDP2 shards them; of others (None, None)."""
    # The module's own forward gathers a weight that ZeRO-3 shards, also when the backward runs it again.
    is_trained_under_zero3 = hasattr(getattr(lm_head, "weight", None), "ds_status") and lm_head.weight.requires_grad
    if type(lm_head) is not nn.Linear or is_trained_under_zero3:
        return None, None
    weight, bias = (
        parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        for parameter in (lm_head.weight, lm_head.bias)
    )
    return weight, bias


def _gathered(lm_head: nn.Module) -> AbstractContextManager[Any]:
    """Hold the head's whole weight where DeepSpeed ZeRO-3 shards it."""
    # lm_head is not called here, so its own hook gathers nothing. TRL is imported where it is needed: it takes seconds.
    if not hasattr(lm_head.weight, "ds_status"):
        return nullcontext()
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    context: AbstractContextManager[Any] = maybe_gather_lm_head_ctx(lm_head.weight, lm_head.bias)
    return context


class _LinearHead(NamedTuple):
    weight_VH: Tensor
    bias_V: Tensor | None
    scale: float
    softcap: float | None

    def logits(self, hidden_nH: Tensor) -> Tensor:
        raw_nV = F.linear(hidden_nH.to(self.weight_VH.dtype), self.weight_VH, self.bias_V)
        return capped(raw_nV, self.scale, self.softcap)


def capped(raw_nV: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Return logits (n, V), float32 or wider, from the output of lm_head: softcap * tanh(scale * raw / softcap)."""
    logits_nV = raw_nV.to(torch.promote_types(raw_nV.dtype, torch.float32))
    if scale != 1.0:
        logits_nV = logits_nV * scale
    if softcap is not None:
        logits_nV = softcap * torch.tanh(logits_nV / softcap)
    return logits_nV


class _Gauges(NamedTuple):
    """What every loss reports of a chunk, each (n,)."""

    log_prob_n: Tensor
    entropy_n: Tensor
    is_top1_n: Tensor


def _predict(logits_nV: Tensor, targets_n: Tensor) -> tuple[Tensor, _Gauges]:
    """Compute probabilities (n, V) and gauges with one exponential per logit; overwrite `logits_nV`."""
    shifted_nV = logits_nV.sub_(logits_nV.amax(dim=-1, keepdim=True))
    target_n1 = targets_n[:, None]
    target_shifted_n1 = shifted_nV.gather(1, target_n1)
    probs_nV = shifted_nV.exp()
    total_n1 = probs_nV.sum(dim=-1, keepdim=True)
    probs_nV.div_(total_n1)
    log_total_n1 = total_n1.log()
    entropy_n = log_total_n1[:, 0] - shifted_nV.mul_(probs_nV).sum(dim=-1)
    return probs_nV, _Gauges((target_shifted_n1 - log_total_n1)[:, 0], entropy_n, target_shifted_n1[:, 0] == 0)


class _FrozenHeadLosses(torch.autograd.Function):
    """Token losses through a frozen linear head; saves dL_i/dh_i (N, H) instead of any logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        targets_N: Tensor,
        head: _LinearHead,
        loss: TokenLoss,
        base_hidden_NH: Tensor | None,
        keep_gradient: bool,
    ) -> tuple[Tensor, ...]:
        """The chunks' losses and gauges; with `keep_gradient`, also each chunk's gradient."""
        losses_N, log_probs_N, entropies_N = (
            torch.empty(len(hidden_NH), dtype=torch.float32, device=hidden_NH.device) for _ in range(3)
        )
        is_top1_N = torch.empty(len(hidden_NH), dtype=torch.bool, device=hidden_NH.device)
        gradient_NH = torch.empty_like(hidden_NH) if keep_gradient else None
        for start in range(0, len(hidden_NH), CHUNK):
            rows = slice(start, start + CHUNK)
            hidden_nH, targets_n = hidden_NH[rows], targets_N[rows]
            if loss is cross_entropy:
                gauges, gradient_nH = _cross_entropy_chunk(hidden_nH, targets_n, head, keep_gradient)
                losses_N[rows] = -gauges.log_prob_n
            else:
                base_nH = None if base_hidden_NH is None else base_hidden_NH[rows]
                losses_N[rows], gauges, gradient_nH = _chunk(hidden_nH, targets_n, head, loss, base_nH, keep_gradient)
            log_probs_N[rows], entropies_N[rows], is_top1_N[rows] = gauges
            if gradient_NH is not None and gradient_nH is not None:
                gradient_NH[rows] = gradient_nH
        ctx.save_for_backward(gradient_NH)
        ctx.mark_non_differentiable(log_probs_N, entropies_N, is_top1_N)
        return losses_N, log_probs_N, entropies_N, is_top1_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Scale each position's saved gradient by that of its loss."""
        (gradient_NH,) = ctx.saved_tensors
        return (grad_outputs[0][:, None] * gradient_NH).to(gradient_NH.dtype), None, None, None, None, None


def _cross_entropy_chunk(
    hidden_nH: Tensor, targets_n: Tensor, head: _LinearHead, keep_gradient: bool
) -> tuple[_Gauges, Tensor | None]:
    """Use the closed form dL/dlogits = softmax - onehot, written over the softmax."""
    logits_nV = head.logits(hidden_nH)
    slope_nV = None
    if head.softcap is not None and keep_gradient:
        slope_nV = 1 - (logits_nV / head.softcap).square()  # of the soft cap: the derivative of tanh is 1 - tanh²
    gradient_nV, gauges = _predict(logits_nV, targets_n)
    if not keep_gradient:
        return gauges, None
    target_n1 = targets_n[:, None]
    gradient_nV.scatter_add_(1, target_n1, torch.full_like(target_n1, -1, dtype=gradient_nV.dtype))
    if slope_nV is not None:
        gradient_nV.mul_(slope_nV)
    if head.scale != 1.0:
        gradient_nV.mul_(head.scale)
    return gauges, gradient_nV.to(head.weight_VH.dtype) @ head.weight_VH


def _chunk(
    hidden_nH: Tensor,
    targets_n: Tensor,
    head: _LinearHead,
    loss: TokenLoss,
    base_hidden_nH: Tensor | None,
    keep_gradient: bool,
) -> tuple[Tensor, _Gauges, Tensor | None]:
    """Compute any loss, and its gradient by autograd, whose graph ends with the chunk."""
    base_logits_nV = None if base_hidden_nH is None else head.logits(base_hidden_nH)
    with torch.set_grad_enabled(keep_gradient):
        hidden_nH = hidden_nH.detach().requires_grad_(keep_gradient)
        logits_nV = head.logits(hidden_nH)
        loss_n = loss(logits_nV, targets_n, base_logits_nV)
        gradient_nH = torch.autograd.grad(loss_n.sum(), hidden_nH)[0] if keep_gradient else None
    loss_n = loss_n.detach().clone()  # it may be a view of the logits, which are overwritten now
    return loss_n, _predict(logits_nV.detach(), targets_n)[1], gradient_nH


def _checkpointed_losses(
    hidden_NH: Tensor,
    targets_N: Tensor,
    logits: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    loss: TokenLoss,
    base_hidden_NH: Tensor | None,
) -> TokenLosses:
    """Compute any loss through any head, also one that is trained."""

    def chunk(hidden_nH: Tensor, targets_n: Tensor, base_hidden_nH: Tensor | None) -> tuple[Tensor, ...]:
        logits_nV = logits(hidden_nH)
        with torch.no_grad():
            base_logits_nV = None if base_hidden_nH is None else logits(base_hidden_nH)
            gauges = _predict(logits_nV.clone(), targets_n)[1]
        return loss(logits_nV, targets_n, base_logits_nV), *gauges

    # Keeps an empty batch connected, so that its backward gives zeros.
    nothing = hidden_NH[:0].float().sum(dim=-1)
    chunks: list[tuple[Tensor, ...]] = [(nothing, nothing.detach(), nothing.detach(), nothing.detach().bool())]
    for start in range(0, len(hidden_NH), CHUNK):
        rows = slice(start, start + CHUNK)
        hidden_nH, targets_n = hidden_NH[rows].to(dtype), targets_N[rows]
        base_nH = None if base_hidden_NH is None else base_hidden_NH[rows].to(dtype)
        # No randomness inside, so no generator state to save and restore.
        chunks.append(checkpoint(chunk, hidden_nH, targets_n, base_nH, use_reentrant=False, preserve_rng_state=False))
    return TokenLosses(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))
