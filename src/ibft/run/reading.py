"""From YAML to a struct: overrides by path, and errors that name the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from ibft.errors import UserError

__all__ = ["build", "build_from_settings", "merge", "override", "suggest"]

Built = TypeVar("Built", bound=msgspec.Struct)


def merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put the values of nested mappings in the place of the target's."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


def override(raw: dict[str, Any], setting: str) -> None:
    """Set one value by its path, as `--set` does: `train.learning_rate=1e-4`; list items by their index.

    Raises:
        UserError: there is no such place, or the value is not YAML.
    """
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        raise UserError(f"--set {setting}: expected KEY=VALUE, for example --set train.learning_rate=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {setting}: the value is not valid YAML. Quote it for the shell.") from None
    *parents, last = key.strip().split(".")
    node: Any = raw
    for part in parents:
        if isinstance(node, list):
            node = _list_item(node, part, setting)
        elif isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
    if isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"--set {setting}: {'.'.join(parents)} is {node!r} in the recipe, so it has no keys")


def _list_item(node: list[Any], part: str, setting: str) -> Any:
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"--set {setting}: {part!r} must be an index from 0 to {len(node) - 1}")
    # `objective: [ft, ib]` has words, and `--set objective.1.alpha=0.1` needs a mapping.
    if isinstance(node[int(part)], str):
        node[int(part)] = {"name": node[int(part)]}
    return node[int(part)]


def build(raw: dict[str, Any], kind: type[Built], source: str) -> Built:
    """Return the struct that nested mappings stand for.

    Raises:
        UserError: a key is unknown, or a value is not allowed; names `source`, the key, the value and what is allowed.
    """
    _reject_unknown_keys(raw, kind, "", source)  # first: msgspec's own error does not say which keys there are
    try:
        # Lenient: YAML 1.1 takes "2e-4" for a string.
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UserError(f"{source}: {_explain(str(error), raw, kind)}") from None


def build_from_settings(settings: Sequence[str], kind: type[Built]) -> Built:
    """Return the struct with its defaults but for `KEY=VALUE` settings, as `--set` takes them.

    Raises:
        UserError: a key is unknown, or a value is not allowed.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        override(changes, setting)
    return build(changes, kind, "--set")


def _explain(message: str, raw: Any, expected: Any) -> str:
    """Turn msgspec's "what - at `$.a[0].b`" into "a.0.b is VALUE: what", and name the words that are allowed."""
    what, _, where = message.partition(" - at ")
    keys = re.findall(r"[\w-]+", where)
    value: Any = raw
    for key in keys:
        try:
            if isinstance(value, list):
                value, expected = value[int(key)], get_args(expected)[0]
            else:
                struct = _struct_for(value, expected, "", "")
                value, expected = value[key], get_type_hints(struct)[key] if struct else None
        except (KeyError, IndexError, TypeError, ValueError):
            return f"{'.'.join(keys)}: {what}" if keys else what
    if what.startswith("Invalid enum value") and get_origin(expected) is Literal:
        return f"{'.'.join(keys)} is {value!r}.{suggest(str(value), get_args(expected))}"
    path = ".".join(keys)
    return what if not keys or what.startswith(f"{path}.") else f"{path} is {value!r}: {what}"


def _reject_unknown_keys(raw: Any, expected: Any, where: str, source: str) -> None:
    struct = _struct_for(raw, expected, where, source)
    if struct is None:
        if isinstance(raw, list) and get_args(expected):  # else a list where none is expected: msgspec's business
            for index, item in enumerate(raw):
                _reject_unknown_keys(item, get_args(expected)[0], f"{where}{index}.", source)
        return
    hints = get_type_hints(struct)
    tag_field = struct.__struct_config__.tag_field
    known = [*struct.__struct_fields__, *([tag_field] if tag_field else [])]
    if not isinstance(raw, dict):
        what = where.rstrip(".") or "the recipe"
        raise UserError(f"{source}: {what} is {raw!r}: expected a mapping of keys, such as {{{known[0]}: ...}}")
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{source}: unknown key {where}{key}.{suggest(str(key), known)}")
        if key != tag_field and value is not None:
            _reject_unknown_keys(value, hints[key], f"{where}{key}.", source)


def _struct_for(raw: Any, expected: Any, where: str, source: str) -> type[msgspec.Struct] | None:
    """Return the struct that `raw` should become: the expected one, or the member of a tagged union that it names."""
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct):
        return expected
    if get_origin(expected) in (Union, types.UnionType):
        by_tag = {
            option.__struct_config__.tag: option
            for option in get_args(expected)
            if isinstance(option, type) and issubclass(option, msgspec.Struct)
        }
        if isinstance(raw, str) and str in get_args(expected):  # `str | Section`
            return None
        if list(by_tag) == [None]:  # `Section | None`
            return by_tag[None]
        if by_tag:
            name = raw.get("name") if isinstance(raw, dict) else raw
            if name not in by_tag:
                raise UserError(f"{source}: {where}name is {name!r}.{suggest(str(name), [str(tag) for tag in by_tag])}")
            return by_tag[name]
    return None


def suggest(word: str, known: Sequence[str]) -> str:
    """Return what may be meant by a word that is not known, and all that are."""
    near = difflib.get_close_matches(word, known, n=1)
    return (f" Did you mean {near[0]}?" if near else "") + f" Known: {', '.join(known)}."
