"""What watches a sample's process from the fork server: its end, its time, its outputs, and what it leaves behind."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import time
import typing

from . import group, messages

__all__ = ["END", "LOST", "End", "Output", "Supervisor"]

END, LOST = "end", "lost"
"""The judge's words while a sample runs: see `zygote`."""

_LOST_GRACE_S = 1.0
_NUM_CORES = os.cpu_count() or 1


class End(typing.NamedTuple):
    """How a child ended. `exit_code` is None where it was still running; `timed_out` is "", "cpu" or "wall"."""

    exit_code: int | None
    cpu_time_s: float
    wall_time_s: float
    timed_out: str


class Output:
    """A pipe of which the first bytes are kept and the rest is read and dropped, or ends the child (`is_end`)."""

    def __init__(self, keep_bytes: int, is_end: bool = False) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.data = bytearray()
        self._keep_bytes = keep_bytes
        self._is_end = is_end

    @property
    def ends_child(self) -> bool:
        """Whether the child has printed all that it may."""
        return self._is_end and len(self.data) == self._keep_bytes

    def drain(self) -> bool:
        """Read what is there; False once there is no more (now, or ever)."""
        try:
            chunk = os.read(self.read_end, 1 << 16)
        except BlockingIOError:
            return False
        self.data += chunk[: self._keep_bytes - len(self.data)]
        return bool(chunk)


class Supervisor(typing.NamedTuple):
    """Watches one child at a time, and listens to the judge while it runs.

    `control` is the socket to the judge. `children` is the file of /proc that lists this server's children; None in a
    process namespace, in which it may kill everything else.
    """

    control: socket.socket
    children: int | None
    with_limits: bool
    group: group.Group | None

    def watch(self, pid: int, request: dict[str, typing.Any], outputs: dict[int, Output]) -> End:
        """Wait until the child ends, its time is up or the judge says so; then kill all that it has started."""
        bounds = self.group
        start, spent_s = time.monotonic(), bounds.cpu_time_s() if bounds else 0.0
        deadline = start + request["wall_s"]
        child = os.pidfd_open(pid)  # what a poll can wait for, beside the judge's word and the outputs
        poller = select.poll()
        for descriptor in (self.control.fileno(), child, *outputs):
            poller.register(descriptor, select.POLLIN)
        has_ended = is_stopped = False
        try:
            while not has_ended:
                used_s = bounds.cpu_time_s() - spent_s if bounds else _cpu_time_s(pid)
                cpu_left_s = request["cpu_s"] - used_s if self.with_limits else math.inf
                wall_left_s = deadline - time.monotonic()
                if min(cpu_left_s, wall_left_s) <= 0:
                    break
                # With one thread the child cannot use up its CPU time in less than that of wall-clock time.
                patience_s = min(cpu_left_s / (_NUM_CORES if bounds else 1), wall_left_s)
                for descriptor, _ in poller.poll(math.ceil(patience_s * 1000)):
                    if descriptor == child:
                        has_ended = True
                    elif descriptor in outputs:
                        if not outputs[descriptor].drain():
                            poller.unregister(descriptor)
                        elif outputs[descriptor].ends_child:
                            is_stopped, deadline = True, start
                    else:
                        poller.unregister(descriptor)
                        is_stopped = True
                        deadline = time.monotonic() + (_LOST_GRACE_S if _word(self.control) == LOST else 0)
        finally:
            os.close(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # its number is still its own: nobody has waited for it yet
            _, status, usage = os.wait4(pid, 0)
            with bounds.closed() if bounds else contextlib.nullcontext():
                _kill_the_rest(self.children)
        for output in outputs.values():
            while output.drain():
                pass
        cpu_time_s = bounds.cpu_time_s() - spent_s if bounds else usage.ru_utime + usage.ru_stime
        is_over = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        timed_out = ""
        if cpu_time_s > request["cpu_s"] or is_over:
            timed_out = "cpu"
        elif not has_ended and not is_stopped:
            timed_out = "wall"
        exit_code = os.waitstatus_to_exitcode(status) if has_ended else None
        return End(exit_code, cpu_time_s, time.monotonic() - start, timed_out)


def _cpu_time_s(pid: int) -> float:
    """Return the CPU time that a child has used so far, without that of the processes that it has started."""
    return time.clock_gettime(~pid << 3 | 2)  # the number of the child's own clock, as clock_getcpuclockid(3) makes it


def _word(control: socket.socket) -> typing.Any:
    """Return what the judge says while a sample runs; "end" where it is gone, which the main loop will notice too."""
    try:
        return messages.receive(control.fileno())
    except messages.ChannelClosed:
        return END


def _kill_the_rest(children: int | None) -> None:
    """Kill what outlived the child. A candidate starts processes only where a group bounds them."""
    with contextlib.suppress(ChildProcessError):  # raised once there is none left
        while True:
            if os.waitpid(-1, os.WNOHANG) != (0, 0):
                continue  # it was dead already, and must not hide one that is not
            if children is None:
                os.kill(-1, signal.SIGKILL)  # all of this namespace but its first process and this one
            else:
                for pid in os.pread(children, 1 << 16, 0).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)
