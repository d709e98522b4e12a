"""The fork server behind `sandbox.ProcessSandbox`: run as a script, never imported by the program.

It needs the standard library only, loads it once, and forks one child for each sample: a fresh interpreter a
sample would cost more than most samples do. One request on stdin, one answer on stdout, each a 4-byte length
and JSON. It runs one sample at a time in a single thread, as fork demands. End of stdin ends it, with whatever
sample is still running.
"""

from __future__ import annotations

# The modules that answers commonly import are loaded before the fork, so that no sample pays for them.
import array  # noqa: F401
import bisect  # noqa: F401
import collections  # noqa: F401
import contextlib
import copy  # noqa: F401
import ctypes
import dataclasses  # noqa: F401
import datetime  # noqa: F401
import fractions  # noqa: F401
import functools  # noqa: F401
import gc
import hashlib  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math
import operator  # noqa: F401
import os
import random
import re  # noqa: F401
import resource
import secrets
import select
import shutil
import signal
import statistics  # noqa: F401
import string  # noqa: F401
import struct
import sys
import tempfile
import time
import traceback
import types
import typing
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_STDERR_TAIL_BYTES = 4096
_MESSAGE_CHARACTERS = 200
_REPORT_BYTES = 4096
_REPORT_DESCRIPTOR = 3
_READY = b"ready:"  # written before the candidate runs, so it cannot pretend that its process was never set up
_MAX_OPEN_FILES = 64
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _HarnessGone(Exception):
    """The other side closed stdin: end the sample, clean up, leave."""


class _Pipe:
    """The read end of a child's pipe: drained without end, of which the first or the last bytes are kept."""

    def __init__(self, keep_bytes: int, *, keep_tail: bool) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.data = b""
        self._keep_bytes, self._keep_tail = keep_bytes, keep_tail

    def drain(self) -> bool:
        """Read what is there; False once nothing more can come (or, non-blocking, is there now)."""
        try:
            chunk = os.read(self.read_end, 1 << 16)
        except BlockingIOError:
            return False
        data = self.data + chunk
        self.data = data[-self._keep_bytes :] if self._keep_tail else data[: self._keep_bytes]
        return bool(chunk)


class _End(typing.NamedTuple):
    """How a child ended: its wait status (None: killed at the wall-clock limit) and the CPU time it had used."""

    wait_status: int | None
    cpu_time_s: float


