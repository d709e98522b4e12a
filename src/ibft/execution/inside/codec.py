"""The one language that the judge and a candidate speak: JSON with tags. How it crosses is `messages`' matter.

The sending side inside the sandbox belongs to the candidate: nothing it sends is trusted. So a message can only
become a value of an exact builtin type, or a handle's number; no code of the other side is loaded, named or called.
Size and depth are capped. JSON values are sent as they are; every other value is an object with one key, the tag.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

__all__ = ["MAX_DEPTH", "CodecError", "Handles", "decode", "encode", "know_numpy"]

MAX_DEPTH = 100
_EXACT_JSON = frozenset({type(None), bool, float, str})
_PLAIN = _EXACT_JSON | {int}
_DTYPES = frozenset(
    [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    ]
)
# Larger integers cross in hexadecimal: Python refuses to print or read more than 4,300 decimal digits.
_LARGEST_PLAIN_INT = 1 << 53


class CodecError(ValueError):
    """A value that the language cannot express, or a message that is not of the language."""


class Handles(Protocol):
    """What one side does with objects that cannot cross, to which the other side refers by numbers."""

    def number(self, value: Any) -> int:
        """Return an object's number."""
        ...

    def value(self, number: int) -> Any:
        """Return what stands for the object with a number."""
        ...

    def flattened(self) -> None:
        """Take note that a value crosses as one of its base type."""
        ...


def encode(value: Any, handles: Handles | None = None, depth: int = 0) -> Any:
    """Return a value as plain data, which JSON can hold.

    Subclasses of builtin containers and numbers are sent as their base type.

    Args:
        value: what to send.
        handles: for any other object.
        depth: how deep inside an outer value this one is.

    Raises:
        CodecError: the value is nested too deeply, or of another type while there are no `handles`.
    """
    kind = type(value)  # never `isinstance`, which asks the value's own `__class__`
    if kind in _EXACT_JSON:
        return value
    if kind is int:
        return value if -_LARGEST_PLAIN_INT < value < _LARGEST_PLAIN_INT else {"i": hex(value)}
    if depth > MAX_DEPTH:
        raise CodecError(f"nested more than {MAX_DEPTH} deep")
    if kind in _ENCODERS:
        return _ENCODERS[kind](value, handles, depth + 1)
    if (base := next((base for base in kind.__mro__ if base in _ENCODERS), None)) is not None:
        if handles is not None:
            handles.flattened()
        return {"x": _ENCODERS[base](value, handles, depth + 1)}
    if handles is None:
        raise CodecError(f"a {kind.__name__} cannot cross into the sandbox")
    return {"h": handles.number(value)}


def decode(data: Any, handles: Handles, depth: int = 0) -> Any:
    """Return the value of plain data, with exact builtin types.

    Raises:
        CodecError: it is not of the language, or nested too deeply.
    """
    kind = type(data)
    if kind in _EXACT_JSON or kind is int:
        return data
    if depth > MAX_DEPTH:
        raise CodecError(f"nested more than {MAX_DEPTH} deep")
    if kind is list:
        # Most lists hold nothing but these, and may hold a million of them.
        return data if _PLAIN.issuperset(map(type, data)) else [decode(item, handles, depth + 1) for item in data]
    if kind is not dict or len(data) != 1:
        raise CodecError("not a tagged value")
    [(tag, content)] = data.items()
    if tag == "h":
        if type(content) is not int or content < 0:  # a bool is an int to `isinstance`; -1 would be the last object
            raise CodecError("not a handle")
        return handles.value(content)
    if tag == "x":
        handles.flattened()
        return decode(content, handles, depth + 1)
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise CodecError("unknown tag")
    try:
        return decoder(content, lambda item: decode(item, handles, depth + 1))
    except CodecError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        raise CodecError(f"malformed value ({type(error).__name__})") from None


def _sequence(tag: str, base: type) -> Callable[..., Any]:
    def encoder(value: Any, handles: Any, depth: int) -> Any:
        return {tag: _encoded(base.__iter__(value), handles, depth)}  # type: ignore[attr-defined]

    return encoder


def _encoded(items: Iterator[Any], handles: Any, depth: int) -> list[Any]:
    values = list(items)
    kinds = {*map(type, values)}
    if _EXACT_JSON.issuperset(kinds):
        return values
    if kinds == {int} and min(values) > -_LARGEST_PLAIN_INT and max(values) < _LARGEST_PLAIN_INT:
        return values
    return [encode(item, handles, depth) for item in values]


