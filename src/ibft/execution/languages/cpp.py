"""Judging one C++ sample with g++: a program that reads standard input, or a function with tests.

What is expected stays out of the answer's process. A program's outputs are compared by `standard_io`. A function's
tests are a program of their own (`cpp_tests`); only where its calls cannot cross are both one program, and the verdict
is weak. A program is compiled once and then runs as a candidate's Python does: it reads shared libraries, writes no
file, and starts no process or thread. Its memory is bounded as address space: what it reserves counts, used or not.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Sequence

import msgspec

from ibft.artifacts.rows import Problem, Sample, Status
from ibft.execution import cpp_tests
from ibft.execution.gxx import compile_error, compiling_limits, installed_gxx
from ibft.execution.languages import Language, Sandboxes, refuse_python_fields
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import CommandResult, Limits, Sandbox
from ibft.execution.standard_io import bad_end, judge_io, reference_io
from ibft.text.answers.cpp import defines, head, num_open_braces, without_main
from ibft.text.answers.cpp_reader import CppReader

__all__ = ["CPP", "Cpp"]

_OUTPUT_BYTES = 16 << 20  # of calls and answers
_NAME = re.compile(r"[A-Za-z_]\w*")
_STUBS = ("__builtin_trap();\n}\n", "return {};\n}\n")
_KINDS: dict[Status, str] = {"timeout_cpu": "timed out", "timeout_wall": "timed out", "memory": "out of memory"}
_TOO_EARLY = "failed: the program ended before its tests did"
_NOTHING_DECIDED = "failed: {} passes its tests, which so decide nothing"


@dataclasses.dataclass
class _Prepared:
    """A problem's tests as a program, which is made when it is first needed; `program` is None where it cannot be."""

    program: bytes | None = None
    calls: cpp_tests.Calls = ()
    pass_without: bool = False
    is_made: bool = False


