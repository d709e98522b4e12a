"""The examiner: one process a worker, which runs the tests and owns the sandboxes of that worker.

A process and not a thread, since tests are Python programs: they need the interpreter to themselves, and one that
hangs on what a candidate returned can be killed. The parent's side is `Examiner`; run as a module, the other.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ibft.artifacts.rows import Problem, Sample, Status
from ibft.execution.inside import codec, folder
from ibft.execution.isolation import Level
from ibft.execution.outcome import Outcome, Reference
from ibft.execution.python import (
    Prepared,
    imports_numpy,
    judge_python,
    prepare,
    python_source,
    run_python_reference,
)
from ibft.execution.sandbox import Limits, Sandbox, SandboxError

__all__ = ["Examiner", "Job"]

_PREPARED = "prepared"
_PREPARING_S = 600.0
"""What a problem's own setup may take, once a worker: it may compute the expected values of many tests."""

_GRACE_S = 0.5
_MEMORY_BYTES = 4 << 30
"""The examiner's own: what a candidate returns is decoded here, and the tests may unfold it (`list(range(10**9))`)."""

_CLOSING_GRACE_S = 10.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One sample to judge, or, without a sample, a problem's reference to run."""

    problem: Problem
    limits: Limits
    sample: Sample | None = None
    reference: Reference | None = None


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is sent: a problem goes along the first time only, and has a number from then on."""

    number: int
    problem: Problem | None
    limits: Limits
    sample: Sample | None
    reference: Reference | None


class Examiner:
    """The parent's handle on one examiner process. `close` may come from another thread."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._is_idle = True
        self._scratch = ""
        self._sent: dict[Problem, int] = {}

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        if self._closed:
            raise codec.ChannelClosed("the judge is ending")
        self._sent = {}
        self._scratch = tempfile.mkdtemp(prefix="ibft-judge-")
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), self._level, self._scratch],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A group of its own: Ctrl-C is the parent's, which ends all that an examiner has started at once.
                start_new_session=True,
            )

    def examine(self, job: Job) -> Outcome | Reference:
        """Have a job done. What the sandbox or the process failed on is tried once more.

        A reference that takes too long, or tests that never end, come back as `timeout_wall`.
        """
        failure = ""
        for _ in range(2):
            try:
                return self._ask(job)
            except TimeoutError:
                self._stop()
                return _unfinished(job, "timeout_wall", "timed out: its tests never ended")
            except (OSError, codec.CodecError, msgspec.MsgspecError) as error:
                failure = str(error) or type(error).__name__
                self._stop()
        return _unfinished(job, "infrastructure_error", f"not judged: {failure}")

    def close(self) -> None:
        """End the process and whatever it runs: at once if it is at work, in order if it is idle."""
        with self._lock:  # after this no job begins
            self._closed = True
            is_idle = self._is_idle
        if is_idle and self._channel is not None and self._process is not None:
            self._channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_CLOSING_GRACE_S)
        self._stop()

    def _ask(self, job: Job) -> Outcome | Reference:
        if self._channel is None:
            self.start()
        assert self._channel is not None
        channel = self._channel.fileno()
        with self._lock:
            if self._closed:
                raise codec.ChannelClosed("the judge is ending")
            self._is_idle = False
        order = self._order(job)
        codec.send(channel, msgspec.to_builtins(order))
        if order.problem is not None:
            codec.wait(channel, _PREPARING_S)
            codec.receive(channel)  # says no more than that the problem is prepared
        codec.wait(channel, _num_runs(job) * (job.limits.wall_s + _GRACE_S))
        answer = codec.receive(channel)
        self._is_idle = True
        if "error" in answer:
            raise codec.ChannelClosed(answer["error"])
        if job.sample is not None:
            return msgspec.convert(answer, Outcome)
        return msgspec.convert(answer, Reference)

    def _order(self, job: Job) -> _Order:
        problem = None if job.problem in self._sent else job.problem
        number = self._sent.setdefault(job.problem, len(self._sent))
        return _Order(number=number, problem=problem, limits=job.limits, sample=job.sample, reference=job.reference)

    def _stop(self) -> None:
        channel, self._channel = self._channel, None
        process, self._process = self._process, None
        scratch, self._scratch = self._scratch, ""
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits on it
            channel.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if scratch:
            _remove(scratch)


