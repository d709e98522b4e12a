"""Where untrusted programs run: the boundary between the judge and the code it judges.

The judge knows `Sandbox` only: a program and its limits go in, an outcome comes out. A stronger sandbox takes
the place of `ProcessSandbox` without a change to the judge.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

import msgspec

from ibft.rows import Status

__all__ = ["Limits", "Outcome", "ProcessSandbox", "Program", "Sandbox"]

_ANSWER_GRACE_S = 30.0


class Program(msgspec.Struct, frozen=True):
    """What to run: the candidate, then the tests in its namespace. The tests raise where it is wrong."""

    candidate: str
    tests: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may use. CPU time decides, so that load does not; `wall_s` ends what only waits."""

    cpu_s: float
    wall_s: float
    memory_mib: int
    file_bytes: int = 1 << 20


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one program. `message` is a sentence, `stderr_tail` the last 4 KiB of what it wrote there."""

    status: Status
    message: str
    wall_time_s: float = 0.0
    cpu_time_s: float = 0.0
    stderr_tail: str = ""


class Sandbox(Protocol):
    """Runs one program at a time. Each worker has its own; `close` may come from another thread."""

    @property
    def level(self) -> str:
        """The isolation reached, as one word for the results."""

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run a program to its outcome. What goes wrong in the sandbox itself is `infrastructure_error`."""

    def close(self) -> None:
        """End a running program and free everything. Later calls of `run` fail."""


class ProcessSandbox:
    """A limited process for each sample, forked from a small server (`zygote.py`). Level "process".

    What each sample gets: limits on CPU time, address space, file size, open files and core dumps; its own
    session; a private working folder, removed afterwards; no input; an environment with nothing of the
    user's; the last 4 KiB of stderr kept and all other output dropped. Every process it started is killed
    when it ends, also one that became a daemon (Linux). A pass needs a random token, new for each sample,
    written to a pipe after the last test: exit codes, printed text and an early exit prove nothing.

    What this does NOT stop. The program runs as the user who started the judge:
    - it reads whatever files that user can read and writes wherever that user may write (1 MiB a file);
    - it uses the network, loopback included, and can signal any of that user's processes, the judge too;
    - it can start processes without end (each with its own CPU limit) until the wall-clock limit, and
      together they can hold more memory than one may; files can fill the disk;
    - a program that means to cheat can. Candidate and tests share one interpreter, so it can find the token
      (frames, gc, its own memory), patch builtins, return objects that equal everything, read the expected
      values, or answer in the server's place (/proc). What is stopped is the accidental pass and the lazy cheat.
    Judge samples of models you have reason to trust, or run the whole judge in a container.
    """

    level = "process"

    def __init__(self) -> None:
        self._zygote: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()  # between `run`'s start of a server and a `close` from another thread
        self._errors = tempfile.TemporaryFile()
        self._scratch = ""

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run a program; the server is started if need be, and given up after a failure of its own."""
        try:
            zygote = self._started()
            request = msgspec.json.encode({**msgspec.structs.asdict(program), **msgspec.structs.asdict(limits)})
            assert zygote.stdin is not None
            zygote.stdin.write(struct.pack("!I", len(request)) + request)
            deadline = time.monotonic() + limits.wall_s + _ANSWER_GRACE_S
            (size,) = struct.unpack("!I", _read(zygote, 4, deadline))
            return msgspec.json.decode(_read(zygote, size, deadline), type=Outcome)
        except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
            self._stop()
            return Outcome(status="infrastructure_error", message=f"not judged: {error}{self._last_error()}")

    def close(self) -> None:
        """End a running program and the server."""
        self._closed = True
        self._stop()
        self._errors.close()

    def __enter__(self) -> ProcessSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise EOFError("the judge is ending")
            if self._zygote is None:
                self._scratch = tempfile.mkdtemp(prefix="ibft-judge-")
                self._zygote = subprocess.Popen(
                    [
                        sys.executable,
                        "-s",
                        "-X",
                        "utf8",
                        str(Path(__file__).with_name("zygote.py")),
                        self._scratch,
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    bufsize=0,
                    cwd="/",
                    # A fixed hash seed: no verdict may depend on the order of a set of strings. One thread:
                    # numerical libraries reserve memory for each, which counts against the limit.
                    env={
                        "PYTHONHASHSEED": "0",
                        "PYTHONDONTWRITEBYTECODE": "1",
                        "OMP_NUM_THREADS": "1",
                        "OPENBLAS_NUM_THREADS": "1",
                    },
                    start_new_session=True,
                )
            return self._zygote

    def _stop(self) -> None:
        with self._lock:
            zygote, self._zygote = self._zygote, None
        if zygote is None:
            return
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        with contextlib.suppress(OSError):
            zygote.stdin.close()  # the server kills its sample, removes its folder and leaves
        try:
            zygote.wait(timeout=5)
        except subprocess.TimeoutExpired:
            zygote.kill()
            zygote.wait()
        zygote.stdout.close()
        shutil.rmtree(self._scratch, ignore_errors=True)  # the server removes it, unless it was killed

    def _last_error(self) -> str:
        try:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        except ValueError:  # closed meanwhile
            return ""
        return f" ({lines[-1]})" if lines else ""


def _read(process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    """Read exactly `size` bytes of the server's answer.

    Raises:
        EOFError: the server is gone.
        TimeoutError: the deadline (of `time.monotonic`) has passed.
    """
    assert process.stdout is not None
    data = b""
    while len(data) < size:
        poller = select.poll()  # select() fails on descriptors above 1023
        poller.register(process.stdout, select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("the sandbox's server gave no answer")
        chunk = os.read(process.stdout.fileno(), size - len(data))
        if not chunk:
            raise EOFError("the sandbox's server died")
        data += chunk
    return data
