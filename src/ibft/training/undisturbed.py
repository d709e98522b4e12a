"""Look at a model that is trained, and leave its training bit for bit as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode inside, and give back every mode and every global random state after it.

    (A data loader draws a number from the global generator when it begins: every dropout after it would be another.)
    """
    # Module by module: `train()` would also switch what was in evaluation before.
    modes = [(module, module.training) for module in model.modules()]
    # The model's own devices alone: asking another GPU for its state would take memory on it.
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type in ("cuda", "xpu")}
    kind = next((device.type for device in devices), "cuda")
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(sorted(device.index for device in devices), device_type=kind):
            for module, _ in modes:
                module.training = False
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training
        random.setstate(python)
        np.random.set_state(numpy)
