"""Judging programs that read standard input and print, in any language: case by case, up to the first wrong one.

A language brings a `Run`, which runs one program on one input in the sandbox. What it prints is compared here, so the
expected outputs never enter the sandbox while the program is there. Where a benchmark's own checker decides, that runs
in the sandbox too, after the program and in a process of its own (`inside/checking.py` says why).
"""

from __future__ import annotations

import json
from typing import NamedTuple, Protocol

from ibft.artifacts.rows import Case, Problem, Status
from ibft.execution.inside.messages import MAX_MESSAGE_BYTES
from ibft.execution.inside.script import NOT_COMPILED
from ibft.execution.languages import Sandboxes
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.outputs import difference, shown
from ibft.execution.packages import mentions, needed_packages
from ibft.execution.sandbox import MAX_OUTPUT_BYTES, CommandResult, Limits

__all__ = ["Run", "bad_end", "judge_io", "reference_io"]

_LARGEST_OUTPUT_BYTES = 40 << 20  # what fits into one message of the sandbox's
_LARGEST_CASE_CHARACTERS = MAX_MESSAGE_BYTES - 4096
_CHECKING = "from inside import checking; checking.serve()"
_MEMORY_ERRORS = ("MemoryError", "std::bad_alloc")
_KINDS: dict[Status, str] = {
    "timeout_cpu": "timed out",
    "timeout_wall": "timed out",
    "memory": "out of memory",
    "syntax_error": "syntax error",
}


class Run(Protocol):
    """Runs a program on one input in the sandbox, within the limits, and keeps the beginning of what it prints."""

    def __call__(self, stdin: str, limits: Limits, max_output_bytes: int) -> CommandResult:
        """Return how it ended and what it printed.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        ...


class _Verdict(NamedTuple):
    """On one case: `words` say what is wrong. `cpu_time_s` is the program's, `checker_s` its checker's."""

    status: Status
    words: str = ""
    cpu_time_s: float = 0.0
    wall_time_s: float = 0.0
    checker_s: float = 0.0


def judge_io(job: Job, run: Run, sandboxes: Sandboxes) -> Outcome:
    """Judge a program by its problem's cases, with the job's limits for each. The times are sums over the cases.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    return _judged(job, run, sandboxes)[0]