def main() -> None:
    """Serve requests until stdin ends. The one argument is the folder for the samples' folders; it goes too."""
    # The script's own folder must not be importable: an answer may import a module of the same name as ours.
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wakeup_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(_HarnessGone):
        while True:
            (size,) = struct.unpack("!I", _read_exactly(4))
            answer = json.dumps(_judge(json.loads(_read_exactly(size)), sys.argv[1], wakeup)).encode()
            _write_all(1, struct.pack("!I", len(answer)) + answer)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def _judge(request: dict[str, typing.Any], root: str, wakeup: int) -> dict[str, typing.Any]:
    """Run one sample in a child; the answer has the fields of `sandbox.Outcome`."""
    folder = tempfile.mkdtemp(dir=root)
    token = secrets.token_hex(16).encode()
    report, stderr = _Pipe(_REPORT_BYTES, keep_tail=False), _Pipe(_STDERR_TAIL_BYTES, keep_tail=True)
    start = time.monotonic()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _enter_sample(request, folder, report.write_end, stderr.write_end)
                _write_all(_REPORT_DESCRIPTOR, _READY)
                _write_all(_REPORT_DESCRIPTOR, _run(request["candidate"], request["tests"], token))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)  # whatever went wrong above, a child never returns into the server's loop
        os.close(report.write_end)
        os.close(stderr.write_end)
        end = _supervise(pid, report, stderr, wakeup, request["wall_s"])
    finally:
        os.close(report.read_end)
        os.close(stderr.read_end)
        shutil.rmtree(folder, ignore_errors=True)
    status, message = _verdict(end, report.data, token, request)
    return {
        "status": status,
        "message": message[:_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode(),
        "wall_time_s": time.monotonic() - start,
        "cpu_time_s": end.cpu_time_s,
        "stderr_tail": stderr.data.decode("utf-8", "replace"),
    }


def _supervise(pid: int, report: _Pipe, stderr: _Pipe, wakeup: int, wall_s: float) -> _End:
    """Drain the child's pipes until it ends or its time is up, then kill all that it has started."""
    pipes = {report.read_end: report, stderr.read_end: stderr}
    poller = select.poll()
    for descriptor in (0, wakeup, *pipes):
        poller.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + wall_s
    reaped, wait_status = 0, 0
    try:
        while not reaped and (remaining_s := deadline - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(math.ceil(remaining_s * 1000)):
                if descriptor == 0:
                    raise _HarnessGone
                if descriptor == wakeup:
                    os.read(wakeup, 512)
                elif not pipes[descriptor].drain():
                    poller.unregister(descriptor)
            reaped, wait_status, usage = os.wait4(pid, os.WNOHANG)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if not reaped:
            os.kill(pid, signal.SIGKILL)  # it may not have made its own group yet
            _, _, usage = os.wait4(pid, 0)
        _kill_descendants()
    for pipe in pipes.values():
        while pipe.drain():
            pass
    return _End(wait_status if reaped else None, usage.ru_utime + usage.ru_stime)


def _kill_descendants() -> None:
    """Kill what left the child's process group. As a subreaper this process inherits every orphan below it."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                for pid in _children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    children = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                # The command name, in parentheses, may itself contain spaces and parentheses.
                fields = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == os.getpid():
                    children.append(int(entry))
    return children


def _verdict(end: _End, report: bytes, token: bytes, request: dict[str, typing.Any]) -> tuple[str, str]:
    """The status and a sentence. Only the exact token passes; what else the child reports is hearsay."""
    limit = f"{request['cpu_s']:g} s of CPU time"
    if end.wait_status is None:
        return "timeout", f"timed out: still running after {request['wall_s']:g} s (used {end.cpu_time_s:.1f} s of CPU)"
    signal_number = os.WTERMSIG(end.wait_status) if os.WIFSIGNALED(end.wait_status) else 0
    if signal_number == signal.SIGXCPU or end.cpu_time_s > request["cpu_s"]:
        return "timeout", f"timed out: more than {limit}"
    if signal_number == signal.SIGKILL:
        return "memory", "killed by SIGKILL, as the system does when memory runs out"
    if signal_number:
        return "failed", f"failed: killed by signal {signal_number} ({signal.strsignal(signal_number)})"
    if not report.startswith(_READY):
        return "infrastructure_error", "not judged: the sample's process could not be set up"
    report = report.removeprefix(_READY)
    if report == token:
        return "passed", "passed"
    if not report:
        code = os.WEXITSTATUS(end.wait_status)
        return "failed", f"failed: the program ended with exit code {code} before its tests did"
    try:
        status, message = json.loads(report)
    except (ValueError, TypeError):
        status, message = "", ""
    if status in ("failed", "syntax_error", "memory") and isinstance(message, str):
        return status, message
    return "cheating_refused", "refused: the program wrote to the channel of the verdict"


def _enter_sample(request: dict[str, typing.Any], folder: str, report_end: int, stderr_end: int) -> None:
    """Turn a fresh fork into the process of one sample: own session, no inherited files, private folder, limits."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(stderr_end, 2)
    os.dup2(report_end, _REPORT_DESCRIPTOR, inheritable=False)
    os.closerange(_REPORT_DESCRIPTOR + 1, 256)
    # New objects, since the old ones remember whether the server's own files could seek.
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    random.seed(0)
    cpu_s = math.ceil(request["cpu_s"])
    _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _limit(resource.RLIMIT_AS, request["memory_mib"] << 20)
    _limit(resource.RLIMIT_FSIZE, request["file_bytes"])
    _limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    # A container may have set a lower limit already, and macOS refuses some of these: never a crash.
    _, ceiling = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, hard))


def _run(candidate: str, tests: str, token: bytes) -> bytes:
    """The token if the tests run to their end after the candidate, otherwise a report of what went wrong."""
    module = types.ModuleType("candidate")  # dataclasses and typing look the defining module up by name
    sys.modules["candidate"] = module
    try:
        # Compiled apart from the tests, so that an open quote or bracket cannot swallow them.
        code = compile(candidate, "<candidate>", "exec", dont_inherit=True)
    except MemoryError:
        return _report("memory", "MemoryError while compiling")
    except Exception as error:
        return _report("syntax_error", f"syntax error: {_describe(error)}")
    try:
        exec(code, module.__dict__)
        exec(compile(tests, "<tests>", "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        return _report("memory", "out of memory")
    except BaseException as error:
        with contextlib.suppress(BaseException):
            traceback.print_exc(limit=-5)
        return _report("failed", f"failed: {_describe(error)}")
    return token


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except BaseException:  # the candidate's own exception classes may do anything here
        text = ""
    return f"{name}: {text}"[:_MESSAGE_CHARACTERS] if text else name


def _report(status: str, message: str) -> bytes:
    return json.dumps([status, message]).encode()


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError):  # Linux only
        _LIBC.prctl(option, value, 0, 0, 0)


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            raise _HarnessGone
        data += chunk
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