class Cpp(CppReader, Language):
    """C++17, judged by g++."""

    judges_io = True

    def prepare(self, problem: Problem) -> _Prepared:
        """Return a place for the tests."""
        return _Prepared()

    def judge(self, job: Job, prepared: _Prepared, sandboxes: Sandboxes) -> Outcome:
        """Compile a sample and judge what it prints or returns.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        assert job.sample is not None
        source = self.source(job.problem, job.sample)
        if job.problem.io:
            return _judge_program(job, source, sandboxes)
        if job.reference is not None and job.reference.is_weak:
            return _judge_weakly(job.problem, source, job.limits, sandboxes)
        return _judge_function(job.problem, source, job.limits, _made(prepared, job, sandboxes), sandboxes)

    def reference(self, job: Job, prepared: _Prepared, sandboxes: Sandboxes) -> Reference:
        """Run the problem's own solution: with its tests in another process if that works, else in the same.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem, solution = job.problem, job.problem.canonical_solution
        sample = Sample(task_id=problem.task_id, completion=solution)
        source = None if solution is None else self.source(problem, sample)
        if problem.io:
            return _program_reference(job, source, sandboxes)
        tests = _made(prepared, job, sandboxes)
        if tests.pass_without:
            return Reference(status="failed", message=_NOTHING_DECIDED.format("a function that returns an empty value"))
        outcome = None
        if tests.calls:
            if source is None:
                return Reference(status="passed", message="it has no reference solution")
            outcome = _judge_function(problem, source, job.limits, tests, sandboxes)
        if outcome is None or not outcome.passed:
            outcome = _weak_reference(problem, source, job.limits, sandboxes, outcome)
        status, message, is_weak = outcome.status, outcome.message, outcome.is_weak
        return Reference(status=status, message=message, cpu_time_s=outcome.cpu_time_s, is_weak=is_weak)

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the program that is judged, with the brace that a completion may leave to the tests (MultiPL-E's)."""
        text = sample.text
        if problem.io:
            is_continuation = sample.completion is not None and not defines(text, "main")
            return problem.prompt + text if is_continuation else text
        if sample.completion is None:
            # The function alone, as answers in a chat give it.
            return without_main(text if "#include" in text else head(problem.prompt) + text)
        source = problem.prompt + text
        return without_main(f"{source}\n}}\n" if num_open_braces(source) == 1 else source)

    def completed(self, problem: Problem) -> Problem:
        """Return the problem, unless it has what only Python has."""
        refuse_python_fields(problem)
        if problem.entry_point and not _NAME.fullmatch(problem.entry_point):
            raise ValueError(
                f"{problem.task_id} has the entry_point {problem.entry_point!r}, which is not a C++ name. Give the "
                "name of the function to write alone, such as 'add'."
            )
        return problem

    def versions(self) -> dict[str, str]:
        """Return the version of g++."""
        return {"g++": installed_gxx().version}


CPP = Cpp()


def _compile(source: str, limits: Limits, sandbox: Sandbox) -> Outcome | None:
    """Make the program `answer` in a sandbox; return the verdict where that fails."""
    files = {"answer.cpp": source.encode("utf-8", "replace"), "wire.hpp": cpp_tests.WIRE}
    limits, command = compiling_limits(limits), installed_gxx().command("answer.cpp", "answer", "-O2")
    (result,) = sandbox.run_commands(files, [command], limits, keep_files=True)
    return _outcome(compile_error(result, limits), [result])


def _judge_program(job: Job, source: str, sandboxes: Sandboxes) -> Outcome:
    sandbox = _compiler(sandboxes)
    return _compile(source, job.limits, sandbox) or judge_io(job, functools.partial(_run, sandbox), sandboxes)


def _program_reference(job: Job, source: str | None, sandboxes: Sandboxes) -> Reference:
    if source is None:
        return reference_io(job, None, sandboxes)
    sandbox = _compiler(sandboxes)
    if failed := _compile(source, job.limits, sandbox):
        return Reference(status=failed.status, message=failed.message)
    return reference_io(job, functools.partial(_run, sandbox), sandboxes)


def _run(sandbox: Sandbox, stdin: str, limits: Limits, max_output_bytes: int) -> CommandResult:
    return sandbox.run_compiled("answer", stdin.encode("utf-8", "surrogateescape"), limits, max_output_bytes)


def _made(prepared: _Prepared, job: Job, sandboxes: Sandboxes) -> _Prepared:
    """Compile a problem's tests and learn their calls, once."""
    if prepared.is_made:
        return prepared
    prepared.is_made = True
    source = cpp_tests.tests_program(job.problem)
    if source is None:
        return prepared
    files = {"tests.cpp": source.encode("utf-8", "replace"), "wire.hpp": cpp_tests.WIRE}
    commands = [
        installed_gxx().command("tests.cpp", "tests", "-O0", "-s"),
        [shutil.which("cat") or "/bin/cat", "tests"],
    ]
    limits = compiling_limits(job.limits)
    results = _compiler(sandboxes).run_commands(files, commands, limits, max_output_bytes=_OUTPUT_BYTES)
    if results[-1].exit_code == 0 and len(results) == len(commands):
        prepared.program = results[-1].stdout
        run = functools.partial(_run_tests, prepared.program, job.limits, sandboxes)
        prepared.calls, prepared.pass_without = cpp_tests.learn_calls(run)
    return prepared


def _run_tests(program: bytes, limits: Limits, sandboxes: Sandboxes, stdin: bytes) -> CommandResult:
    # In a sandbox of its own: an answer can read the files of the one that it runs in.
    limits = limits.with_files(max(len(stdin), len(program)))
    sandbox = sandboxes(compiles=True)
    (result,) = sandbox.run_commands(
        {"tests": program}, [["./tests"]], limits, stdin=stdin, max_output_bytes=_OUTPUT_BYTES
    )
    return result


def _judge_function(problem: Problem, source: str, limits: Limits, tests: _Prepared, sandboxes: Sandboxes) -> Outcome:
    sandbox = _compiler(sandboxes)
    if failed := _compile(cpp_tests.answer_program(problem, source), limits, sandbox):
        return failed
    assert tests.program is not None

    def run_answer(stdin: bytes) -> CommandResult:
        return sandbox.run_compiled("answer", stdin, limits.with_files(len(stdin)), _OUTPUT_BYTES)

    run_tests = functools.partial(_run_tests, tests.program, limits, sandboxes)
    answer, checked, is_lost = cpp_tests.exchange(tests.calls, run_answer, run_tests)
    verdict: tuple[Status, str] | None = None
    if is_lost:
        verdict = _bad_end(answer[-1], limits) or ("failed", _TOO_EARLY)
    elif checked is None:
        verdict = "failed", "failed: its tests make other calls in each run"
    else:
        verdict = _bad_end(checked, limits)
        if verdict is not None and (line := _last_line(checked.stderr)):
            verdict = verdict[0], line
    return _outcome(verdict, answer) or _passed(answer)


def _judge_weakly(problem: Problem, source: str, limits: Limits, sandboxes: Sandboxes) -> Outcome:
    program, mark = cpp_tests.weak_program(problem, source)
    sandbox = _compiler(sandboxes)
    outcome = _compile(program, limits, sandbox)
    if outcome is None:
        result = sandbox.run_compiled("answer", b"", limits, _OUTPUT_BYTES)
        verdict = _bad_end(result, limits)
        if verdict is not None and (line := _last_line(result.stderr)):
            verdict = verdict[0], line
        elif verdict is None and mark.encode() not in result.stdout:
            verdict = "failed", _TOO_EARLY
        outcome = _outcome(verdict, [result]) or _passed([result])
    return msgspec.structs.replace(outcome, is_weak=True)


def _weak_reference(
    problem: Problem, source: str | None, limits: Limits, sandboxes: Sandboxes, strong: Outcome | None
) -> Outcome:
    """Return the verdict on a problem whose tests have to be in one program with the answer.

    Args:
        problem: has tests.
        source: its own solution, or None.
        limits: of each run.
        sandboxes: where to run it.
        strong: the verdict with the tests in another process, where that was tried.
    """
    is_open = num_open_braces(problem.prompt) > 0
    for stub in (f"{problem.prompt}\n{body}" for body in _STUBS) if is_open else ("",):
        if _judge_weakly(problem, stub, limits, sandboxes).passed:
            return Outcome(status="failed", message=_NOTHING_DECIDED.format("an empty program"))
    if source is None:
        return Outcome(status="passed", message="it has no reference solution", is_weak=True)
    weak = _judge_weakly(problem, source, limits, sandboxes)
    return weak if weak.passed or strong is None else strong


def _compiler(sandboxes: Sandboxes) -> Sandbox:
    return sandboxes(tools=[installed_gxx().compiler], compiles=True)


def _bad_end(result: CommandResult, limits: Limits) -> tuple[Status, str] | None:
    if result.exit_code is None and not result.timed_out:
        return "failed", f"failed: it printed more than {_OUTPUT_BYTES >> 20} MiB"
    ended = bad_end(result, limits)
    return ended and (ended[0], f"{_KINDS.get(ended[0], 'failed')}: {ended[1]}")


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f"failed: {lines[-1][:200]}" if lines else ""


def _outcome(verdict: tuple[Status, str] | None, results: Sequence[CommandResult]) -> Outcome | None:
    """Return the verdict on a program that did not pass, with the time of its runs; None where there is none."""
    if verdict is None:
        return None
    return msgspec.structs.replace(_passed(results), status=verdict[0], message=verdict[1])


def _passed(results: Sequence[CommandResult]) -> Outcome:
    cpu_time_s = sum(result.cpu_time_s for result in results)
    wall_time_s = sum(result.wall_time_s for result in results)
    return Outcome(status="passed", message="passed", cpu_time_s=cpu_time_s, wall_time_s=wall_time_s)
