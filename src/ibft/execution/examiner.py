"""The examiner: one process per worker, which runs the tests and owns the sandboxes of that worker.

A process and not a thread, since tests are Python programs: they need the interpreter to themselves, and one that
hangs on a candidate's value can be killed. `Examiner` is the parent's side; run as a module, this file is the other.
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
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.inside import codec, folder, lockdown, messages
from ibft.execution.isolation import Level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, SandboxError
from ibft.execution.workplace import Workplace

__all__ = ["Examiner"]

_PREPARING_S = 600.0
"""Limit on a problem's own setup, once per worker: it may compute the expected values of many tests."""

_GRACE_S = 0.5
_MEMORY_BYTES = 4 << 30
"""Limit of the examiner itself: it decodes a candidate's values, and tests may unfold them (`list(range(10**9))`)."""

_MAX_ORDER_BYTES = 1 << 30
"""A problem's inputs and outputs: LiveCodeBench has some of more than 64 MiB."""

_KEPT_CHARACTERS = 256 << 20
"""Of the problems that an examiner keeps, those sent last: a benchmark may be larger than its memory."""

_CLOSING_GRACE_S = 10.0
_ENDING = "the judge is ending"
_RUNNING_S = "running_s"
"""What a process says when a program begins to run: the seconds that it may take."""


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is sent: its problem, which may be megabytes, the first time only, and its number from then on.

    Number 0 with a problem: the earlier ones are to be forgotten.
    """

    number: int
    problem: Problem | None
    limits: Limits
    sample: Sample | None
    reference: Reference | None


class _Ended(Exception):
    """Whoever wanted the job no longer does."""


class Examiner:
    """The parent's handle on one examiner process: one job at a time, whichever threads ask.

    `close` and `interrupt` may come from any thread. Only the thread whose job runs, or `close` while no job runs,
    drops a process.
    """

    def __init__(self, level: Level) -> None:
        self._level = level
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._state = threading.Condition()
        self._closed = False
        self._busy_for: threading.Event | None = None
        self._scratch = ""
        self._sent: dict[Problem, int] = {}
        self._num_sent_characters = 0

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        with self._state:
            if self._closed:
                raise messages.ChannelClosed(_ENDING)
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

    def examine(self, job: Job, stopping: threading.Event | None = None) -> Outcome | Reference:
        """Do a job. After a failure of the sandbox or the process it is tried once more.

        A reference that takes too long, or tests that never end, come back as `timeout_wall`.

        Args:
            job: to do; it waits until the jobs of other threads have ended.
            stopping: once set, this call begins nothing more; `interrupt` ends what it has begun.
        """
        stopping = stopping or threading.Event()
        try:
            with self._turn(stopping):
                return self._examine(job, stopping)
        except _Ended:
            return job.unfinished("infrastructure_error", f"not judged: {_ENDING}")

    def interrupt(self, stopping: threading.Event) -> None:
        """End the job that runs for this event, which is set already, and its process; the next job starts another."""
        with self._state:
            if self._busy_for is stopping:
                self._kill()
            self._state.notify_all()

    def close(self) -> None:
        """End the process and whatever it runs: at once while a job runs, else by closing its channel."""
        with self._state:  # after this no job begins
            self._closed = True
            is_idle = self._busy_for is None
            if not is_idle:
                self._kill()
            self._state.notify_all()
            self._state.wait_for(lambda: self._busy_for is None)
        if is_idle and self._channel is not None and self._process is not None:
            self._channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_CLOSING_GRACE_S)
        self._stop()

    @contextlib.contextmanager
    def _turn(self, stopping: threading.Event) -> Iterator[None]:
        """Wait until no other job runs, and keep others out."""
        # An answer does not say which job it is for: of two threads that ask, each could get the other's verdict.
        with self._state:
            self._state.wait_for(lambda: self._busy_for is None or self._is_ending(stopping))
            if self._is_ending(stopping):
                raise _Ended
            self._busy_for = stopping
        try:
            yield
        finally:
            with self._state:
                self._busy_for = None
                self._state.notify_all()

    def _is_ending(self, stopping: threading.Event) -> bool:
        return self._closed or stopping.is_set()

    def _examine(self, job: Job, stopping: threading.Event) -> Outcome | Reference:
        failure = ""
        for _ in range(2):
            try:
                return self._ask(job, stopping)
            except TimeoutError:  # an OSError too, so it comes first: a second try would hang as long
                self._stop()
                return job.unfinished("timeout_wall", "timed out: its tests never ended")
            except (OSError, codec.CodecError, msgspec.MsgspecError) as error:
                failure = str(error) or type(error).__name__
                self._stop()
            except BaseException:  # Ctrl-C above all: an answer may still come, and would be taken for the next job's
                self._stop()
                raise
        return job.unfinished("infrastructure_error", f"not judged: {failure}")

    def _ask(self, job: Job, stopping: threading.Event) -> Outcome | Reference:
        with self._state:  # so that whoever ends the job finds either no process begun, or one to kill
            if self._is_ending(stopping):
                raise _Ended
            if self._channel is None:
                self.start()
            assert self._channel is not None
            channel = self._channel.fileno()
        number, problem = self._number(job.problem)
        order = _Order(number=number, problem=problem, limits=job.limits, sample=job.sample, reference=job.reference)
        messages.send(channel, msgspec.to_builtins(order), _MAX_ORDER_BYTES)
        if problem is not None:
            messages.wait(channel, _PREPARING_S)
            messages.receive(channel)  # the problem is prepared; the job's own time begins only now
        # Each program has the limits for itself, and all but the first are announced. A reference comes behind stubs.
        answer = {_RUNNING_S: _PREPARING_S if job.sample is None else job.limits.wall_s}
        while _RUNNING_S in answer:
            messages.wait(channel, answer[_RUNNING_S] + _GRACE_S)
            answer = messages.receive(channel)
        if "error" in answer:
            raise messages.ChannelClosed(answer["error"])
        if job.sample is None:
            return msgspec.convert(answer, Reference)
        return msgspec.convert(answer, Outcome)

    def _number(self, problem: Problem) -> tuple[int, Problem | None]:
        """Return a problem's number, and the problem itself where it has to be sent."""
        if problem in self._sent:
            return self._sent[problem], None
        self._num_sent_characters += _num_characters(problem)
        if not self._sent or self._num_sent_characters > _KEPT_CHARACTERS:
            self._sent, self._num_sent_characters = {}, _num_characters(problem)
        return self._sent.setdefault(problem, len(self._sent)), problem

    def _kill(self) -> None:
        """Kill the process for the thread that waits for it, which drops it then (`_stop`)."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)  # wakes that thread
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                # The whole group: the servers of its sandboxes, too.
                os.killpg(self._process.pid, signal.SIGKILL)

    def _stop(self) -> None:
        with self._state:
            self._kill()
            channel, self._channel = self._channel, None
            process, self._process = self._process, None
            scratch, self._scratch = self._scratch, ""
        if channel is not None:
            channel.close()
        if process is not None:
            process.wait()
        if scratch:
            _remove(scratch)


def _num_characters(problem: Problem) -> int:
    cases = sum(len(case.input) + len(case.output) for case in problem.io)
    return cases + len(problem.setup) + len(problem.tests)


def _remove(scratch: str) -> None:
    """Remove an examiner's folder, in which what was just killed may still be ending."""
    deadline = time.monotonic() + _CLOSING_GRACE_S
    while time.monotonic() < deadline and os.path.exists(scratch):  # another thread may have removed it
        with contextlib.suppress(OSError):
            folder.empty(scratch)
            os.rmdir(scratch)
            return
        time.sleep(0.01)


