"""Reading one JSON file of a stage or the report, of this or an older version."""

from __future__ import annotations

import math
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from ibft.errors import UserError

__all__ = ["read_json", "read_summary"]

Summary = TypeVar("Summary", bound=msgspec.Struct)


def read_summary(path: Path, kind: type[Summary], remedy: str = "") -> Summary | None:
    """Read a stage's JSON file; None if it does not exist. A number that is null in it is NaN.

    Args:
        path: the file.
        kind: what it holds.
        remedy: what helps where it is damaged; by default to run the whole stage again.

    Raises:
        UserError: it is damaged.
    """
    again = f"Remove the folder {path.parent}, then run its stage again."
    return read_json(path, kind, remedy or again) if path.exists() else None


def read_json(path: Path, kind: type[Summary], remedy: str) -> Summary:
    """Read a JSON file that must be there. A number that is null in it is NaN where `kind` says float.

    Raises:
        UserError: it is missing or damaged; the message ends with `remedy`.
    """
    # In two steps, since msgspec refuses null for a float.
    try:
        return msgspec.convert(_with_nan(msgspec.json.decode(path.read_bytes()), kind), kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"{path}: {error}. {remedy}") from None


def _with_nan(value: Any, kind: Any) -> Any:
    """Put NaN where the file has null and the type says float."""
    # JSON has no NaN, and msgspec writes null for it.
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is float and value is None:
        return math.nan
    if origin in (Union, UnionType):
        return value if value is None else _with_nan(value, next(type_ for type_ in arguments if type_ is not NoneType))
    if isinstance(value, dict) and origin is dict:
        return {key: _with_nan(inner, arguments[1]) for key, inner in value.items()}
    if isinstance(value, list) and (origin is list or (origin is tuple and arguments[-1] is ...)):
        return [_with_nan(inner, arguments[0]) for inner in value]
    if isinstance(value, list) and origin is tuple:
        # Not strict: a list of the wrong length is refused by msgspec, which names the field.
        return [_with_nan(inner, of) for inner, of in zip(value, arguments, strict=False)]
    if isinstance(kind, type) and isinstance(value, dict | list):
        # Keys that `kind` lacks, as of a newer version, stay as they are: msgspec skips them.
        hints = get_type_hints(kind)
        if isinstance(value, dict):
            return {key: _with_nan(inner, hints.get(key, Any)) for key, inner in value.items()}
        return [_with_nan(inner, of) for inner, of in zip(value, hints.values(), strict=False)]
    return value
