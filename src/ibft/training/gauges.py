"""What a trainer logs beside TRL's own: means over processes, and sums over tokens on the scale of TRL's loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from trl import SFTTrainer

__all__ = ["per_token", "record"]


def per_token(trainer: SFTTrainer, num_labelled: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Return the factor that brings a sum over one forward's labelled tokens to the scale of TRL's loss.

    It is 1 / (labelled tokens of the whole optimizer step, on all processes) * processes; without
    `num_items_in_batch` it is 1 / (labelled tokens of this forward).

    Args:
        trainer: its processes and settings count.
        num_labelled: labelled tokens of this forward, a scalar.
        num_items_in_batch: labelled tokens of the step, as the Trainer gives it.
    """
    if num_items_in_batch is None:
        return 1 / num_labelled.clamp(min=1)
    # Times the processes, since DDP averages their gradients.
    share = 1 / torch.as_tensor(num_items_in_batch, device=num_labelled.device).clamp(min=1)
    return share * trainer.accelerator.num_processes if trainer.args.average_tokens_across_devices else share


def record(trainer: SFTTrainer, gauges: Mapping[str, Tensor | float]) -> None:
    """Add gauges to TRL's log, averaged over processes."""
    device = trainer.accelerator.device
    local = torch.stack([torch.as_tensor(value, device=device).detach().float() for value in gauges.values()])
    means = trainer.accelerator.gather(local[None]).mean(dim=0).tolist()
    mode = "train" if trainer.model.training else "eval"
    for name, value in zip(gauges, means, strict=True):
        trainer._metrics[mode][name].append(value)