def _main(descriptor: int, level: Level, scratch: str) -> None:
    _, ceiling = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (lockdown.capped(_MEMORY_BYTES, ceiling), ceiling))
    with contextlib.ExitStack() as cleanup:
        granted_s = 0.0

        def announce(wall_s: float) -> None:
            nonlocal granted_s
            if wall_s > granted_s:  # the first program of a job is expected, and needs no word
                messages.send(descriptor, {_RUNNING_S: wall_s})
            granted_s = 0.0

        workplace = Workplace(level, scratch, cleanup, announce)
        problems: list[Problem] = []
        with contextlib.suppress(messages.ChannelClosed):
            while True:
                order = msgspec.convert(messages.receive(descriptor, _MAX_ORDER_BYTES), _Order)
                if order.problem is not None:
                    if order.number == 0:
                        problems.clear()
                        workplace.forget()
                    problems.append(order.problem)
                    workplace.learn(order.problem)
                    messages.send(descriptor, "prepared")
                job = Job(
                    problem=problems[order.number], limits=order.limits, sample=order.sample, reference=order.reference
                )
                granted_s = _PREPARING_S if job.sample is None else job.limits.wall_s
                try:
                    answer = msgspec.to_builtins(workplace.do(job))
                except SandboxError as error:
                    answer = {"error": str(error)}
                messages.send(descriptor, answer)


if __name__ == "__main__":
    # `-m` puts the current folder first: a file there called like a module would run in the judge.
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != Path.cwd()]
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3])  # type: ignore[arg-type]
