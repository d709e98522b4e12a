"""One run of a Python candidate against its tests: outside of its process, or in its own interpreter.

Outside, every name that the tests use without defining it is taken from the candidate's module, at the other end of a
channel: values of builtin types arrive as such, anything else (functions, instances, iterators) as a `Remote`, which
passes on what is done with it. All comparing is done here, on values of exact builtin types, and the expected values
never leave this process. So a candidate gains nothing by an `__eq__` that is always true, a patched builtin, a frame
that it reads or an early exit.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from ibft.artifacts.rows import Status
from ibft.execution.conversation import Conversation, Lost, NoProgram, TooSlow
from ibft.execution.inside.testing import TESTS, run_tests
from ibft.execution.outcome import MESSAGE_CHARACTERS, Outcome, one_line
from ibft.execution.python_state import restored
from ibft.execution.python_tests import Prepared
from ibft.execution.sandbox import End, Limits, Sandbox

__all__ = ["Run", "passes_outside", "run_python"]

_MANY_CALLS = 1000


class Run(NamedTuple):
    """One run and its outcome, and how much of the candidate the tests could see outside.

    `is_exact`: nothing that a channel would change came into play. `obstacle`: what could not be asked or carried, so
    that a failure may be the channel's; "" for none. `has_changed_arguments`: the candidate says that it did.
    """

    outcome: Outcome
    is_exact: bool = True
    obstacle: str = ""
    has_changed_arguments: bool = False


def run_python(
    prepared: Prepared, source: str, sandbox: Sandbox, limits: Limits, *, inside: bool = False, in_place: bool = False
) -> Run:
    """Run a candidate's program against its tests. Must be called from the main thread: it sets an alarm.

    Args:
        prepared: the tests.
        source: the program.
        sandbox: where it runs.
        limits: of the run.
        inside: the tests run in the candidate's interpreter.
        in_place: outside, the tests see arguments as the candidate changed them, of which it could take advantage
            (`f(xs) == sorted(xs)`): only where the reference needs it.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    process = sandbox.run_python(limits)
    conversation = Conversation(process, prepared.reach, in_place=in_place)
    # Of a module of their own, and a copy: the tests define names in it.
    module = types.ModuleType("tests")
    module.__dict__.update(prepared.namespace)
    try:
        with _undone(prepared), _alarm(limits.wall_s):
            verdict = _hold(conversation, prepared, module, source, inside)
    except _OutOfTime:
        verdict = "timeout_wall", f"timed out: its tests still ran after {limits.wall_s:g} s"
    finally:
        end = process.finish(is_lost=conversation.is_lost and not conversation.is_forged)
    status, message = _with_end(verdict, conversation, end, limits)
    obstacle = conversation.obstacle
    if not obstacle and status in ("timeout_cpu", "timeout_wall") and conversation.num_asked > _MANY_CALLS:
        obstacle = f"{conversation.num_asked} calls took too long"
    outcome = Outcome(
        status=status,
        message=message,
        wall_time_s=end.wall_time_s,
        cpu_time_s=end.cpu_time_s,
        is_weak=inside,
        reached=str(module.__dict__.get("reached", ""))[:MESSAGE_CHARACTERS],
    )
    return Run(outcome, conversation.is_exact, obstacle, conversation.has_changed_arguments)


def passes_outside(prepared: Prepared, stand_ins: dict[str, object], wall_s: float) -> bool:
    """Decide whether tests pass with these values for the candidate's names, which run in this process."""
    module = types.ModuleType("tests")
    module.__dict__.update(prepared.namespace)
    module.__dict__.update(stand_ins)
    try:
        with _undone(prepared), _alarm(wall_s), _aliased(prepared, module):
            run_tests(prepared.code, module, prepared.form, prepared.examples)
    except BaseException:  # SystemExit and the end of the time, too
        return False
    return True


Verdict = tuple[Status, str]


