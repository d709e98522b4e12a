"""A language of another package: scripts of the shell, of which the tests are the output that is expected."""

from __future__ import annotations

from typing import Any

from ibft.execution import Job, Language, Outcome
from ibft.execution.languages import Sandboxes

SH = "/bin/sh"


class Shell(Language):
    fences = frozenset({"sh", "shell", "bash"})

    def judge(self, job: Job, prepared: Any, sandboxes: Sandboxes) -> Outcome:
        assert job.sample is not None
        files = {"answer.sh": self.source(job.problem, job.sample).encode()}
        (result,) = sandboxes(tools=[SH]).run_commands(files, [[SH, "answer.sh"]], job.limits)
        if result.timed_out:
            return Outcome(status="timeout_cpu", message="timed out", cpu_time_s=result.cpu_time_s)
        is_right = result.exit_code == 0 and result.stdout.decode() == job.problem.tests
        status = "passed" if is_right else "failed"
        return Outcome(status=status, message=f"it printed {result.stdout!r}", cpu_time_s=result.cpu_time_s)

    def versions(self) -> dict[str, str]:
        return {"sh": "POSIX"}


SHELL = Shell()
