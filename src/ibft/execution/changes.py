"""What a call did to its arguments, which crossed as copies: found, and done to the originals."""

from __future__ import annotations

import collections
import contextlib
import itertools
from typing import Any

__all__ = ["are_equal", "become", "is_mutable"]

_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, frozenset, range)


def is_mutable(value: Any) -> bool:
    """Decide whether a value, or one in a tuple, may be changed in place."""
    return any(map(is_mutable, value)) if type(value) is tuple else not isinstance(value, _IMMUTABLE)


def are_equal(old: Any, new: Any) -> bool:
    """Decide whether two values are equal; those that do not say, as arrays, are not."""
    with contextlib.suppress(Exception):
        return bool(old == new)
    return False


def become(old: Any, new: Any) -> Any:
    """Return what a value has become: the same container, for all who know it, with what is in it now."""
    if type(old) is not type(new):
        return new
    if type(old) is tuple:
        return tuple(itertools.starmap(become, zip(old, new, strict=True))) if len(old) == len(new) else new
    if type(old) is list:
        old[:] = [*itertools.starmap(become, zip(old, new, strict=False)), *new[len(old) :]]
    elif type(old) is dict:
        content = {key: become(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(content)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new
    elif type(old) is collections.deque:
        old.clear()
        old.extend(new)
    elif type(old).__module__ == "numpy" and (old.dtype, old.shape) == (new.dtype, new.shape) and old.flags.writeable:
        old[...] = new
    else:
        return new
    return old
