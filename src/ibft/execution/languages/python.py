"""Judging a Python sample: by values that cross the sandbox's border, and in its own interpreter if that shows more.

**Strong.** The tests run outside of the candidate's process (`python_run.py`), where no cheat reaches them. Where they
could see more than values (`python_reach.py`: an argument changed in place, identity, attributes, objects), or
something came up that a channel changes, they run in the candidate's own interpreter as well, as a plain `python` would
run them. Both have to pass.

**Weak.** Where the tests cannot work outside at all (operators and exceptions of the candidate's own classes,
callbacks, printed output, values too large for the channel), the run inside alone decides, and the result says so
(`is_weak`). A candidate could then cheat: by an `__eq__` that is always true, by patching what the tests use, by
reading the expected values from the tests' frames or code, or by ending the test run from within.

Which of the two a problem is, its reference decides. Without one, each sample is run outside first, and is weak if
something could not cross.
"""

from __future__ import annotations

import functools

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.inside import codec
from ibft.execution.languages import Language, Sandboxes
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.packages import mentions, needed_packages
from ibft.execution.python_problems import completed
from ibft.execution.python_run import Run, run_python
from ibft.execution.python_stubs import passing_stub
from ibft.execution.python_tests import Prepared, prepare
from ibft.execution.sandbox import Sandbox
from ibft.execution.standard_io import judge_io, reference_io
from ibft.text.answers.programs import continues_code
from ibft.text.answers.python_reader import PythonReader
from ibft.text.answers.syntax import in_front

__all__ = ["PYTHON", "Python"]


class Python(PythonReader, Language):
    """Python, judged by values that cross the sandbox's border, or inside where only that works."""

    judges_io = True

    def prepare(self, problem: Problem) -> Prepared:
        """Compile the tests and run the problem's setup.

        Raises:
            Exception: whatever setup or tests raise or fail to compile with: the problem is broken.
        """
        return prepare(problem)

    def judge(self, job: Job, prepared: Prepared, sandboxes: Sandboxes) -> Outcome:
        """Run a sample's program against its tests: inside where the reference passes only there."""
        assert job.sample is not None
        source = self.source(job.problem, job.sample)
        sandbox = _sandbox(job, prepared, source, sandboxes)
        if job.problem.io:
            return judge_io(job, functools.partial(sandbox.run_program, source), sandboxes)
        is_weak = job.reference is not None and job.reference.is_weak
        runs = _Runs(job, prepared, source, sandbox)
        return runs.inside().outcome if is_weak else _decide(runs, job.problem)

    def reference(self, job: Job, prepared: Prepared, sandboxes: Sandboxes) -> Reference:
        """Run the problem's own solution, and programs that solve nothing: if one of these passes, it is broken.

        A problem without a solution is taken to be sound; its tests run where it says.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem, solution = job.problem, job.problem.canonical_solution
        source = self.source(problem, Sample(task_id=problem.task_id, completion=solution or ""))
        sandbox = _sandbox(job, prepared, source, sandboxes)
        if problem.io:
            run = functools.partial(sandbox.run_program, source)
            return reference_io(job, None if solution is None else run, sandboxes)
        if stub := passing_stub(prepared):
            return Reference(status="failed", message=f"{stub} passes its tests, which so decide nothing")
        if solution is None:
            return Reference(status="passed", message="it has no reference solution", is_weak=problem.inside is True)
        runs = _Runs(job, prepared, source, sandbox)
        outcome, in_place = _decide(runs, problem), False
        if not runs.passed_outside and problem.inside is None:
            if not outcome.passed:
                outcome = max(outcome, runs.inside().outcome, key=lambda one: one.passed)
            in_place = outcome.passed and runs.has_changed_arguments and runs.outside(in_place=True).outcome.passed
        return Reference(
            status=outcome.status,
            message=outcome.message,
            cpu_time_s=runs.cpu_time_s,
            is_weak=outcome.is_weak and not in_place,
            in_place=in_place,
        )

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the program that is judged, behind the problem's preamble.

        Where a program reads standard input, a completion that does not continue the prompt to one is taken to be
        whole: the prompt may be words.
        """
        source = super().source(problem, sample)
        if problem.io and sample.completion is not None and not continues_code(sample.completion, problem.prompt):
            source = sample.completion
        return in_front(problem.preamble, source)

    def completed(self, problem: Problem) -> Problem:
        """Return the problem with its tests called and its setup filled in (`python_problems`)."""
        return completed(problem)

    def versions(self) -> dict[str, str]:
        """Return NumPy's version, since some samples import it; Python's own is in every result."""
        import importlib.metadata  # takes 20 ms, which the judge's processes need not spend

        return {"numpy": importlib.metadata.version("numpy")}