def _num_runs(job: Job) -> int:
    """How often a job's limits may apply: a Verilog design is compiled and simulated, a reference may run twice."""
    if job.problem.language == "verilog":
        return 4
    return 1 if job.sample else 2


def _remove(scratch: str) -> None:
    """Remove an examiner's folder, in which what was just killed may still be ending."""
    deadline = time.monotonic() + _CLOSING_GRACE_S
    while time.monotonic() < deadline and os.path.exists(scratch):
        with contextlib.suppress(OSError):
            folder.empty(scratch)
            os.rmdir(scratch)
            return
        time.sleep(0.01)


def _unfinished(job: Job, status: Status, message: str) -> Outcome | Reference:
    if job.sample is not None:
        return Outcome(status=status, message=message)
    return Reference(status=status, message=message)


class _Workplace:
    """What an examiner process keeps between jobs: its sandboxes, each started when first needed, and the problems."""

    def __init__(self, level: Level, scratch: str, cleanup: contextlib.ExitStack) -> None:
        self._level, self._scratch = level, scratch
        self._cleanup = cleanup
        self._sandboxes: dict[str, Sandbox] = {}
        self._problems: list[Problem] = []
        self._prepared: list[Prepared | Exception | None] = []

    def learn(self, problem: Problem) -> None:
        """Take a problem in, and prepare its tests; that they are broken is said when they are to be run."""
        prepared: Prepared | Exception | None = None
        if problem.language == "python":
            try:
                prepared = prepare(problem)
            except (Exception, SystemExit) as error:
                prepared = Exception(f"its setup or tests are broken: {type(error).__name__}: {error}")
        self._problems.append(problem)
        self._prepared.append(prepared)

    def do(self, order: _Order) -> Outcome | Reference:
        """Judge a sample, or run a reference.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem, prepared = self._problems[order.number], self._prepared[order.number]
        job = Job(problem=problem, limits=order.limits, sample=order.sample, reference=order.reference)
        if prepared is None:
            return self._do_verilog(job)
        if isinstance(prepared, Exception):
            return _unfinished(job, "failed", str(prepared))
        if job.sample is None:
            source = f"{problem.prompt}{problem.canonical_solution}"
            return run_python_reference(problem, prepared, self._python(problem, source), job.limits)
        source = python_source(problem, job.sample)
        inside = job.reference is not None and job.reference.is_weak
        return judge_python(prepared, source, self._python(problem, source), job.limits, inside=inside)

    def _do_verilog(self, job: Job) -> Outcome | Reference:
        from ibft.execution.verilog import judge_verilog, run_verilog_reference, verilog_source

        sandbox = self._sandbox("verilog")
        if job.sample is None:
            return run_verilog_reference(job.problem, sandbox, job.limits)
        assert job.reference is not None
        source = verilog_source(job.problem, job.sample)
        return judge_verilog(job.problem, source, sandbox, job.limits, job.reference)

    def _python(self, problem: Problem, source: str) -> Sandbox:
        if any(map(imports_numpy, (source, *(module.source for module in problem.modules)))):
            codec.know_numpy()
            return self._sandbox("numpy")
        return self._sandbox("python")

    def _sandbox(self, kind: str) -> Sandbox:
        if kind not in self._sandboxes:
            tools: Sequence[str] = ()
            if kind == "verilog":
                from ibft.execution.icarus import icarus_tools

                tools = icarus_tools()
            sandbox = Sandbox(self._level, tools=tools, with_numpy=kind == "numpy", scratch=self._scratch)
            self._sandboxes[kind] = self._cleanup.enter_context(sandbox)
        return self._sandboxes[kind]


def _main(descriptor: int, level: Level, scratch: str) -> None:
    _, ceiling = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if ceiling == resource.RLIM_INFINITY else min(_MEMORY_BYTES, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (limit, ceiling))
    with contextlib.ExitStack() as cleanup:
        workplace = _Workplace(level, scratch, cleanup)
        with contextlib.suppress(codec.ChannelClosed):
            while True:
                order = msgspec.convert(codec.receive(descriptor), _Order)
                if order.problem is not None:
                    workplace.learn(order.problem)
                    codec.send(descriptor, _PREPARED)
                try:
                    answer = msgspec.to_builtins(workplace.do(order))
                except SandboxError as error:
                    answer = {"error": str(error)}
                codec.send(descriptor, answer)


if __name__ == "__main__":
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])  # type: ignore[arg-type]