def reference_io(job: Job, run: Run | None, sandboxes: Sandboxes) -> Reference:
    """Run a problem's own solution. `cpu_time_s` is that of the costliest case, since limits hold for each.

    Args:
        job: without a sample.
        run: of the solution; None where there is none. Then its checker has to accept the expected outputs.
        sandboxes: for the checker.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    problem = job.problem
    if all(not _wrongness(problem, case, "", job.limits, sandboxes).words for case in problem.io):
        message = "failed: an empty program passes its tests, which so decide nothing"
        return Reference(status="failed", message=message)
    outcome, cpu_time_s = _judged(job, run, sandboxes)
    message = "it has no reference solution" if run is None and outcome.passed else outcome.message
    return Reference(status=outcome.status, message=message, cpu_time_s=cpu_time_s)


def _judged(job: Job, run: Run | None, sandboxes: Sandboxes) -> tuple[Outcome, float]:
    """Return the verdict and the CPU time of the costliest run. Without a `run` the expected outputs are judged."""
    verdict, reached, costliest_s, cpu_time_s, wall_time_s = _Verdict("passed"), "", 0.0, 0.0, 0.0
    for number, case in enumerate(job.problem.io, start=1):
        reached = f"case {number} of {len(job.problem.io)}"
        verdict = _judge_case(job, case, run, sandboxes)
        cpu_time_s += verdict.cpu_time_s
        wall_time_s += verdict.wall_time_s
        costliest_s = max(costliest_s, verdict.cpu_time_s, verdict.checker_s)
        if verdict.status != "passed":
            break
    message = "passed"
    if verdict.status != "passed":
        kind = _KINDS.get(verdict.status, "failed")
        message = (
            f"{kind}: {verdict.words}" if verdict.status == "syntax_error" else f"{kind}: {reached}: {verdict.words}"
        )
    outcome = Outcome(
        status=verdict.status, message=message, cpu_time_s=cpu_time_s, wall_time_s=wall_time_s, reached=reached
    )
    return outcome, costliest_s


def _judge_case(job: Job, case: Case, run: Run | None, sandboxes: Sandboxes) -> _Verdict:
    if run is None:
        if not case.output.strip():  # unknown: the checker needs none
            return _Verdict("passed")
        wrongness = _wrongness(job.problem, case, case.output, job.limits, sandboxes)
        status: Status = "failed" if wrongness.words else "passed"
        return _Verdict(status, f"its expected output: {wrongness.words}", checker_s=wrongness.cpu_time_s)
    max_bytes = min(_LARGEST_OUTPUT_BYTES, MAX_OUTPUT_BYTES + 4 * len(case.output))
    if job.problem.checker:  # many outputs are right, some of them longer than the one that is known
        max_bytes = max(max_bytes, 16 * MAX_OUTPUT_BYTES)
    result = run(case.input, job.limits.with_files(len(case.input.encode())), max_bytes + 1)
    ended = _Verdict("passed", "", result.cpu_time_s, result.wall_time_s)
    if len(result.stdout) > max_bytes:  # first: a program may be stopped there
        return ended._replace(status="failed", words=f"it printed more than {max_bytes >> 20} MiB")
    if (wrong_end := bad_end(result, job.limits)) is not None:
        return ended._replace(status=wrong_end[0], words=wrong_end[1])
    # Bytes that are not UTF-8 become lone surrogates, which no expected output has.
    wrongness = _wrongness(job.problem, case, result.stdout.decode("utf-8", "surrogateescape"), job.limits, sandboxes)
    if wrongness.words:
        ended = ended._replace(status="failed", words=wrongness.words)
    return ended._replace(checker_s=wrongness.cpu_time_s)


def bad_end(result: CommandResult, limits: Limits) -> tuple[Status, str] | None:
    """Return the verdict on a program that did not end well, whatever it has printed; None on one that did."""
    lines = result.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
    if result.timed_out == "cpu":
        return "timeout_cpu", f"more than {limits.cpu_s:g} s of CPU time"
    if result.timed_out == "wall":
        return "timeout_wall", f"still running after {limits.wall_s:g} s ({result.cpu_time_s:.1f} s of CPU)"
    if result.exit_code == 0:
        return None
    if lines[-1].startswith(NOT_COMPILED):
        return "syntax_error", shown(lines[-1].removeprefix(NOT_COMPILED))
    if result.exit_code == -9 or any(error in lines[-1] for error in _MEMORY_ERRORS):
        return "memory", shown(lines[-1])
    exit_code = result.exit_code or 0
    how = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return "failed", f"{how}, {shown(lines[-1])}" if lines[-1] else how


class _Wrongness(NamedTuple):
    """Of an output: `words` are "" where it is right. `cpu_time_s` is its checker's."""

    words: str
    cpu_time_s: float = 0.0


def _wrongness(problem: Problem, case: Case, output: str, limits: Limits, sandboxes: Sandboxes) -> _Wrongness:
    if not problem.checker:
        return _Wrongness(difference(problem, case.output, output))
    packages = needed_packages(limits.packages, mentions(problem.checker))
    given = json.dumps([problem.checker, "argv" in problem.checker, case.input, case.output, output])
    if len(given) + given.count("\\") + given.count('"') > _LARGEST_CASE_CHARACTERS:
        return _Wrongness("it printed more than its checker can be given")
    result = sandboxes(packages=packages).run_program(_CHECKING, given, limits.with_files(len(given.encode())))
    if (ended := bad_end(result, limits)) is not None:
        return _Wrongness(f"its checker: {ended[1]}", result.cpu_time_s)
    score = (result.stdout.decode("utf-8", "replace").split() or ["nothing"])[-1]
    try:
        return _Wrongness("" if float(score) > 0 else "its checker says that it is wrong", result.cpu_time_s)
    except ValueError:
        return _Wrongness(f"its checker printed {shown(score)}, not a score", result.cpu_time_s)