PYTHON = Python()


class _Runs:
    """The runs of one program. `cpu_time_s` is that of the longest."""

    def __init__(self, job: Job, prepared: Prepared, source: str, sandbox: Sandbox) -> None:
        self.prepared, self._source, self._limits, self._sandbox = prepared, source, job.limits, sandbox
        self.has_reference = job.sample is not None and job.problem.canonical_solution is not None
        self.in_place = job.reference is not None and job.reference.in_place
        self.passed_outside = self.has_changed_arguments = False
        self.cpu_time_s = 0.0

    def outside(self, *, in_place: bool = False) -> Run:
        run = self._run(in_place=in_place)
        self.passed_outside |= run.outcome.passed
        self.has_changed_arguments |= run.has_changed_arguments
        return run

    def inside(self) -> Run:
        return self._run(inside=True)

    def _run(self, *, inside: bool = False, in_place: bool = False) -> Run:
        run = run_python(self.prepared, self._source, self._sandbox, self._limits, inside=inside, in_place=in_place)
        self.cpu_time_s = max(self.cpu_time_s, run.outcome.cpu_time_s)
        return run


def _decide(runs: _Runs, problem: Problem) -> Outcome:
    """Run a program where it has to be run, and return the verdict."""
    if problem.inside:
        return runs.inside().outcome
    run = runs.outside(in_place=runs.in_place)
    outer = run.outcome
    if problem.inside is False or outer.status in ("infrastructure_error", "cheating_refused", "syntax_error"):
        return outer
    if outer.passed:
        return outer if run.is_exact else _confirmed(outer, runs)
    # The reference passed outside, so what a sample does not bring across is its own fault.
    may_be_the_channels = not runs.has_reference and (bool(run.obstacle) or not runs.prepared.reach.is_whole)
    if not may_be_the_channels and not run.has_changed_arguments:
        return outer
    inner = runs.inside().outcome
    return inner if inner.passed else outer


def _confirmed(outer: Outcome, runs: _Runs) -> Outcome:
    """Return the verdict on a program that passed outside, where its tests see more inside."""
    inner = runs.inside().outcome
    spent = {
        "cpu_time_s": outer.cpu_time_s + inner.cpu_time_s,
        "wall_time_s": outer.wall_time_s + inner.wall_time_s,
    }
    if inner.passed:
        return msgspec.structs.replace(outer, **spent)
    message = f"{inner.message} (in its own interpreter, where its tests see changed arguments, identity and output)"
    if runs.inside().outcome.passed:
        message = "failed: it is not deterministic: its tests pass in one run and fail in another"
    return msgspec.structs.replace(inner, message=message, is_weak=False, **spent)


def _sandbox(job: Job, prepared: Prepared, source: str, sandboxes: Sandboxes) -> Sandbox:
    # A server that has a package loaded takes longer to start and more memory in each child: only where it is needed.
    packages = prepared.packages | needed_packages(job.limits.packages, prepared.words | mentions(source))
    if "numpy" in packages:
        codec.know_numpy()
    return sandboxes(packages=packages)
