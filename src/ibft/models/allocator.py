"""What the C library does with freed memory while a CPU computes (glibc; elsewhere nothing changes)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

__all__ = ["keeping_freed_memory", "returning_freed_memory"]

# mallopt(3)
_TRIM_THRESHOLD = -1
"""From how many bytes on the free end of the heap goes back to the system."""
_MMAP_THRESHOLD = -3
"""From how many bytes on a block is a mapping of its own, which goes back as soon as it is freed."""
_MMAP_MAX = -4
"""How many such mappings there may be."""

_MIB = 2**20
_USUAL = {_TRIM_THRESHOLD: 64 * _MIB, _MMAP_THRESHOLD: 32 * _MIB, _MMAP_MAX: 65_536}
"""What glibc arrives at by itself, as large blocks come and go."""


@contextlib.contextmanager
def returning_freed_memory(is_wanted: bool = True, *, least: int = 4 * _MIB) -> Iterator[None]:
    """Each freed block of at least so many bytes goes back to the system at once: less memory, for more page faults.

    So do all that are free already, before and after.

    By itself glibc keeps blocks of up to 32 MiB for reuse. The activations of one layer after another, none of which
    fits the last one's hole, then hold several times what is alive: with gradient checkpointing 3.1 GiB instead of 1.4
    for the same step (8 layers of SmolLM2's shape, 6,000 tokens).
    """
    with _trimming(is_wanted), _set({_TRIM_THRESHOLD: least, _MMAP_THRESHOLD: least} if is_wanted else {}):
        yield


@contextlib.contextmanager
def keeping_freed_memory(is_wanted: bool = True) -> Iterator[None]:
    """No freed block goes back to the system before the end: no page faults, where blocks of a few sizes come and go.

    By itself glibc returns blocks of more than 32 MiB, such as a chunk of logits, and the system clears each page of
    the next one anew: an exponential over 50 MiB then takes 64 ms in place of 23 (256 x 49,152, two threads).
    """
    with _trimming(is_wanted), _set({_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0} if is_wanted else {}):
        yield


@contextlib.contextmanager
def _trimming(is_wanted: bool) -> Iterator[None]:
    try:
        if is_wanted:
            _call("malloc_trim", 0)
        yield
    finally:
        if is_wanted:
            _call("malloc_trim", 0)


@contextlib.contextmanager
def _set(options: dict[int, int]) -> Iterator[None]:
    try:
        for option, value in options.items():
            _call("mallopt", option, value)
        yield
    finally:
        for option in options:
            _call("mallopt", option, _USUAL[option])


def _call(name: str, *arguments: int) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
