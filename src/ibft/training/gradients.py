"""Whose gradient trains the model: the share of it that comes from the bottleneck."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import Trainer

__all__ = ["GradientShare"]


class GradientShare:
    """Separates the penalty's gradient into the model's trained weights from the cross-entropy's, for one backward.

    The step's one backward adds both up, so the penalty's is computed separately, through the layers below the
    bottleneck alone; the cross-entropy's is the rest. It costs about half a backward, at logging steps only.

    Args:
        weights: the trained weights, without the bottleneck's head.
        trainer: whose accelerator averages gradients over processes.
    """

    def __init__(self, weights: list[nn.Parameter], trainer: Trainer) -> None:
        self._weights = weights
        self._accelerator = trainer.accelerator
        self._gradients: tuple[Tensor | None, ...] = ()

    @classmethod
    def of(cls, trainer: Trainer) -> GradientShare | None:
        """Separate the gradients of what the trainer trains; None where that is not possible.

        It is not with weights that are sharded or hold an earlier forward's gradient already, with scaled gradients,
        or where a graph can be used only once.
        """
        arguments, accelerator = trainer.args, trainer.accelerator
        is_reentrant = bool((arguments.gradient_checkpointing_kwargs or {}).get("use_reentrant"))
        if (
            trainer.is_fsdp_enabled
            or trainer.is_deepspeed_enabled
            or accelerator.scaler is not None
            or arguments.torch_compile
            or (arguments.gradient_checkpointing and is_reentrant)
            or getattr(arguments, "activation_offloading", False)
        ):
            return None
        # All layers below the bottleneck. The block just below would cost next to nothing, and mislead: early layers
        # make massive activations, and its ratio was 2 where that of the whole adapter was 157 (SmolLM2-135M, `paper`).
        heads = {id(parameter) for parameter in trainer.bottleneck.parameters()}
        weights = [p for p in trainer.model.parameters() if p.requires_grad and id(p) not in heads]
        return None if any(weight.grad is not None for weight in weights) else cls(weights, trainer)

    def take(self, penalty: Tensor) -> None:
        """Compute the penalty's gradient; keep its graph for the backward."""
        self._gradients = torch.autograd.grad(penalty, self._weights, retain_graph=True, allow_unused=True)

    def ratio(self) -> float:
        """Return the norm of the penalty's gradient over that of the cross-entropy's, after the backward."""
        of_penalty = of_rest = 0.0
        is_averaged = self._accelerator.num_processes > 1 and self._accelerator.sync_gradients
        for weight, gradient in zip(self._weights, self._gradients, strict=True):
            total = torch.zeros_like(weight) if weight.grad is None else weight.grad
            if gradient is None:
                of_rest += float(total.float().square().sum())
                continue
            if is_averaged:
                gradient = self._accelerator.reduce(gradient, "mean")
            of_penalty += float(gradient.float().square().sum())
            of_rest += float((total - gradient).float().square().sum())
        return math.sqrt(of_penalty / of_rest) if of_rest > 0 else math.inf
