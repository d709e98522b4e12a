"""Judging one Python sample: its tests run here, out of its reach, and ask it for values (`inside/candidate.py`).

The candidate's module is at the other end of a channel. Every name that the tests use without defining it is taken
from there: values of builtin types arrive as such, anything else (functions, instances, iterators) as a `Remote`,
which passes on what is done with it. All comparing is done here, on values of exact builtin types, and the expected
values never leave this process. So a candidate gains nothing by an `__eq__` that is always true, a patched builtin, a
frame that it reads or an early exit.

A few tests cannot work so: those that look at changes of their arguments, or pass functions. Where the reference
passes only with its tests in the same interpreter, they run inside, and the result is marked as weak.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import re
import signal
import traceback
import types
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from ibft.artifacts.rows import Module, Problem, Sample, Status
from ibft.execution.conversation import Conversation, Lost, NoProgram
from ibft.execution.inside import codec
from ibft.execution.languages import Language, Sandboxes
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.python_problems import completed
from ibft.execution.sandbox import End, Limits, Sandbox
from ibft.execution.standard_io import Run, judge_io, num_io_runs, reference_io
from ibft.text.answers.programs import continues_code
from ibft.text.answers.python_reader import PythonReader
from ibft.text.answers.syntax import in_front
from ibft.text.names import free_names

__all__ = ["PYTHON", "Prepared", "Python", "imports_numpy", "judge_python"]

_MESSAGE_CHARACTERS = 200
_TESTS = "<tests>"


class Prepared(NamedTuple):
    """A problem's tests, ready to run: compiled once, set up once."""

    setup: str
    tests: str
    code: types.CodeType
    namespace: dict[str, Any]
    names: frozenset[str]
    modules: tuple[Module, ...]


class Python(PythonReader, Language):
    """Python, judged by values that cross the sandbox's border, or inside where only that works."""

    judges_io = True

    def prepare(self, problem: Problem) -> Prepared:
        """Compile the tests and run the problem's setup.

        Raises:
            Exception: whatever setup or tests raise or fail to compile with: the problem is broken.
        """
        namespace: dict[str, Any] = {"__name__": "__tests__"}
        exec(compile(problem.setup, "<setup>", "exec", dont_inherit=True), namespace)
        code = compile(problem.tests, _TESTS, "exec", dont_inherit=True)
        names = free_names(problem.tests) - namespace.keys() - vars(builtins).keys()
        if problem.entry_point:
            names |= {problem.entry_point}  # which may be called like a builtin: Mbpp/126 defines `sum`
        return Prepared(problem.setup, problem.tests, code, namespace, frozenset(names), problem.modules)

    def judge(self, job: Job, prepared: Prepared, sandboxes: Sandboxes) -> Outcome:
        """Run a sample's program against its tests: inside where the reference passes only there."""
        assert job.sample is not None
        source = self.source(job.problem, job.sample)
        if job.problem.io:
            return judge_io(job, _program(job.problem, source, sandboxes), sandboxes)
        inside = job.reference is not None and job.reference.is_weak
        return judge_python(prepared, source, _sandbox(job.problem, source, sandboxes), job.limits, inside=inside)

    def reference(self, job: Job, prepared: Prepared, sandboxes: Sandboxes) -> Reference:
        """Run the problem's own solution: outside if that works, inside where only that works.

        A problem without a solution is taken to be sound; its tests run where it says, by default outside.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem = job.problem
        solution = Sample(task_id=problem.task_id, completion=problem.canonical_solution)
        source = self.source(problem, solution)
        if problem.io:
            has_solution = problem.canonical_solution is not None
            return reference_io(job, _program(problem, source, sandboxes) if has_solution else None, sandboxes)
        if problem.canonical_solution is None:
            return Reference(status="passed", message="it has no reference solution", is_weak=problem.inside is True)
        sandbox = _sandbox(problem, source, sandboxes)
        outcomes = []
        for inside in [False, True] if problem.inside is None else [problem.inside]:
            outcomes.append(judge_python(prepared, source, sandbox, job.limits, inside=inside))
            if outcomes[-1].passed:
                break
        decisive = outcomes[-1] if outcomes[-1].passed else outcomes[0]
        status, message, cpu_time_s = decisive.status, decisive.message, decisive.cpu_time_s
        return Reference(status=status, message=message, cpu_time_s=cpu_time_s, is_weak=decisive.is_weak)

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the program that is judged, behind the problem's preamble.

        Where a program reads standard input, a completion that does not continue the prompt to one is taken to be
        whole: the prompt may be words.
        """
        source = super().source(problem, sample)
        if problem.io and sample.completion is not None and not continues_code(sample.completion, problem.prompt):
            source = sample.completion
        return in_front(problem.preamble, source)

    def num_runs(self, problem: Problem, *, is_reference: bool) -> int:
        """Return the number of cases, or 2 for a reference, whose tests may run outside, then inside."""
        if problem.io:
            return num_io_runs(problem, is_reference=is_reference)
        return 2 if is_reference else 1

    def completed(self, problem: Problem) -> Problem:
        """Return the problem with its tests called and its setup filled in (`python_problems`)."""
        return completed(problem)

    def versions(self) -> dict[str, str]:
        """Return NumPy's version, since some samples import it; Python's own is in every result."""
        import importlib.metadata  # takes 20 ms, which the judge's processes need not spend

        return {"numpy": importlib.metadata.version("numpy")}


