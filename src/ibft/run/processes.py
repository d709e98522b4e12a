"""Find out which of a launcher's processes this is (torchrun, accelerate)."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "num_processes", "process_index"]


def num_processes() -> int:
    """Return how many processes the launcher started for this command; 1 without a launcher."""
    # By the launcher's variables, so that judging and reporting need not load PyTorch to know.
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Return which of the launcher's processes this is, from 0; 0 without a launcher."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def is_main_process() -> bool:
    """Decide whether this process is the one that writes: alone, or rank 0 of those that a launcher started."""
    return process_index() == 0
