"""Talking with a candidate: questions into the sandbox, values of exact builtin types back (`inside/candidate.py`)."""

from __future__ import annotations

import builtins
import collections
import contextlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ibft.artifacts.rows import Module
from ibft.execution.changes import are_equal, become, is_mutable
from ibft.execution.inside.candidate import SET_UP
from ibft.execution.inside.codec import CodecError, decode, encode
from ibft.execution.inside.messages import ChannelClosed, to_json
from ibft.execution.inside.testing import Form
from ibft.execution.python_reach import Reach
from ibft.execution.sandbox import PythonProcess

__all__ = ["Conversation", "Lost", "NoProgram", "Remote", "TooSlow"]

_BLOCK_CHARACTERS = 256 << 10
"""Rows of arguments cross in one message until it is longer than this."""


class Lost(BaseException):  # not an Exception: a test's own `except` must not hide it
    """The candidate's process is gone, or a message of it is not of the language."""


class TooSlow(BaseException):  # as Lost
    """A call took more CPU time than it may: `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s


class NoProgram(Exception):
    """The candidate does not compile, or is larger than the channel takes."""


class Conversation:
    """Questions to the candidate and its answers. Once it is lost, each question raises `Lost`.

    It takes note of what the channel does not carry as it is. `is_exact`: nothing but plain values crossed, and none
    that somebody may have changed or kept. `obstacle`: what could not cross at all, in words; "" for nothing.
    `has_changed_arguments`: by the candidate's own account.

    Args:
        process: the candidate's.
        reach: how far the tests reach.
        in_place: the tests see arguments as the candidate changed them. Otherwise it has copies.
    """

    def __init__(self, process: PythonProcess, reach: Reach, *, in_place: bool = False) -> None:
        self._process = process
        self._reach = reach
        self._in_place = in_place
        self.has_changed_arguments = False
        self.is_lost = False
        self.is_forged = False
        self.is_set_up = False
        self.is_exact = reach.is_whole
        self.obstacle = ""
        self.num_asked = 0
        self._num_objects = 0

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
        try:
            values = self._value(answer)
        finally:
            self.obstacle = ""  # functions and classes are asked for what they do
        if type(values) is not dict:
            self._forged()
        # What the module holds beside them may change later, and the tests have a copy.
        self.is_exact = self._reach.is_whole and all(type(value) is Remote for value in values.values())
        return values

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Return the value of an operation on the candidate's side; raises what it raised there."""
        self.num_asked += 1
        if operation != "call":  # or one whose arguments somebody may have kept
            self.is_exact = False
        try:
            self._send([operation, *[encode(argument, self) for argument in arguments]])
        except CodecError as error:
            self._meet(str(error))
            raise
        try:
            value = self._value(self._receive())
            if self.is_exact and self._reach.keeps_results and is_mutable(value):
                self.is_exact = False
            return value
        except (StopIteration, StopAsyncIteration) as error:
            if operation == "next":
                raise
            self._meet(f"a {type(error).__name__}")
            # As in a generator (PEP 479): the candidate must not end an iteration of the tests' own.
            raise RuntimeError(f"the candidate raised {type(error).__name__}") from None

    def call(self, function: Remote, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the candidate's; where the tests may look, find out how it changed its arguments.

        Raises what it raised.
        """
        if self._reach.passes_fresh or not any(map(is_mutable, (*arguments, *named.values()))):
            return self.ask("call", function, arguments, named)
        match self.ask("call_and_look", function, arguments, named):
            case [value, tuple(changed), dict(changed_named)]:
                if self._in_place:
                    become(arguments, changed)
                    become(named, changed_named)
                elif not are_equal([arguments, named], [changed, changed_named]):
                    self.has_changed_arguments = True
                return value
        self._forged()

    def call_each(
        self, function: Remote, rows: Sequence[Sequence[Any]], limits_s: Sequence[float], kept: list[tuple[int, str]]
    ) -> Iterator[Any]:
        """Yield what a function returns for each row of arguments; raises, at its row, what it raised.

        Many rows cross at a time, and many answers: a message for each would cost more than most calls. So the
        candidate sees arguments early.

        Args:
            function: the candidate's.
            rows: plain values.
            limits_s: of the CPU time of each call, beside those of the whole program.
            kept: of the rows' owner; empty at first. It holds rows and limits as they cross, for the next candidate.

        Raises:
            TooSlow: a call took more than its CPU time.
        """
        if not self._reach.passes_fresh:
            self.is_exact = False  # what the candidate does to the arguments stays there
        if not kept:
            # All or none: the alarm may ring meanwhile, and later candidates would be asked for a part of the rows.
            kept.extend([*_blocks(rows, limits_s)])
        name = to_json(encode(function, self))
        for num_rows, block in kept:
            self._write(self._process.framed_json(f'["call_each",{name},{block}]'))
            answers: collections.deque[Any] = collections.deque()
            for num_left in range(num_rows, 0, -1):
                if not answers:
                    answers += self._receive_answers(num_left)
                self.num_asked += 1
                num_objects = self._num_objects
                value = self._value(answers.popleft())
                # Who is given an object may ask it something, and must not take one of these for the answer.
                while self._num_objects > num_objects and len(answers) < num_left - 1:
                    answers += self._receive_answers(num_left - 1 - len(answers))
                yield value

    def run_inside(self, tests: str, form: Form, examples: str, aliases: Sequence[str]) -> None:
        """Run the tests on the candidate's side; the arguments are those of `Prepared`."""
        token = secrets.token_hex(16)  # a program that answers before it is asked cannot know it
        if self.ask("run_inside", tests, form, examples, list(aliases), token) != token:
            self._forged()

    def number(self, value: Any) -> int:
        """Return the number of an object of this candidate's.

        Raises:
            CodecError: it is of the tests' own, and cannot cross.
        """
        if type(value) is Remote and value._conversation is self:
            return value._number
        raise CodecError(f"a {type(value).__name__} cannot cross into the sandbox")

    def value(self, number: int) -> Remote:
        """Return what stands for an object of the candidate's."""
        self._num_objects += 1
        self._meet("an object of a class that only the program knows")
        return Remote(self, number)

    def flattened(self) -> None:
        """Take note of a value that crossed as one of its base type."""
        self._meet("a value of a subclass")

    def _send(self, message: Any) -> None:
        self._write(self._process.framed(message))

    def _write(self, message: bytes) -> None:
        if self.is_lost:
            raise Lost
        try:
            self._process.write(message)
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

    def _receive_answers(self, most: int) -> list[Any]:
        """Return some of the answers to "call_each", of which so many are still to come."""
        answers = self._receive()
        if type(answers) is not list or not 0 < len(answers) <= most:
            self._forged()
        return answers

    def _value(self, answer: Any) -> Any:
        match answer:
            case ["ok", data]:
                try:
                    return decode(data, self)
                except (CodecError, RecursionError):
                    self._forged()
            case ["raised", [*names], str(message), str(trace), bool(is_all)]:
                error = _exception([name for name in names if isinstance(name, str)], message, trace)
                self.is_exact = False
                if not is_all or type(error).__name__ not in names[:1]:
                    self._meet("an exception of a class that only the program knows, or with more than a message")
                raise error
            case ["slow", float(limit_s)]:
                raise TooSlow(limit_s)
            case ["large", str(message)]:
                self._meet(message)
                raise ValueError(message)
            case _:
                self._forged()

    def _meet(self, obstacle: str) -> None:
        self.is_exact = False
        self.obstacle = self.obstacle or obstacle

    def _forged(self) -> NoReturn:
        self.is_forged = True
        self._lose()

    def _lose(self) -> NoReturn:
        self.is_lost = True
        raise Lost


def _blocks(rows: Sequence[Sequence[Any]], limits_s: Sequence[float]) -> Iterator[tuple[int, str]]:
    """Yield JSON of as many rows as make a message, with their limits, and their number."""
    texts: list[str] = []
    size = start = 0
    for number, row in enumerate(rows, start=1):
        texts.append(to_json([encode(argument) for argument in row]))
        size += len(texts[-1])
        if size > _BLOCK_CHARACTERS or number == len(rows):
            limits = to_json([float(limit_s) for limit_s in limits_s[start:number]])
            yield len(texts), f"[{','.join(texts)}],{limits}"
            texts, size, start = [], 0, number


class Remote:
    """An object on the candidate's side that is not a plain value. It has no `__eq__`: it equals only itself."""

    __slots__ = ("_conversation", "_number")

    def __init__(self, conversation: Conversation, number: int) -> None:
        self._conversation, self._number = conversation, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it there; the answer is a value, or a `Remote` again."""
        return self._conversation.call(self, arguments, named)

    def __each__(
        self, rows: Sequence[Sequence[Any]], limits_s: Sequence[float], kept: list[tuple[int, str]]
    ) -> Iterator[Any]:
        """Call it there with each row of arguments, without waiting between them (`Conversation.call_each`)."""
        return self._conversation.call_each(self, rows, limits_s, kept)

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
                error.args = (message,) if message else ()
                error.__notes__ = [names[0], trace]  # type: ignore[attr-defined]
                return error
    return Exception(message)
