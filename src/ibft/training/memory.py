"""Peak memory of a training run."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch

__all__ = ["peak_memory_mib", "reset_peak_memory"]


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak, so that an arm does not count what ran before it in this process (Linux and GPUs)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM: proc(5)


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak since `reset_peak_memory`, in MiB: PyTorch's on a GPU, the process's resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if match:
            return int(match[1]) / 1024
    # Where /proc does not exist: the peak since the process started. macOS counts in bytes, others in KiB.
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 2**20
