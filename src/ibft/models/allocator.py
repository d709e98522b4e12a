"""What the C library does with freed memory while a CPU computes (glibc; elsewhere nothing changes)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

__all__ = ["keeping_freed_memory", "returning_freed_memory"]

# Options of mallopt(3)
_TRIM_THRESHOLD = -1
"""How many free bytes at the end of the heap go back to the system."""
_MMAP_THRESHOLD = -3
"""From how many bytes on a block is a mapping of its own, which goes back as soon as it is freed."""
_MMAP_MAX = -4
"""How many such mappings there may be."""

_MIB = 2**20
_USUAL = {_TRIM_THRESHOLD: 64 * _MIB, _MMAP_THRESHOLD: 32 * _MIB, _MMAP_MAX: 65_536}
"""The values at which glibc arrives as large blocks come and go."""


@contextlib.contextmanager
def returning_freed_memory(is_wanted: bool = True, *, least: int = 4 * _MIB) -> Iterator[None]:
    """Return each freed block of at least `least` bytes to the system at once: less memory, for more page faults.

    All that is free already is returned, too, before and after.
    """
    if not is_wanted:
        yield
        return
    # By default glibc keeps blocks of up to 32 MiB for reuse. The activations of one layer after another, none of which
    # fits the last one's hole, then hold several times what is alive: with gradient checkpointing 3.1 GiB instead of
    # 1.4 for the same step (8 layers of SmolLM2's shape, 6,000 tokens).
    with _options({_TRIM_THRESHOLD: least, _MMAP_THRESHOLD: least}):
        yield


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Return no freed block to the system before the end: no page faults, where blocks of a few sizes come and go."""
    # By default glibc returns blocks of more than 32 MiB, such as a chunk of logits, and the system clears each page of
    # the next one: an exponential over 50 MiB then takes 64 ms instead of 23 (256 x 49,152, two threads).
    with _options({_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}):
        yield


@contextlib.contextmanager
def _options(values: dict[int, int]) -> Iterator[None]:
    try:
        _call("malloc_trim", 0)
        for option, value in values.items():
            _call("mallopt", option, value)
        yield
    finally:
        for option in values:
            _call("mallopt", option, _USUAL[option])
        _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    # Another C library has no such function.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