# All is read by the base type's own methods: an overridden `__iter__`, `items` or `hex` of a subclass is never called.
_ENCODERS: dict[type, Callable[..., Any]] = {
    list: lambda value, handles, depth: _encoded(list.__iter__(value), handles, depth),
    tuple: _sequence("t", tuple),
    set: _sequence("s", set),
    frozenset: _sequence("f", frozenset),
    collections.deque: lambda value, handles, depth: {
        "q": [_encoded(collections.deque.__iter__(value), handles, depth), value.maxlen]
    },
    dict: lambda value, handles, depth: {
        # Pairs: JSON's keys can only be text.
        "d": [[encode(k, handles, depth), encode(v, handles, depth)] for k, v in dict.items(value)]
    },
    bytes: lambda value, *_: {"b": bytes.hex(value)},
    bytearray: lambda value, *_: {"B": bytearray.hex(value)},
    complex: lambda value, *_: {"c": [value.real, value.imag]},
    range: lambda value, *_: {"r": [hex(value.start), hex(value.stop), hex(value.step)]},
    slice: lambda value, handles, depth: {
        "l": [encode(part, handles, depth) for part in (value.start, value.stop, value.step)]
    },
    decimal.Decimal: lambda value, *_: {"D": decimal.Decimal.__str__(value)},
    fractions.Fraction: lambda value, *_: {"F": [hex(value.numerator), hex(value.denominator)]},
    datetime.datetime: lambda value, handles, depth: _moment(value, handles),
    datetime.date: lambda value, *_: {"Y": datetime.date.isoformat(value)},
    datetime.timedelta: lambda value, *_: {"E": [value.days, value.seconds, value.microseconds]},
    type(Ellipsis): lambda *_: {"e": 0},
    # Subclasses only: values of exactly these types are sent as they are.
    int: lambda value, handles, depth: encode(int.__index__(value), handles, depth),
    float: lambda value, *_: float.__pos__(value),
    str: lambda value, *_: str.join("", str.__iter__(value)),
}


def _moment(value: datetime.datetime, handles: Handles | None) -> dict[str, Any]:
    moment = {"T": datetime.datetime.isoformat(value)}
    if handles is None or not (value.fold or value.tzinfo not in (None, datetime.timezone.utc)):
        return moment
    handles.flattened()  # the zone becomes an offset, without its name
    return {"x": moment}


def know_numpy() -> None:
    """Let arrays of numbers cross as arrays and NumPy's scalars as numbers, from now on in this process."""
    import numpy

    global _numpy_array
    _numpy_array = numpy.array

    def encode_array(value: Any, handles: Handles | None, depth: int) -> Any:
        if value.dtype.name in _DTYPES and value.dtype.isnative:
            items = numpy.ndarray.tolist(value)  # of a masked array, too
            return {"a": [value.dtype.name, list(value.shape), encode(items, handles, depth)]}
        if handles is None:
            raise CodecError(f"an array of {value.dtype.name} cannot cross into the sandbox")
        return {"h": handles.number(value)}

    _ENCODERS[numpy.ndarray] = encode_array
    _ENCODERS[numpy.generic] = lambda value, handles, depth: encode(value.item(), handles, depth)


def _expect(content: Any, kind: type) -> Any:
    """Return the content if it is of this exact type, which the builtin that takes it may not check itself."""
    if type(content) is not kind:
        raise CodecError(f"a {kind.__name__} is missing")
    return content


def _items(content: Any, item: Callable[[Any], Any]) -> Iterator[Any]:
    return map(item, _expect(content, list))


def _values(content: Any, item: Callable[[Any], Any]) -> Iterable[Any]:
    # As in `decode`: most are plain.
    return content if _PLAIN.issuperset(map(type, _expect(content, list))) else map(item, content)


def _set(content: Any, item: Callable[[Any], Any]) -> set[Any]:
    elements = set()
    # A loop of Python's own, which the alarm can end: elements may be chosen to collide, and C code would not stop.
    for part in _values(content, item):
        elements.add(part)
    return elements


def _pairs(content: Any, item: Callable[[Any], Any]) -> dict[Any, Any]:
    pairs = {}
    for pair in _expect(content, list):
        key, value = _expect(pair, list)
        pairs[item(key)] = item(value)
    return pairs


def _deque(content: Any, item: Callable[[Any], Any]) -> collections.deque[Any]:
    items, maxlen = _expect(content, list)
    return collections.deque(_values(items, item), maxlen if maxlen is None else _expect(maxlen, int))


def _int(content: Any) -> int:
    return int(_expect(content, str), 16)


def _array(content: Any, item: Callable[[Any], Any]) -> Any:
    if _numpy_array is None:
        raise CodecError("no array can come here")
    name, shape, nested = _expect(content, list)
    if name not in _DTYPES:  # a candidate's own could be one of objects
        raise CodecError("unknown dtype")
    # An empty list does not say how many empty rows it would have.
    return _numpy_array(item(nested), dtype=name).reshape(_expect(shape, list))


_numpy_array: Callable[..., Any] | None = None  # set by `know_numpy`
_DECODERS: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "i": lambda content, item: _int(content),
    "t": lambda content, item: tuple(_values(content, item)),
    "s": _set,
    "f": lambda content, item: frozenset(_set(content, item)),
    "q": _deque,
    "d": _pairs,
    "b": lambda content, item: bytes.fromhex(_expect(content, str)),
    "B": lambda content, item: bytearray.fromhex(_expect(content, str)),
    "c": lambda content, item: complex(*_items(content, float)),
    "r": lambda content, item: range(*_items(content, _int)),
    "l": lambda content, item: slice(*_items(content, item)),
    "D": lambda content, item: decimal.Decimal(_expect(content, str)),
    "F": lambda content, item: fractions.Fraction(*_items(content, _int)),
    "T": lambda content, item: datetime.datetime.fromisoformat(_expect(content, str)),
    "Y": lambda content, item: datetime.date.fromisoformat(_expect(content, str)),
    "E": lambda content, item: datetime.timedelta(*_items(content, int)),
    "e": lambda content, item: Ellipsis,
    "a": _array,
}
