"""The examiner: one process per worker, which runs the tests and owns the sandboxes of that worker.

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
from pathlib import Path

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.inside import codec, folder
from ibft.execution.isolation import Level
from ibft.execution.languages import LANGUAGES
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, SandboxError
from ibft.execution.workplace import Workplace

__all__ = ["Examiner"]

_PREPARED = "prepared"
_PREPARING_S = 600.0
"""What a problem's own setup may take, once per worker: it may compute the expected values of many tests."""

_GRACE_S = 0.5
_MEMORY_BYTES = 4 << 30
"""The examiner's own: what a candidate returns is decoded here, and the tests may unfold it (`list(range(10**9))`)."""

_CLOSING_GRACE_S = 10.0


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
                return job.unfinished("timeout_wall", "timed out: its tests never ended")
            except (OSError, codec.CodecError, msgspec.MsgspecError) as error:
                failure = str(error) or type(error).__name__
                self._stop()
        return job.unfinished("infrastructure_error", f"not judged: {failure}")

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
        num_runs = LANGUAGES[job.problem.language].num_runs(is_reference=job.sample is None)
        codec.wait(channel, num_runs * (job.limits.wall_s + _GRACE_S))
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


def _remove(scratch: str) -> None:
    """Remove an examiner's folder, in which what was just killed may still be ending."""
    deadline = time.monotonic() + _CLOSING_GRACE_S
    while time.monotonic() < deadline and os.path.exists(scratch):
        with contextlib.suppress(OSError):
            folder.empty(scratch)
            os.rmdir(scratch)
            return
        time.sleep(0.01)


def _main(descriptor: int, level: Level, scratch: str) -> None:
    _, ceiling = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if ceiling == resource.RLIM_INFINITY else min(_MEMORY_BYTES, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (limit, ceiling))
    with contextlib.ExitStack() as cleanup:
        workplace = Workplace(level, scratch, cleanup)
        problems: list[Problem] = []
        with contextlib.suppress(codec.ChannelClosed):
            while True:
                order = msgspec.convert(codec.receive(descriptor), _Order)
                if order.problem is not None:
                    problems.append(order.problem)
                    workplace.learn(order.problem)
                    codec.send(descriptor, _PREPARED)
                job = Job(
                    problem=problems[order.number], limits=order.limits, sample=order.sample, reference=order.reference
                )
                try:
                    answer = msgspec.to_builtins(workplace.do(job))
                except SandboxError as error:
                    answer = {"error": str(error)}
                codec.send(descriptor, answer)


if __name__ == "__main__":
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])  # type: ignore[arg-type]