def _hold(
    conversation: Conversation, prepared: Prepared, module: types.ModuleType, source: str, inside: bool
) -> Verdict:
    """Hold the whole conversation; return the verdict that the tests alone suggest."""
    try:
        values = conversation.load(source, [] if inside else sorted(prepared.names), prepared.modules)
        if inside:
            program = f"{prepared.setup}\n{prepared.tests}"
            conversation.run_inside(program, prepared.form, prepared.examples, prepared.aliases)
        else:
            # A name that the candidate lacks is a NameError where the tests use it. By our own list of names: the
            # candidate's answer may have more, such as one of the tests' helpers.
            module.__dict__.update((name, values[name]) for name in prepared.names if name in values)
            with _aliased(prepared, module):
                run_tests(prepared.code, module, prepared.form, prepared.examples)
    except _OutOfTime:
        raise
    except Lost:
        return "failed", "failed: the program ended before its tests did"  # `_with_end` knows how
    except TooSlow as error:
        return "timeout_cpu", f"timed out: a call took more than {error.limit_s:.3g} s of CPU time"
    except NoProgram as error:
        return "syntax_error", f"syntax error: {one_line(str(error))}"
    except MemoryError:
        return "memory", "out of memory"
    except BaseException as error:  # SystemExit and KeyboardInterrupt too, which a candidate may have raised
        return "failed", f"failed: {_describe(error, prepared.tests)}"
    return "passed", "passed"


def _undone(prepared: Prepared) -> contextlib.AbstractContextManager[None]:
    """Undo what tests change in this process, where they might: it takes 0.1 ms, which most need not spend."""
    if prepared.reach.is_whole:
        return contextlib.nullcontext()
    return restored(prepared.touched)


@contextlib.contextmanager
def _aliased(prepared: Prepared, module: types.ModuleType) -> Iterator[None]:
    """Let the tests import the candidate's names from the modules that they think these are in."""
    for name in prepared.aliases:
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in prepared.aliases:
            sys.modules.pop(name, None)  # the tests may have removed it


def _with_end(verdict: Verdict, conversation: Conversation, end: End, limits: Limits) -> Verdict:
    """Return the verdict, given how the process ended."""
    if conversation.is_forged:
        return "cheating_refused", "refused: the program wrote to the channel of its answers"
    if end.timed_out == "cpu":
        return "timeout_cpu", f"timed out: more than {limits.cpu_s:g} s of CPU time"
    if end.timed_out == "wall":
        return "timeout_wall", f"timed out: still running after {limits.wall_s:g} s ({end.cpu_time_s:.1f} s of CPU)"
    if not conversation.is_lost:
        return verdict
    if not conversation.is_set_up:
        return "infrastructure_error", "not judged: the sample's process could not be set up"
    if end.exit_code is None:
        return "failed", "failed: the program closed its channel before its tests ended"
    if end.exit_code == -signal.SIGKILL:
        return "memory", "killed by SIGKILL, as the system does when memory runs out"
    if end.exit_code < 0:
        name = signal.strsignal(-end.exit_code) or "unknown"
        return "failed", f"failed: killed by signal {-end.exit_code} ({name})"
    return "failed", f"failed: the program ended with exit code {end.exit_code} before its tests did"


class _OutOfTime(BaseException):  # not an Exception: a test's own `except` must not hide it
    """The alarm went off."""


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> NoReturn:
        raise _OutOfTime

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and again, for a test that swallowed the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _describe(error: BaseException, tests: str) -> str:
    """Return one line on an exception, of the candidate or of the tests; for a bare assertion, its own line."""
    notes = getattr(error, "__notes__", [])
    name = notes[0] if notes else type(error).__name__
    text = one_line(str(error))
    if not text and isinstance(error, AssertionError) and error.__traceback__ is not None:
        text = _failing_line(error.__traceback__, tests)
    return f"{one_line(name)}: {text}" if text else one_line(name)


def _failing_line(trace: types.TracebackType, tests: str) -> str:
    numbers = [number for frame, number in traceback.walk_tb(trace) if frame.f_code.co_filename == TESTS]
    return tests.splitlines()[numbers[-1] - 1].strip() if numbers else ""
