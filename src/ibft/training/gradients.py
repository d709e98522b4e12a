"""Whose gradient trains the model: the share of it that comes from the bottleneck."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["GradientShare"]


class GradientShare:
    """Tells the penalty's gradient into the model's trained weights from the cross-entropy's, for one backward.

    Both add up in the one backward of the step, so the penalty's is computed beside it, through the layers below the
    bottleneck alone; the cross-entropy's is the rest. Costs about half a backward, at logging steps only. The block
    just below the bottleneck would cost next to nothing, and mislead: with massive activations, which early layers
    make, its ratio was 2 where that of the whole adapter was 157 (SmolLM2-135M, `paper`).

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
        """For the weights that the trainer trains; None if they hold an earlier forward's gradient already."""
        heads = {id(parameter) for parameter in trainer.bottleneck.parameters()}
        weights = [p for p in trainer.model.parameters() if p.requires_grad and id(p) not in heads]
        return None if any(weight.grad is not None for weight in weights) else cls(weights, trainer)

    @staticmethod
    def is_possible(trainer: Trainer) -> bool:
        """Whether gradients can be told apart: not where weights are sharded, gradients scaled, or graphs used up."""
        arguments, accelerator = trainer.args, trainer.accelerator
        is_reentrant = bool((arguments.gradient_checkpointing_kwargs or {}).get("use_reentrant"))
        return not (
            trainer.is_fsdp_enabled
            or trainer.is_deepspeed_enabled
            or accelerator.scaler is not None
            or arguments.torch_compile
            or (arguments.gradient_checkpointing and is_reentrant)
            or getattr(arguments, "activation_offloading", False)
        )

    def take(self, penalty: Tensor) -> None:
        """Compute the penalty's gradient; its graph stays for the backward."""
        self._gradients = torch.autograd.grad(penalty, self._weights, retain_graph=True, allow_unused=True)

    def ratio(self) -> float:
        """Norm of the penalty's gradient over the norm of the cross-entropy's, after the backward."""
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
