"""Talking with a candidate: questions into the sandbox, values of exact builtin types back (`inside/candidate.py`)."""

from __future__ import annotations

import builtins
import contextlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ibft.artifacts.rows import Module
from ibft.execution.inside.candidate import SET_UP
from ibft.execution.inside.codec import ChannelClosed, CodecError, decode, encode
from ibft.execution.sandbox import PythonProcess

__all__ = ["Conversation", "Lost", "NoProgram", "Remote"]


class Lost(BaseException):  # not an Exception: a test's own `except` must not hide it
    """The candidate's process is gone, or a message of it is not of the language."""


class NoProgram(Exception):
    """The candidate does not compile, or is larger than the channel takes."""


class Conversation:
    """Questions to the candidate and its answers. Once it is lost, each question raises `Lost`."""

    def __init__(self, process: PythonProcess) -> None:
        self._process = process
        self.is_lost = False
        self.is_forged = False
        self.is_set_up = False

    def load(self, source: str, names: list[str], modules: Sequence[Module] = ()) -> dict[str, Any]:
        """Send the program and the modules that it can import; return what it defines of the names.

        Raises what the program, or a module, raised.

        Raises:
            NoProgram: it does not compile, or is too large.
        """
        try:
            self._send(["load", source, names, [[module.name, module.source] for module in modules]])
        except CodecError as error:
            raise NoProgram(f"the program is {error}") from None
        self.is_set_up = self._receive() == SET_UP
        answer = self._receive()
        match answer:
            case ["syntax", str(message)]:
                raise NoProgram(message)
        values = self._value(answer)
        if type(values) is not dict:
            self._forged()
        return values

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Return the value of an operation on the candidate's side; raises what it raised there."""
        self._send([operation, *[encode(argument, self._number) for argument in arguments]])
        try:
            return self._value(self._receive())
        except (StopIteration, StopAsyncIteration) as error:
            if operation == "next":
                raise
            # As in a generator (PEP 479): the candidate must not end an iteration of the tests' own.
            raise RuntimeError(f"the candidate raised {type(error).__name__}") from None

    def run_inside(self, tests: str) -> None:
        """Run the tests on the candidate's side."""
        token = secrets.token_hex(16)  # a program that answers before it is asked cannot know it
        if self.ask("run_inside", tests, token) != token:
            self._forged()

    def _send(self, message: Any) -> None:
        if self.is_lost:
            raise Lost
        try:
            self._process.send(message)
        except ChannelClosed:
            self._lose()

    def _receive(self) -> Any:
        if self.is_lost:
            raise Lost
        try:
            return self._process.receive()
        except ChannelClosed:
            self._lose()
        except CodecError:
            self._forged()

    def _value(self, answer: Any) -> Any:
        match answer:
            case ["ok", data]:
                try:
                    return decode(data, lambda number: Remote(self, number))
                except (CodecError, RecursionError):
                    self._forged()
            case ["raised", [*names], str(message), str(trace)]:
                raise _exception([name for name in names if isinstance(name, str)], message, trace)
            case _:
                self._forged()

    def _number(self, value: Any) -> int:
        if type(value) is Remote and value._conversation is self:
            return value._number
        raise CodecError(f"a {type(value).__name__} cannot cross into the sandbox")

    def _forged(self) -> NoReturn:
        self.is_forged = True
        self._lose()

    def _lose(self) -> NoReturn:
        self.is_lost = True
        raise Lost


class Remote:
    """An object on the candidate's side that is not a plain value. It has no `__eq__`: it equals only itself."""

    __slots__ = ("_conversation", "_number")

    def __init__(self, conversation: Conversation, number: int) -> None:
        self._conversation, self._number = conversation, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it there; the answer is a value, or a `Remote` again."""
        return self._conversation.ask("call", self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # or copy, pickle and the like would take the candidate's word for a protocol
            raise AttributeError(name)
        return self._conversation.ask("attribute", self, name)

    def __getitem__(self, key: Any) -> Any:
        return self._conversation.ask("item", self, key)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._conversation.ask("iter", self)
        # A builtin iterator arrives as a Remote too, of which `iter` would ask for an iterator forever.
        while True:
            try:
                yield self._conversation.ask("next", iterator)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._conversation.ask("next", self)

    def __len__(self) -> int:
        return int(self._conversation.ask("len", self))

    def __bool__(self) -> bool:
        return bool(self._conversation.ask("bool", self))

    def __str__(self) -> str:
        return str(self._conversation.ask("str", self))


def _exception(names: list[str], message: str, trace: str) -> BaseException:
    """Return the builtin exception nearest to what the candidate raised, for tests that expect one."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            with contextlib.suppress(TypeError):  # some need more than a message
                error: BaseException = kind(message)
                error.args = (message,)
                error.__notes__ = [names[0], trace]  # type: ignore[attr-defined]
                return error
    return Exception(message)
