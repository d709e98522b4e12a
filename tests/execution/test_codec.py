"""The language of the channel: what crosses arrives as it was, and what was never of the language is refused."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import json
import math
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from ibft.execution.inside import codec, messages
from ibft.execution.inside.codec import CodecError, decode, encode
from ibft.execution.inside.messages import ChannelClosed


class Objects:
    """The handles of one side: it keeps the objects, and counts what was flattened."""

    def __init__(self) -> None:
        self.known: list[Any] = []
        self.num_flattened = 0

    def number(self, value: Any) -> int:
        self.known.append(value)
        return len(self.known) - 1

    def value(self, number: int) -> Any:
        return self.known[number]

    def flattened(self) -> None:
        self.num_flattened += 1


def cross(value: Any) -> Any:
    """There through JSON and back."""
    return decode(json.loads(json.dumps(encode(value))), Objects())


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    (1 << 53) - 1,
    1 << 53,
    -(1 << 53),
    10**4000,
    -(10**30),
    0.0,
    -0.0,
    0.1,
    5e-324,
    math.inf,
    -math.inf,
    "",
    "é\0\n\u2028",
    "\ud800 alone",
    b"",
    bytes(range(256)),
    bytearray(b"ab"),
    [],
    [[], [[1]], [None]],
    (),
    (1, (2,), [3]),
    set(),
    {1, (2, 3), frozenset({4})},
    frozenset(),
    {},
    {1: "a", "1": "b", (1, 2): {3: [4]}, None: True, 2.5: 0},
    {"t": [1], "h": 3, "i": "0x1"},  # names of tags as keys
    1 + 2j,
    complex(-0.0, math.inf),
    range(0),
    range(5, -100, -7),
    range(10**30, 10**40),
    slice(None, 3, None),
    slice("a", (1,), -1),
    decimal.Decimal("1.20"),
    decimal.Decimal("-1E+50"),
    decimal.Decimal("Infinity"),
    fractions.Fraction(-7, 3),
    fractions.Fraction(10**40, 3),
    datetime.datetime(2026, 2, 28, 1, 2, 3, 4),
    datetime.datetime(2026, 2, 28, tzinfo=datetime.timezone.utc),
    datetime.date(2024, 2, 29),
    datetime.timedelta(days=-1, microseconds=5),
    collections.deque([1, "a"]),
    ...,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_arrive_as_they_were(value: Any) -> None:
    found = cross(value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)  # the signs of zeros, and the order of dicts


def test_integers_of_more_digits_than_python_prints_arrive() -> None:
    assert cross(-(7**20_000)) == -(7**20_000)


def test_not_a_number_arrives() -> None:
    assert math.isnan(cross(math.nan))
    assert cross(decimal.Decimal("NaN")).is_nan()
    assert math.isnan(cross(complex(math.nan, 1)).real)


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.IntEnum):
    RED = 3


class Liar:
    """Overrides all that a naive reader would call."""

    def _lie(self, *_: object) -> Any:
        raise AssertionError("called")

    __iter__ = __len__ = __eq__ = __str__ = __repr__ = __getitem__ = __float__ = _lie
    items = keys = values = tolist = copy = hex = isoformat = _lie
    __hash__ = None  # type: ignore[assignment]


def liar(base: type) -> type:
    return type(f"Liar{base.__name__}", (Liar, base), {"__hash__": base.__hash__})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        (Color.RED, 3),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        (liar(int)(7), 7),
        (liar(float)(0.5), 0.5),
        (liar(str)("ab"), "ab"),
        (liar(list)([1, 2]), [1, 2]),
        (liar(tuple)([1, 2]), (1, 2)),
        (liar(set)({1}), {1}),
        (liar(frozenset)({1}), frozenset({1})),
        (liar(dict)({1: 2}), {1: 2}),
        (liar(bytes)(b"a"), b"a"),
        (liar(collections.deque)([1]), collections.deque([1])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_arrive_as_their_base_without_calling_their_methods(value: Any, plain: Any) -> None:
    sender, receiver = Objects(), Objects()
    found = decode(json.loads(json.dumps(encode(value, sender))), receiver)
    assert found == plain
    assert type(found) is type(plain)
    assert sender.num_flattened == receiver.num_flattened > 0


def test_objects_become_handles_and_handles_what_they_stand_for() -> None:
    objects = Objects()
    encoded = encode([object, {"a": print}], objects)
    assert objects.known == [object, print]
    assert decode(encoded, objects) == [object, {"a": print}]
    with pytest.raises(CodecError, match="cannot cross"):
        encode(object())


def test_depth_is_capped_both_ways() -> None:
    deep: Any = 0
    for _ in range(codec.MAX_DEPTH):
        deep = [deep]
    assert cross(deep) == deep
    with pytest.raises(CodecError, match="nested"):
        encode([[deep]])
    with pytest.raises(CodecError, match="nested"):
        decode([[deep]], Objects())
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="nested"):
        encode(loop)


@pytest.fixture
def with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy known for one test: attacks that run later in this process must find arrays refused."""
    monkeypatch.setattr(codec, "_numpy_array", None)
    monkeypatch.setattr(codec, "_ENCODERS", codec._ENCODERS.copy())
    codec.know_numpy()