PYTHON = Python()


def _sandbox(problem: Problem, source: str, sandboxes: Sandboxes) -> Sandbox:
    # A server that has NumPy loaded takes longer to start and more memory in each child: only where it is needed.
    if any(map(imports_numpy, (source, *(module.source for module in problem.modules)))):
        codec.know_numpy()
        return sandboxes(packages=["numpy"])
    return sandboxes()


def _program(problem: Problem, source: str, sandboxes: Sandboxes) -> Run:
    return functools.partial(_sandbox(problem, source, sandboxes).run_program, source)


def imports_numpy(source: str) -> bool:
    """Decide whether the program may need NumPy, which only a second, larger server has loaded."""
    return re.search(r"\bnumpy\b", source) is not None


def judge_python(prepared: Prepared, source: str, sandbox: Sandbox, limits: Limits, *, inside: bool) -> Outcome:
    """Run a candidate's program against its tests. Must be called from the main thread: it sets an alarm.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    process = sandbox.run_python(limits)
    conversation = Conversation(process)
    namespace = dict(prepared.namespace)  # a copy: the tests define names in it
    try:
        with _alarm(limits.wall_s):
            verdict = _hold(conversation, prepared, namespace, source, inside)
    except _OutOfTime:
        verdict = "timeout_wall", f"timed out: its tests still ran after {limits.wall_s:g} s"
    finally:
        end = process.finish(is_lost=conversation.is_lost and not conversation.is_forged)
    status, message = _with_end(verdict, conversation, end, limits)
    return Outcome(
        status=status,
        message=message,
        wall_time_s=end.wall_time_s,
        cpu_time_s=end.cpu_time_s,
        is_weak=inside,
        reached=str(namespace.get("reached", ""))[:_MESSAGE_CHARACTERS],
    )


Verdict = tuple[Status, str]


def _hold(
    conversation: Conversation, prepared: Prepared, namespace: dict[str, Any], source: str, inside: bool
) -> Verdict:
    """Hold the whole conversation; return the verdict that the tests alone suggest."""
    try:
        values = conversation.load(source, [] if inside else sorted(prepared.names), prepared.modules)
        if inside:
            conversation.run_inside(f"{prepared.setup}\n{prepared.tests}")
        else:
            # A name that the candidate lacks is a NameError where the tests use it. By our own list of names: the
            # candidate's answer may have more, such as one of the tests' helpers.
            namespace.update((name, values[name]) for name in prepared.names if name in values)
            exec(prepared.code, namespace)
    except _OutOfTime:
        raise
    except Lost:
        return "failed", "failed: the program ended before its tests did"  # `_with_end` knows how
    except NoProgram as error:
        return "syntax_error", f"syntax error: {_one_line(str(error))}"
    except MemoryError:
        return "memory", "out of memory"
    except BaseException as error:  # SystemExit and KeyboardInterrupt too, which a candidate may have raised
        return "failed", f"failed: {_describe(error, prepared.tests)}"
    return "passed", "passed"


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
    text = _one_line(str(error))
    if not text and isinstance(error, AssertionError) and error.__traceback__ is not None:
        text = _failing_line(error.__traceback__, tests)
    return f"{_one_line(name)}: {text}" if text else _one_line(name)


def _one_line(text: str) -> str:
    """Return text of the candidate's, short, without the control characters that a terminal would obey."""
    short = " ".join(text.split())[:_MESSAGE_CHARACTERS]
    return "".join(character if character.isprintable() else "\ufffd" for character in short)


def _failing_line(trace: types.TracebackType, tests: str) -> str:
    numbers = [number for frame, number in traceback.walk_tb(trace) if frame.f_code.co_filename == _TESTS]
    return tests.splitlines()[numbers[-1] - 1].strip() if numbers else ""
