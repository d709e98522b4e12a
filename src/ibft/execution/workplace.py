"""The state that a judging process keeps between jobs: its sandboxes, and the problems' prepared tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ibft.artifacts.rows import Problem
from ibft.execution.isolation import Level
from ibft.execution.languages import LANGUAGES
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Sandbox

__all__ = ["Workplace"]


class Workplace:
    """Judges in this process, in which its problems' tests run too: `Examiner` keeps it apart and can kill it.

    Args:
        level: of the sandboxes.
        scratch: a folder for the samples' files, at levels without a file system of their own.
        cleanup: closes the sandboxes.
        on_run: called with the wall-clock limit, in seconds, whenever a program is about to run.
    """

    def __init__(
        self,
        level: Level,
        scratch: str,
        cleanup: contextlib.ExitStack,
        on_run: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._level, self._scratch, self._on_run = level, scratch, on_run
        self._cleanup = cleanup
        self._sandboxes: dict[tuple[tuple[str, ...], bool, frozenset[str], int], Sandbox] = {}
        self._group_memory_mib = 0  # of the job that is done
        self._prepared: dict[Problem, Any] = {}
        self._broken: dict[Problem, str] = {}

    def learn(self, problem: Problem) -> None:
        """Prepare a problem's tests; broken ones are reported when they are to be run."""
        try:
            self._prepared[problem] = LANGUAGES[problem.language].prepare(problem)
        except (Exception, SystemExit) as error:  # a setup may call exit(), which must not end this process
            self._broken[problem] = f"its setup or tests are broken: {type(error).__name__}: {error}"

    def forget(self) -> None:
        """Drop the problems that were learned."""
        self._prepared.clear()
        self._broken.clear()

    def do(self, job: Job) -> Outcome | Reference:
        """Judge a sample, or run a reference. Must be called from the main thread: tests are ended by an alarm.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        if job.problem not in self._prepared and job.problem not in self._broken:
            self.learn(job.problem)
        if job.problem in self._broken:
            return job.unfinished("failed", self._broken[job.problem])
        self._group_memory_mib = job.limits.memory_mib if job.limits.threads else 0
        language = LANGUAGES[job.problem.language]
        run = language.reference if job.sample is None else language.judge
        return run(job, self._prepared[job.problem], self._sandbox)

    def _sandbox(self, *, tools: Sequence[str] = (), compiles: bool = False, packages: Iterable[str] = ()) -> Sandbox:
        key = (tuple(tools), compiles, frozenset(packages), self._group_memory_mib)
        if key not in self._sandboxes:
            sandbox = Sandbox(
                self._level,
                tools=tools,
                compiles=compiles,
                group_memory_mib=self._group_memory_mib,
                packages=key[2],
                scratch=self._scratch,
                on_run=self._on_run,
            )
            self._sandboxes[key] = self._cleanup.enter_context(sandbox)
        return self._sandboxes[key]
