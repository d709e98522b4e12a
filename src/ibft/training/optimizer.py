"""The optimizer: a name that transformers has, tried on the device before a GPU hour is spent on it."""

from __future__ import annotations

import tempfile

import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from ibft.errors import UserError
from ibft.run.reading import suggest

__all__ = ["check_optimizer"]

_SIZE = 128
"""Of a square weight: optimizers of 8 bits hold what has under 4,096 values in 32 bits, and would not be tried."""


def check_optimizer(name: str, device: torch.device) -> None:
    """Take one step of an optimizer on a small layer.

    Args:
        name: as in `train.optimizer`, one of transformers' `OptimizerNames`.
        device: the one that will be trained on.

    Raises:
        UserError: the name is unknown, its package is not installed, or it does not run on this device.
    """
    known = [optimizer.value for optimizer in OptimizerNames]
    if name not in known:
        raise UserError(f"train.optimizer is {name!r}.{suggest(name, known)}")
    try:
        # Tried, not looked up: which of them run on a CPU changes with each release of bitsandbytes.
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(folder, optim=name, use_cpu=device.type == "cpu", report_to="none")
        layer = nn.Linear(_SIZE, _SIZE, device=device)
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, layer)
        optimizer = kind(settings.pop("params", layer.parameters()), **settings)
        if callable(to_training := getattr(optimizer, "train", None)):
            to_training()  # a schedule-free optimizer refuses to step before it
        layer(torch.ones(1, _SIZE, device=device)).sum().backward()
        optimizer.step()
    # Each of a dozen packages refuses in its own way: not installed, a missing argument, no kernel for this device.
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(". ")
        raise UserError(
            f"train.optimizer is {name}: it cannot be used here on {device.type} ({reason}). Install what it needs, or "
            "use adamw_torch_fused, adamw_torch or adafactor, which need nothing."
        ) from None
