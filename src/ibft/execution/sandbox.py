"""Where untrusted programs run. The judge gives a program and its limits, and gets values and an end, nothing else.

One long-lived server (`inside/zygote.py`) per worker forks a child for each sample. At the levels bubblewrap and
landlock (`isolation.py`) the child sees the interpreter's own files and an empty work folder; has no environment,
input, network, capabilities or other processes; cannot start processes or threads; and its CPU time, memory, files and
channel are bounded.

What this does NOT stop. A hole in the kernel. Timing: a sample can measure how busy the machine is. A sample can return
values that keep the judge's own process busy (until the wall-clock limit). At level landlock: filling the disk with
1 MiB files until its CPU time is up, and reading the names of processes and mounts. At level none: everything that the
user who runs the judge may do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ibft.execution.cgroup import MAX_TASKS, Cgroup
from ibft.execution.inside import codec, folder, messages
from ibft.execution.isolation import WORK_FOLDER, Level, executable_paths, readable_paths, server_command
from ibft.execution.packages import find_packages

__all__ = ["CommandResult", "End", "Limits", "PythonProcess", "Sandbox", "SandboxError"]

_DEFENSES = frozenset({"capabilities", "landlock", "seccomp"})
_ANSWER_GRACE_S = 30.0
MAX_OUTPUT_BYTES = 1 << 20
"""Kept of a command's or program's standard output, unless it is asked for more."""


class SandboxError(Exception):
    """The sandbox itself failed: this says nothing about the program in it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may use. CPU time decides, so that load does not; `wall_s` ends a program that only waits.

    `packages` are those that Python programs may import beside the standard library and NumPy. With `threads` a
    program may start threads and processes, which a control group bounds.
    """

    cpu_s: float
    wall_s: float
    memory_mib: int
    file_bytes: int = 1 << 20
    packages: tuple[str, ...] = ()
    threads: bool = False

    def scaled(self, factor: float) -> Limits:
        """Return these limits with so many times the CPU and wall-clock time."""
        return msgspec.structs.replace(self, cpu_s=self.cpu_s * factor, wall_s=self.wall_s * factor)

    def with_files(self, num_bytes: int) -> Limits:
        """Return these limits with files of at least so many bytes."""
        return msgspec.structs.replace(self, file_bytes=max(self.file_bytes, num_bytes))


class End(msgspec.Struct, frozen=True):
    """How a process ended: `exit_code` is negative where a signal ended it, None where the judge did."""

    exit_code: int | None
    cpu_time_s: float
    wall_time_s: float
    timed_out: Literal["", "cpu", "wall"]


class CommandResult(End, frozen=True):
    """How one command or program ended, and the first of its outputs (of `stderr` 64 KiB)."""

    stdout: bytes
    stderr: bytes


class Sandbox:
    """One worker's sandbox. Its server starts when it is first needed and again after a failure of its own.

    Args:
        level: see `isolation.detect_level`.
        tools: programs that `run_commands` will be asked for, by absolute path.
        compiles: the tools make programs, which commands may run then.
        group_memory_mib: samples may start threads and processes, with this much memory together; 0: they may not.
        packages: installed packages that candidates can import; loaded before the first of them.
        scratch: where the samples' files go at levels without a file system of their own; default: the system's.
        without: defenses to leave out. Only the tests of the defenses do.
        on_run: called with the wall-clock limit, in seconds, whenever a program or command is about to run.
    """

    def __init__(
        self,
        level: Level,
        *,
        tools: Sequence[str] = (),
        compiles: bool = False,
        group_memory_mib: int = 0,
        packages: Iterable[str] = (),
        scratch: str | None = None,
        without: Iterable[str] = (),
        on_run: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.level = level
        self._tools, self._compiles = tools, compiles
        self._group_memory_mib = group_memory_mib
        self._group: Cgroup | None = None
        self._packages = find_packages(packages)
        self._scratch = scratch
        self._on_run = on_run
        self._without = sorted(_DEFENSES if level == "none" else without)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder = ""
        self._errors = tempfile.TemporaryFile()  # a pipe that nobody reads could fill, and stop the server

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, unless it runs.

        Raises:
            SandboxError: it does not start.
        """
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.close()
        self._control, theirs = socket.socketpair()  # not a pipe: descriptors have to cross
        if self.level != "bubblewrap":  # there the work folder is in memory
            self._folder = tempfile.mkdtemp(prefix="ibft-judge-", dir=self._scratch)
        try:
            if self._group_memory_mib:
                self._group = Cgroup(self._group_memory_mib)
            with theirs:
                self._process = subprocess.Popen(
                    self._command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    pass_fds=[theirs.fileno(), *(self._group.descriptors if self._group else ())],
                    cwd="/",
                    # A fixed hash seed: no verdict may depend on the order of a set of strings.
                    env={"PYTHONHASHSEED": "0"},
                )
            self._receive(0)
        except (OSError, codec.CodecError) as error:
            raise self._failed(error) from None

    def run_python(self, limits: Limits) -> PythonProcess:
        """Start a candidate's process, which says `SET_UP` and waits for its program; `finish` must follow.

        Raises:
            SandboxError: the server does not start.
        """
        return PythonProcess(self, self._begin({"kind": "python", **msgspec.structs.asdict(limits)}))

    def run_program(
        self, source: str, stdin: str, limits: Limits, max_output_bytes: int = MAX_OUTPUT_BYTES
    ) -> CommandResult:
        """Run a Python program as a script that reads standard input and prints, at most up to `max_output_bytes`.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        request = {"kind": "program", "keep_bytes": max_output_bytes, **msgspec.structs.asdict(limits)}
        with self._begin(request) as channel:
            # Not with the request: later samples inherit the memory of the server, which would have read it.
            try:
                with contextlib.suppress(messages.ChannelClosed):  # it has ended already, and the answer says how
                    messages.send(channel.fileno(), [source, stdin])
            except codec.CodecError as error:  # too large: the child still waits for it
                raise self._failed(error) from None
            answer = self._answer(limits.wall_s)
        return msgspec.convert(answer["results"][0], CommandResult)

    def run_commands(
        self,
        files: Mapping[str, bytes],
        commands: Sequence[Sequence[str]],
        limits: Limits,
        *,
        stdin: bytes = b"",
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        keep_files: bool = False,
    ) -> list[CommandResult]:
        """Write files into an empty folder and run commands there in order, to the first that fails.

        Each reads `stdin` from its beginning. With `keep_files` the folder stays as it is for `run_compiled`.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        # msgspec has bytes as base64, both ways.
        request = msgspec.to_builtins({"files": dict(files), "stdin": stdin, "keep_bytes": max_output_bytes})
        request |= {"kind": "commands", "commands": commands, "keep_files": keep_files}
        answer = self._run(request, limits, limits.wall_s * len(commands))
        return msgspec.convert(answer["results"], list[CommandResult])

    def run_compiled(
        self, name: str, stdin: bytes, limits: Limits, max_output_bytes: int = MAX_OUTPUT_BYTES
    ) -> CommandResult:
        """Run a program that commands have made and kept, under the same rules as a candidate's Python.

        It can read shared libraries and write no file; it starts no process.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        request = msgspec.to_builtins({"stdin": stdin, "keep_bytes": max_output_bytes, "program": f"./{name}"})
        answer = self._run(request | {"kind": "compiled"}, limits, limits.wall_s)
        return msgspec.convert(answer["results"][0], CommandResult)

    def stop(self) -> None:
        """End the program that another thread runs here, and has its answer at once."""
        control = self._control
        if control is not None:
            with contextlib.suppress(OSError, codec.CodecError):
                messages.send(control.fileno(), "end")

    def close(self) -> None:
        """End whatever runs, and the server; remove its folder."""
        if self._control is not None:
            self._control.close()  # the server kills its sample and leaves
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._group is not None:
            self._group.close()
            self._group = None
        if self._folder:
            with contextlib.suppress(OSError):
                folder.empty(self._folder)
                os.rmdir(self._folder)
            self._folder = ""

    def _begin(self, request: Any) -> socket.socket:
        """Have the server start a process; return our end of the channel to it."""
        self.start()
        self._on_run(request["wall_s"])
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                assert self._control is not None
                messages.send_with_descriptor(self._control, request, theirs.fileno())
            except (OSError, codec.CodecError) as error:
                ours.close()
                raise self._failed(error) from None
        return ours

    def _run(self, request: dict[str, Any], limits: Limits, wall_s: float) -> Any:
        self.start()
        self._on_run(wall_s)
        return self._ask(request | msgspec.structs.asdict(limits), wall_s)

    def _ask(self, request: Any, wall_s: float) -> Any:
        assert self._control is not None
        try:
            messages.send(self._control.fileno(), request)
        except (OSError, codec.CodecError) as error:
            raise self._failed(error) from None
        return self._answer(wall_s)

    def _answer(self, wall_s: float) -> Any:
        try:
            return self._receive(wall_s)
        except (OSError, codec.CodecError) as error:
            raise self._failed(error) from None

    def _receive(self, wall_s: float) -> Any:
        assert self._control is not None
        messages.wait(self._control.fileno(), wall_s + _ANSWER_GRACE_S)
        return messages.receive(self._control.fileno())

    def _failed(self, error: Exception) -> SandboxError:
        self.close()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        self._errors.truncate(0)
        return SandboxError(f"{error} ({lines[-1]})" if lines else str(error))

    def _command(self, control: int) -> list[str]:
        settings = {
            "control": control,
            "folder": WORK_FOLDER if self.level == "bubblewrap" else self._folder,
            "readable": readable_paths(self._packages),
            "executable": executable_paths(self._tools),
            "compiles": self._compiles,
            "group": self._group and [self._group.processes, self._group.max_tasks, self._group.cpu_time, MAX_TASKS],
            "packages": self._packages,
            "in_namespace": self.level == "bubblewrap",
            "without": self._without,
        }
        return server_command(self.level, settings)


class PythonProcess:
    """A candidate's process, and our end of the channel to it."""

    def __init__(self, sandbox: Sandbox, channel: socket.socket) -> None:
        self._sandbox = sandbox
        self._channel = channel

    def receive(self) -> Any:
        """Return the next message of the candidate, as plain data.

        Raises:
            ChannelClosed, CodecError: see `inside.codec`.
        """
        return messages.receive(self._channel.fileno(), messages.MAX_ANSWER_BYTES)

    def framed(self, message: Any) -> bytes:
        """Return plain data as it is sent.

        Raises:
            CodecError: it is too large.
        """
        return messages.framed(message, messages.MAX_ANSWER_BYTES)

    def framed_json(self, text: str) -> bytes:
        """Return what is JSON already as it is sent; raises as `framed` does."""
        return messages.framed_json(text, messages.MAX_ANSWER_BYTES)

    def write(self, message: bytes) -> None:
        """Send what `framed` returned.

        Raises:
            ChannelClosed: the candidate is gone.
        """
        messages.write(self._channel.fileno(), message)

    def finish(self, *, is_lost: bool = False) -> End:
        """End the process, whatever it is doing, and return how it ended and what it has used.

        Args:
            is_lost: the channel is closed already: the process gets a moment to end without being killed, to see how.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        self._channel.close()
        return msgspec.convert(self._sandbox._ask("lost" if is_lost else "end", 0), End)
