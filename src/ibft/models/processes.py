"""Several processes of one command: all of them act on what the main process finds out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ibft.models.loading import has_gpu
from ibft.run.processes import is_main_process, num_processes
from ibft.run.sections import ModelConfig

__all__ = ["decide", "join"]

Value = TypeVar("Value")


def join(config: ModelConfig) -> None:
    """Connect the processes that a launcher started, over NCCL on GPUs and gloo on CPUs; with one, do nothing."""
    if num_processes() == 1:
        return
    from accelerate import PartialState

    # It also gives each process its GPU: `cuda` then means another one in each.
    PartialState(cpu=config.device == "cpu" or (config.device == "auto" and not has_gpu()))


def decide(find: Callable[[], Value]) -> Value:
    """Call `find` on the main process alone; every process returns its value, or raises its error.

    No process returns before all others have called it.

    Args:
        find: looks at the folder; its value must be picklable.
    """
    if num_processes() == 1:
        return find()
    import torch.distributed

    # A process that asked the file system itself, a moment later, might get another answer: then one would train and
    # another not, and both would wait for each other for good.
    answer: list[tuple[Value | None, Exception | None]] = [(None, None)]
    if is_main_process():
        try:
            answer = [(find(), None)]
        except Exception as failure:  # whatever it is, the others must not wait for a value
            answer = [(None, failure)]
    torch.distributed.broadcast_object_list(answer, src=0)
    torch.distributed.barrier()
    value, error = answer[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]
