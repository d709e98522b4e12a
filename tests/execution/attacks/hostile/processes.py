"""Starting processes, and meddling with others."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_CALL = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    found = libc.syscall(ctypes.c_long(number), *arguments)
    if found < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
"""
_SECCOMP = ("seccomp",)


def _start(name: str, source: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return Attack("process", name, f"{_CALL}\n{source}\n", opened_by=opened_by)


_IF_CHILD = "if pid == 0:\n    os._exit(0)\neffect('a process')"

ATTACKS = (
    _start("fork", f"pid = os.fork()\n{_IF_CHILD}", _SECCOMP),
    _start(
        "a daemon",
        "import time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(3)\n    os._exit(0)\n"
        "effect('a daemon')",
        _SECCOMP,
    ),
    _start("vfork", "pid = call(58)\nif pid == 0: call(231, 0)\neffect('a process')"),
    _start("clone", f"pid = call(56, 17, 0, 0, 0, 0)\n{_IF_CHILD}", _SECCOMP),
    _start(
        "clone that shares memory",
        "call(56, 0x100 | 0x4000 | 17, 0, 0, 0, 0)\neffect('a process')",
        opened_by=("seccomp",),
    ),
    _start("clone into a namespace of its own", f"pid = call(56, 0x10000000 | 17, 0, 0, 0, 0)\n{_IF_CHILD}", _SECCOMP),
    _start(
        "clone3",
        f"arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)\npid = call(435, arguments, 88)\n{_IF_CHILD}",
        _SECCOMP,
    ),
    _start("posix_spawn", "os.posix_spawn('/bin/true', ['true'], {})\neffect('a process')"),
    _start("subprocess", "import subprocess\neffect(subprocess.run(['/bin/echo', 'x'], capture_output=True).stdout)"),
    _start("a shell", "if os.system('touch @MARK@') == 0: effect('a shell')"),
    _start("a pipe to a shell", "text = os.popen('echo started').read()\nif text: effect(text)"),
    _start("a terminal of its own", "import pty\npid, _ = pty.fork()\n" + _IF_CHILD),
    _start(
        "multiprocessing",
        "import multiprocessing\nprocess = multiprocessing.Process(target=print)\nprocess.start()\neffect('a process')",
        _SECCOMP,
    ),
    _start("becoming another program", "os.execv('/bin/sh', ['sh', '-c', 'touch @MARK@'])"),
    _start(
        "becoming this interpreter", "import sys\nos.execv(os.path.realpath('/proc/self/exe'), ['python3', '-c', ''])"
    ),
    _start("a program from memory", "descriptor = os.memfd_create('x')\neffect('a file in memory')", _SECCOMP),
    _start(
        "a program in its folder",
        "open('own', 'w').write('#!/bin/sh\\ntouch @MARK@')\nos.chmod('own', 0o700)\nos.execv('own', ['own'])",
    ),
    _start(
        "a program through the loader",
        "import glob\nos.execv(glob.glob('/lib64/ld-linux*')[0], ['ld.so', '/bin/touch', '@MARK@'])",
    ),
    _start("a fork bomb", "for _ in range(5): os.fork()\neffect('processes')", opened_by=("seccomp",)),
    _start("killing the server", "os.kill(os.getppid(), signal.SIGKILL)\neffect('a signal')"),
    _start("killing everything", "os.kill(-1, 0)\neffect('a signal')", opened_by=("seccomp",)),
    _start("killing its group", "os.killpg(0, 0)\neffect('a signal')", _SECCOMP),
    _start("killing a process", "os.kill(@VICTIM@, signal.SIGKILL)"),
    _start("stopping the examiner", "os.kill(@EXAMINER@, 0)\neffect('a signal')"),
    _start("a queued signal", "call(129, @VICTIM@, 9, bytes(128))\neffect('a signal')"),
    _start("a signal to a thread", "call(234, @VICTIM@, @VICTIM@, 9)"),
    _start(
        "a signal through a descriptor of a process",
        "descriptor = os.pidfd_open(@VICTIM@)\neffect('a descriptor of a process')",
        opened_by=("seccomp",),
    ),
    _start(
        "a descriptor of the server",
        "descriptor = os.pidfd_open(os.getppid())\neffect('a descriptor of the server')",
        _SECCOMP,
    ),
    _start(
        "a signal when a socket is ready",
        "import fcntl, socket\na, b = socket.socketpair()\nfor command in (8, 15):\n"
        "    owner = @VICTIM@ if command == 8 else __import__('struct').pack('ii', 1, @VICTIM@)\n"
        "    try:\n        fcntl.fcntl(a, command, owner)\n        fcntl.fcntl(a, 10, 9)\n"
        "        fcntl.fcntl(a, 4, 0o20000 | 0o4000)\n"
        "    except OSError: continue\n    b.send(b'x')\n    effect('an owner for signals')",
        opened_by=("seccomp",),
    ),
    _start("tracing a process", "call(101, 16, @VICTIM@, 0, 0)\neffect('tracing')"),
    _start("tracing the server", "call(101, 16, os.getppid(), 0, 0)\neffect('tracing')"),
    _start("being traced by the server", "call(101, 0, 0, 0, 0)\neffect('tracing')", _SECCOMP),
    _start(
        "reading the examiner's memory",
        "space = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(64)), 64)\n"
        "call(310, @EXAMINER@, space, 1, space, 1, 0)\neffect('memory')",
    ),
    _start(
        "reading the server's memory",
        "buffer = ctypes.create_string_buffer(64)\nspace = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 64)\n"
        "there = (ctypes.c_uint64 * 2)(id(None), 64)\ncall(310, os.getppid(), space, 1, there, 1, 0)\n"
        "effect('memory')",
    ),
    _start(
        "a copy of a descriptor of the examiner", "call(438, call(434, @EXAMINER@, 0), 0, 0)\neffect('a descriptor')"
    ),
    _start("comparing with the server", "call(312, os.getpid(), os.getppid(), 1, 0, 0)\neffect('a comparison')"),
    _start("the priority of a process", "os.setpriority(os.PRIO_PROCESS, @VICTIM@, 19)"),
    _start(
        "the priority of all of the user's",
        "os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_USER, 0))\neffect('a priority')",
    ),
    _start("its own priority", "os.nice(-5)\neffect('a priority')"),
    _start("the processors of a process", "os.sched_setaffinity(@VICTIM@, {0})\neffect('processors')"),
    _start("its own processors", "os.sched_setaffinity(0, os.sched_getaffinity(0))\neffect('processors')", _SECCOMP),
    _start(
        "its own scheduling",
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\neffect('scheduling')",
        _SECCOMP,
    ),
    _start(
        "the limits of a process",
        "import resource\nresource.prlimit(@VICTIM@, resource.RLIMIT_NOFILE, (9, 9))",
        opened_by=("seccomp",),
    ),
    _start(
        "the limits of the server",
        "import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))\neffect('limits')",
    ),
    _start("leaving its session", "os.setpgid(0, 0)\nos.setsid()\neffect('a session')"),
    _start("waiting for others", "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)\neffect('waiting')"),
    _start("the input and output priority", "call(251, 1, 0, 0x6007)\neffect('a priority')", _SECCOMP),
)
