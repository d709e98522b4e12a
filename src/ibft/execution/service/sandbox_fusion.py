"""SandboxFusion's `run_code` and `submit`: names and values of fields as in its API, which verl and others speak.

Source of the format: bytedance/SandboxFusion, docs of the endpoints. `run_timeout` is CPU time here, so that a busy
machine changes no result; waiting ends at `run_timeout + compile_timeout`, within what clients wait for.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec

from ibft.execution.isolation import Level
from ibft.execution.outcome import Outcome
from ibft.execution.packages import mentions, needed_packages
from ibft.execution.sandbox import CommandResult, Limits, Sandbox, SandboxError

__all__ = ["EvalResult", "ProgramRunner", "RunCodeRequest", "RunCodeResponse", "SubmitRequest", "as_eval_result"]

_LANGUAGES = {"python"}
_DEFAULT_MEMORY_MIB = 2048


class RunCodeRequest(msgspec.Struct, kw_only=True):
    """`POST /run_code`. `files` and `fetch_files` must be empty."""

    code: str
    language: str
    stdin: str | None = None
    compile_timeout: float = 10.0
    run_timeout: float = 10.0
    memory_limit_MB: int = -1
    files: dict[str, Any] = {}
    fetch_files: list[str] = []

    def limits(self) -> Limits:
        """Return our limits for it."""
        memory_mib = self.memory_limit_MB if self.memory_limit_MB > 0 else _DEFAULT_MEMORY_MIB
        wall_s = self.run_timeout + self.compile_timeout
        return Limits(cpu_s=self.run_timeout, wall_s=wall_s, memory_mib=memory_mib)


class CommandRunResult(msgspec.Struct, kw_only=True):
    """How a program ended."""

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class RunCodeResponse(msgspec.Struct, kw_only=True):
    """The answer of `run_code`: `Success` if the program ended with 0."""

    status: Literal["Success", "Failed", "SandboxError"]
    message: str
    compile_result: CommandRunResult | None = None
    run_result: CommandRunResult | None = None
    executor_pod_name: str | None = None
    files: dict[str, str] = {}


class SubmitRequest(msgspec.Struct, kw_only=True):
    """`POST /submit`: an answer to a problem of a data set that the service has. `config` is read by SandboxFusion."""

    dataset: str
    id: int | str
    completion: str
    config: dict[str, Any] = {}


class EvalTestCase(msgspec.Struct, kw_only=True):
    """One run of the tests."""

    passed: bool
    exec_info: RunCodeResponse
    test_info: dict[str, Any] | None = None


class EvalResult(msgspec.Struct, kw_only=True):
    """The answer of `submit`."""

    id: int | str
    accepted: bool
    extracted_code: str
    full_code: str | None = None
    test_code: str | None = None
    tests: list[EvalTestCase] = []
    extracted_type: str | None = None
    extra: dict[str, Any] | None = None


class _Task:
    """A program that is wanted: until `is_over`, in the `sandbox` where it runs."""

    def __init__(self) -> None:
        self.is_over = False
        self.sandbox: Sandbox | None = None


class ProgramRunner:
    """Runs whole programs, so many at once, each thread in its own sandbox."""

    def __init__(self, level: Level, num_workers: int) -> None:
        self._level = level
        self._threads = ThreadPoolExecutor(num_workers, "ibft-run-code")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._sandboxes: list[Sandbox] = []

    async def run(self, request: RunCodeRequest) -> RunCodeResponse:
        """Return the answer. Cancelling ends the program."""
        task = _Task()
        try:
            return await asyncio.wrap_future(self._threads.submit(self._run, request, task))
        finally:
            with self._lock:
                task.is_over = True
                if task.sandbox is not None:
                    task.sandbox.stop()

    def close(self) -> None:
        """End the sandboxes and what they run."""
        with self._lock:
            for sandbox in self._sandboxes:
                sandbox.close()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, request: RunCodeRequest, task: _Task) -> RunCodeResponse:
        if request.language not in _LANGUAGES:
            return _failure(f"language {request.language!r} is not supported; {', '.join(sorted(_LANGUAGES))} is")
        if request.files or request.fetch_files:
            return _failure("files are not supported; give the program its data as stdin")
        try:
            sandbox = self._sandbox(frozenset(needed_packages((), mentions(request.code))))
            sandbox.start()  # so that there is next to no time in which `stop` would find nothing to end
            with self._lock:
                if task.is_over:
                    return _failure("the client is gone")
                task.sandbox = sandbox
            return as_response(sandbox.run_program(request.code, request.stdin or "", request.limits()))
        except SandboxError as error:
            return _failure(str(error))
        finally:
            with self._lock:
                task.sandbox = None

    def _sandbox(self, packages: frozenset[str]) -> Sandbox:
        known: dict[frozenset[str], Sandbox] = self._own.__dict__.setdefault("sandboxes", {})
        if packages not in known:
            known[packages] = Sandbox(self._level, packages=packages)
            with self._lock:
                self._sandboxes.append(known[packages])
        return known[packages]


def as_response(result: CommandResult) -> RunCodeResponse:
    """Return the answer of `run_code` for a program that ended so."""
    run = CommandRunResult(
        status="TimeLimitExceeded" if result.timed_out else "Finished",
        execution_time=result.wall_time_s,
        return_code=result.exit_code,
        stdout=result.stdout.decode("utf-8", "replace"),
        stderr=result.stderr.decode("utf-8", "replace"),
    )
    is_right = not result.timed_out and result.exit_code == 0
    return RunCodeResponse(status="Success" if is_right else "Failed", message="", run_result=run)


def as_eval_result(request: SubmitRequest, code: str, tests: str, outcome: Outcome) -> EvalResult:
    """Return the answer of `submit` for a verdict."""
    if outcome.status in ("infrastructure_error", "excluded"):
        info = _failure(outcome.message)
    else:
        run = CommandRunResult(
            status="TimeLimitExceeded" if outcome.status.startswith("timeout") else "Finished",
            execution_time=outcome.wall_time_s,
            return_code=0 if outcome.passed else 1,
            stdout="",
            stderr="" if outcome.passed else outcome.message,
        )
        info = RunCodeResponse(status="Success" if outcome.passed else "Failed", message="", run_result=run)
    return EvalResult(
        id=request.id,
        accepted=outcome.passed,
        extracted_code=code,
        full_code=code,
        test_code=tests,
        tests=[EvalTestCase(passed=outcome.passed, exec_info=info)],
        extra={"status": outcome.status, "is_weak": outcome.is_weak},
    )


def _failure(message: str) -> RunCodeResponse:
    return RunCodeResponse(status="SandboxError", message=message)
