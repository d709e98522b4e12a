"""Messages over a channel: JSON behind a 4-byte length. What the values in them are is the codec's matter."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from typing import Any

from .codec import CodecError

__all__ = [
    "MAX_ANSWER_BYTES",
    "MAX_MESSAGE_BYTES",
    "ChannelClosed",
    "framed",
    "framed_json",
    "receive",
    "receive_with_descriptor",
    "send",
    "send_with_descriptor",
    "to_json",
    "wait",
    "write",
]

MAX_MESSAGE_BYTES = 64 << 20
"""Between the judge's own processes: a problem's inputs and expected values may be large."""

MAX_ANSWER_BYTES = 16 << 20
"""From and to a candidate. Decoded, a message can take about a hundred times its size."""

_HEADER = struct.Struct("!I")
to_json = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` would make one for each message
_from_json = json.JSONDecoder().decode  # and held, since tests may patch `json.loads`


class ChannelClosed(ConnectionError):
    """The other side is gone."""


def send(channel: int, message: Any, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
    """Send one message of plain data over a descriptor.

    Raises:
        CodecError: it is larger than `max_bytes`.
        ChannelClosed: the other side is gone.
    """
    write(channel, framed(message, max_bytes))


def receive(channel: int, max_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """Receive one message; `wait` first, where there is a time limit.

    Raises:
        CodecError: it is too large or not JSON.
        ChannelClosed: the other side is gone.
    """
    return _parsed(channel, _read_exactly(channel, _HEADER.size), max_bytes)


def wait(channel: int, timeout_s: float) -> None:
    """Wait until there is something to receive.

    Raises:
        TimeoutError: nothing came in that time.
    """
    poller = select.poll()  # select() fails on descriptors above 1023
    poller.register(channel, select.POLLIN)
    if not poller.poll(timeout_s * 1000):
        raise TimeoutError(f"no answer within {timeout_s:g} s")


def send_with_descriptor(channel: socket.socket, message: Any, descriptor: int) -> None:
    """Send one message, and a descriptor with it; raises as `send` does."""
    data = framed(message, MAX_MESSAGE_BYTES)
    try:
        # With the header alone: a descriptor goes with the first bytes of a write, and `recv_fds` asks for these.
        socket.send_fds(channel, [data[: _HEADER.size]], [descriptor])
    except OSError as error:
        raise ChannelClosed(str(error)) from None
    write(channel.fileno(), data[_HEADER.size :])


def receive_with_descriptor(channel: socket.socket) -> tuple[Any, int | None]:
    """Receive one message, and the descriptor that came with it, if any; raises as `receive` does."""
    header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, 1)
    if len(header) < _HEADER.size:
        raise ChannelClosed("the other side closed the channel")
    return _parsed(channel.fileno(), header, MAX_MESSAGE_BYTES), descriptors[0] if descriptors else None


def framed(message: Any, max_bytes: int) -> bytes:
    """Return one message of plain data as it crosses; raises CodecError if it is larger than `max_bytes`."""
    return framed_json(to_json(message), max_bytes)


def framed_json(text: str, max_bytes: int) -> bytes:
    """Return one message that is JSON already, as it crosses; raises as `framed` does."""
    # ASCII: lone surrogates, which JSON text can hold and UTF-8 cannot, cross as escapes.
    data = text.encode("ascii")
    if len(data) > max_bytes:
        raise CodecError(f"larger than {max_bytes >> 20} MiB")
    return _HEADER.pack(len(data)) + data


def _parsed(channel: int, header: bytes, max_bytes: int) -> Any:
    (size,) = _HEADER.unpack(header)
    if size > max_bytes:  # before anything is read: the other side could fill our memory
        raise CodecError(f"larger than {max_bytes >> 20} MiB")
    try:
        return _from_json(str(_read_exactly(channel, size), "ascii"))
    except (ValueError, RecursionError):
        raise CodecError("not JSON") from None


def write(channel: int, data: bytes) -> None:
    """Write all of some bytes; raises ChannelClosed if the other side is gone."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(channel, view) :]
    except OSError as error:
        raise ChannelClosed(str(error)) from None


def _read_exactly(channel: int, size: int) -> bytes:
    parts, missing = [], size
    while missing:
        try:
            part = os.read(channel, min(missing, 1 << 20))  # `read` makes a buffer of what it is asked for
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        if not part:
            raise ChannelClosed("the other side closed the channel")
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
