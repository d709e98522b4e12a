"""A small module's state, whole, whether its weights are held whole (DDP) or in shares (FSDP2, DeepSpeed ZeRO-3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.integrations import is_deepspeed_zero3_enabled

__all__ = ["load_whole_state", "whole_state"]


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's state as whole tensors on the CPU. Where weights are sharded, every process must call it."""
    with _gathered(module):
        state = module.state_dict()
        return {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu().clone()
            for name, value in state.items()
        }


def load_whole_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `whole_state` returned, on every process the same.

    Raises:
        RuntimeError: a name or a shape does not fit.
    """
    with _gathered(module, is_changed=True):
        targets = module.state_dict()
        # A name that the module does not have is passed on: load_state_dict refuses it.
        module.load_state_dict(
            {name: _in_shares(value, targets[name]) if name in targets else value for name, value in state.items()}
        )


def _in_shares(value: Tensor, target: Tensor) -> Tensor:
    if not isinstance(target, DTensor):
        return value
    # Every process has the whole tensor and takes its share of it: nothing is sent.
    value = value.to(target.device)
    return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)


@contextmanager
def _gathered(module: nn.Module, is_changed: bool = False) -> Iterator[None]:
    """Hold ZeRO-3's weights whole inside; with `is_changed` the main process's are kept. Do nothing without ZeRO-3."""
    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(module.parameters()), modifier_rank=0 if is_changed else None):
        yield
