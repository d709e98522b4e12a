"""Look at a model that is trained, and leave its training bit for bit as it was."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["fingerprint", "undisturbed"]

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the size of an element in bytes."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode inside, and give back every mode and every global random state after it."""
    # Module by module: `train()` would also switch what was in evaluation before.
    training = [module for module in model.modules() if module.training]
    # The model's own GPUs alone: asking another GPU for its state would take memory on it.
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices, device_type="cuda"):
            for module in training:
                module.training = False
            yield
    finally:
        for module in training:
            module.training = True
        random.setstate(python)
        np.random.set_state(numpy)


def fingerprint(model: nn.Module) -> str:
    """Return a hash (16 hex digits) of the weights that are trained: equal to the bit, equal hash."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            digest.update(f"{name} {_bits(parameter)};".encode())
    return digest.hexdigest()[:16]


def _bits(parameter: Tensor) -> int:
    # Integers: their sum does not depend on the order, as a sum of floats does on a GPU.
    bits = parameter.detach().contiguous().view(_INTEGERS[parameter.element_size()])
    return int(bits.sum(dtype=torch.int64))
