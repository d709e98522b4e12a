"""Where a benchmark was run: what its result says beside the figures."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "ibft")


def facts(device: str = "auto") -> dict[str, Any]:
    """Command, device and versions, for the head of a JSON file."""
    return {
        "command": ["python", *sys.argv],
        "device": device_name(device),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def device_name(device: str = "auto") -> str:
    """Of the GPU, or of the processor where there is none or `device` is `cpu`."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