FORGED = [
    *({"z": 1}, {"x": {"z": 1}}, {}, {"t": [], "s": []}, {"h": -1}, {"h": True}, {"h": "0"}, {"h": None}, {"h": 1.0}),
    {"i": 3},
    *({"i": "four"}, {"i": None}, {"i": []}, {"t": 3}, {"t": "ab"}, {"t": {}}, {"s": [[]]}, {"s": {"a": 1}}, {"f": 1}),
    *({"f": [{"d": []}]}, {"q": None}, {"d": 3}, {"d": [1]}, {"d": [[1]]}, {"d": [[1, 2, 3]]}, {"d": [[[], 1]]}),
    *({"d": {"ab": 1}}, {"b": "0"}, {"b": 3}, {"b": "zz"}, {"B": [1]}, {"c": 3}, {"c": ["a", 1]}, {"c": {"0": 1}}),
    *({"r": []}, {"r": ["0x1", "0x2", "0x0"]}, {"r": [1]}, {"r": "abc"}, {"l": []}, {"l": 1}, {"D": "x"}, {"D": 1}),
    *({"D": [0, [1], 0]}, {"F": ["0x1", "0x0"]}, {"F": 1}, {"F": "1/2"}, {"T": "x"}, {"T": 1}, {"Y": "2024-13-01"}),
    *({"Y": None}, {"E": "abc"}, {"E": [10**30]}, {"E": [1] * 9}, {"a": 3}, {"a": []}, {"a": ["O", []]}),
]  # fmt: skip


@pytest.mark.usefixtures("with_numpy")
@pytest.mark.parametrize("data", FORGED, ids=json.dumps)
def test_what_encode_never_makes_is_refused(data: Any) -> None:
    for nested in (data, [data], {"t": [0, data]}, {"d": [[0, data]]}):
        with pytest.raises(CodecError):
            decode(nested, Objects())


def test_no_arrays_where_numpy_is_not_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_numpy_array", None)
    with pytest.raises(CodecError, match="array"):
        decode({"a": ["i", [1]]}, Objects())


@pytest.mark.usefixtures("with_numpy")
@pytest.mark.parametrize(
    "array",
    [np.arange(6).reshape(2, 3), *map(np.array, ([], [1.5, np.inf], [True, False], [1j], 3))],
    ids=str,
)
def test_arrays_arrive_with_shape_and_kind(array: Any) -> None:
    found = cross(array)
    assert type(found) is np.ndarray
    assert found.dtype.kind == array.dtype.kind
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape


@pytest.mark.usefixtures("with_numpy")
def test_numpy_scalars_arrive_as_numbers() -> None:
    for value, plain in ((np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a")):
        found = cross(value)
        assert found == plain
        assert type(found) is type(plain)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_keep_their_bounds(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sent = ["", {"a": [1]}, "\ud800", None, "x" * 50_000]
    for message in sent:
        messages.send(ours.fileno(), message)
    assert [messages.receive(theirs.fileno()) for _ in sent] == sent


def test_large_message_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    thread = threading.Thread(target=messages.send, args=(ours.fileno(), "x" * (3 << 20)))
    thread.start()
    assert messages.receive(theirs.fileno()) == "x" * (3 << 20)
    thread.join()


def test_size_is_capped_both_ways(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(CodecError, match="larger than 16 MiB"):
        messages.send(ours.fileno(), "x" * messages.MAX_ANSWER_BYTES, messages.MAX_ANSWER_BYTES)
    ours.send(struct.pack("!I", messages.MAX_ANSWER_BYTES + 1))
    with pytest.raises(CodecError, match="larger than 16 MiB"):
        messages.receive(theirs.fileno(), messages.MAX_ANSWER_BYTES)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"nul", b"[" * 9000, b"9" * 9000, b"'a'"], ids=lambda data: repr(data[:4])
)
def test_bytes_that_are_not_json(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    ours, theirs = pair
    ours.send(struct.pack("!I", len(data)) + data)
    with pytest.raises(CodecError, match="not JSON"):
        messages.receive(theirs.fileno())


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x05[1"])
def test_other_side_that_leaves(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    ours, theirs = pair
    ours.send(sent)
    ours.close()
    with pytest.raises(ChannelClosed):
        messages.receive(theirs.fileno())


def test_sending_to_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(ChannelClosed):
        messages.send(ours.fileno(), "x")


def test_waiting_has_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(TimeoutError):
        messages.wait(theirs.fileno(), 0.01)
    messages.send(ours.fileno(), 1)
    messages.wait(theirs.fileno(), 0.01)


def test_descriptor_comes_with_its_message(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    messages.send_with_descriptor(ours, {"kind": "a"}, write_end)
    messages.send(ours.fileno(), "b")
    message, descriptor = messages.receive_with_descriptor(theirs)
    assert message == {"kind": "a"}
    assert descriptor is not None
    os.write(descriptor, b"x")
    assert os.read(read_end, 1) == b"x"
    assert messages.receive_with_descriptor(theirs) == ("b", None)
    for opened in (read_end, write_end, descriptor):
        os.close(opened)
