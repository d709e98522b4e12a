"""Hash what a stage was made from, plain JSON values, and say how two of them differ. Pure.

A mapping with the key `digest` is a source: a file, a folder, a hub repository, a package. Two sources are the same if
their digests are, whatever they are called; where a digest is None (not known here), `name` and `revision` decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

__all__ = ["FORMAT", "difference", "has_other_format", "identity_of", "plain"]

FORMAT = "format"
"""The input that names the version of a stage's own code; results of another version are not comparable."""

_DIGEST = "digest"
_NAMES = ("name", "revision")
_MISSING = object()


def plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs as they are read back from JSON: a struct is a mapping, a tuple a list."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(inputs))
    return values


def identity_of(inputs: Mapping[str, Any]) -> str:
    """Return a hash (16 hex digits) of plain inputs. The name of a source with a digest does not enter it."""
    # With sorted keys: equal inputs have one hash, in whatever order a stage lists them.
    return hashlib.sha256(msgspec.json.encode(_without_names(inputs), order="deterministic")).hexdigest()[:16]


def _without_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_names(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    # Where a source lies does not count where its content is known.
    left_out = _NAMES if value.get(_DIGEST) is not None else ()
    return {key: _without_names(item) for key, item in value.items() if key not in left_out}


def has_other_format(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return True if the inputs are of different versions of the stage's code, so that their keys may differ too."""
    return FORMAT in new and old.get(FORMAT) != new[FORMAT]


def difference(
    old: Mapping[str, Any], new: Mapping[str, Any], *, is_part: bool = False, trusts_names: bool = False
) -> str | None:
    """Return the first difference in words, such as `model.dtype: float32 -> bfloat16`; None if there is none.

    Args:
        old: plain inputs of a result that exists.
        new: plain inputs of the result that is asked for.
        is_part: compare only the keys that `new` has, at every level.
        trusts_names: take sources of one name for the same, whatever is behind it here.
    """
    return _first(old, new, "", _How(is_part, trusts_names))


class _How(NamedTuple):
    is_part: bool
    trusts_names: bool


def _first(old: Any, new: Any, path: str, how: _How) -> str | None:
    if isinstance(new, Mapping) and _DIGEST in new:
        if old is _MISSING:  # recorded by a version that did not look at this source
            return None
        if isinstance(old, str):  # recorded by a version that knew a source by its name alone
            old = {"name": old}
        if isinstance(old, Mapping):
            return _of_sources(old, new, path, how)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(() if how.is_part else (key for key in old if key not in new))]:
            inner = f"{path}.{key}" if path else key
            if words := _first(old.get(key, _MISSING), new.get(key), inner, how):
                return words
        return None
    before = None if old is _MISSING else old
    return None if before == new else f"{path}: {_shown(before)} -> {_shown(new)}"


def _of_sources(old: Mapping[str, Any], new: Mapping[str, Any], path: str, how: _How) -> str | None:
    before, after = (
        {key: value for key, value in source.items() if key not in (*_NAMES, _DIGEST)} for source in (old, new)
    )
    digests = old.get(_DIGEST), new[_DIGEST]
    if None in digests or digests[0] != digests[1]:
        for key in (key for key in _NAMES if key in new and old.get(key) != new[key]):
            where = path if key == "name" and not after else f"{path}.{key}"
            return f"{where}: {_shown(old.get(key))} -> {_shown(new[key])}"
        if None not in digests and not how.trusts_names:
            return f"the content of {new['name']} has changed"
    return _first(before, after, path, how)


def _shown(value: Any) -> str:
    """Return a value for a message: a source by its name, and not more than a line of anything."""
    text = str(value["name"] if isinstance(value, Mapping) and "name" in value else value)
    return text if len(text) <= 100 else f"{text[:99]}…"
