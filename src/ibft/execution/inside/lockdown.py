"""Locking a process down: Landlock, seccomp, capabilities and resource limits, through ctypes alone.

Landlock (kernel 5.13 or later) decides which files exist for the process, seccomp which system calls. Both only ever
take away, need no privilege, and hold for root too. What a filter refuses fails with EPERM, so that a library that
probes for something optional continues without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import platform
import resource
import signal
import struct
from collections.abc import Iterable

__all__ = [
    "FILTERED_MACHINES",
    "Filter",
    "adopt_orphans",
    "build_filter",
    "build_ruleset",
    "capped",
    "confine",
    "die_with_parent",
    "drop_privileges",
    "forbid_new_privileges",
    "keeps_signals_in",
    "landlock_abi",
    "limit_all",
    "limit_child",
    "limit_children",
]

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_OPEN_FILES = 64

# --- Landlock: https://docs.kernel.org/userspace-api/landlock.html; the numbers are the same on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_WRITE_RIGHTS = sum(1 << bit for bit in (1, 4, 5, 7, 8, 13, 14))  # write, remove, make folder and file, move, truncate
_NUM_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # 5 and later: 16, with ioctl on devices

# --- seccomp
_SECCOMP_SET_MODE_FILTER = 1
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_ARGUMENTS = (16, 24, 32)  # offsets of the first arguments' lower halves in a filter's input

# The calls of a Python program that computes and handles files of its own: no processes and no threads (nothing else
# would bound their number for root), no sockets but pairs, no signals to others, no change of modes or times, which
# Landlock does not govern. Numbers: the kernel's asm/unistd_64.h and asm-generic/unistd.h.
_COMPUTING = {
    "x86_64": """
    read=0 write=1 close=3 fstat=5 newfstatat=262 stat=4 lstat=6 statx=332 lseek=8 mmap=9 mprotect=10 munmap=11
    brk=12 mremap=25 madvise=28 rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 rt_sigtimedwait=128
    sigaltstack=131 restart_syscall=219 ioctl=16 pread64=17 pwrite64=18 readv=19 writev=20 access=21
    faccessat=269 faccessat2=439 pipe=22 pipe2=293 select=23 pselect6=270 poll=7 ppoll=271 epoll_create=213
    epoll_create1=291 epoll_ctl=233 epoll_wait=232 epoll_pwait=281 eventfd2=290 sched_yield=24 dup=32 dup2=33
    dup3=292 nanosleep=35 clock_nanosleep=230 clock_gettime=228 clock_getres=229 gettimeofday=96 time=201
    times=100 getrusage=98 getrlimit=97 prlimit64=302 getpid=39 getppid=110 gettid=186 getuid=102 geteuid=107
    getgid=104 getegid=108 getgroups=115 getpgrp=111 getpgid=121 getsid=124 getpriority=140 getitimer=36
    setitimer=38
    socketpair=53 sendto=44 recvfrom=45 sendmsg=46 recvmsg=47 shutdown=48 getsockopt=55 getsockname=51
    getpeername=52 exit=60 exit_group=231 set_tid_address=218 set_robust_list=273 rseq=334 futex=202
    arch_prctl=158 membarrier=324 sched_getaffinity=204 sched_getscheduler=145 sched_getparam=143 uname=63
    sysinfo=99 fcntl=72 flock=73 fsync=74 fdatasync=75 ftruncate=77 getdents64=217 getcwd=79 chdir=80 fchdir=81
    rename=82 renameat=264 renameat2=316 mkdir=83 mkdirat=258 rmdir=84 unlink=87 unlinkat=263 open=2 openat=257
    creat=85 readlink=89 readlinkat=267 umask=95 statfs=137 fstatfs=138 getrandom=318 copy_file_range=326
    sendfile=40 fadvise64=221
    """,
    "aarch64": """
    read=63 write=64 close=57 fstat=80 newfstatat=79 statx=291 lseek=62 mmap=222 mprotect=226 munmap=215 brk=214
    mremap=216 madvise=233 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 rt_sigtimedwait=137
    sigaltstack=132 restart_syscall=128 ioctl=29 pread64=67 pwrite64=68 readv=65 writev=66 faccessat=48
    faccessat2=439 pipe2=59 pselect6=72 ppoll=73 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 eventfd2=19
    sched_yield=124 dup=23 dup3=24 nanosleep=101 clock_nanosleep=115 clock_gettime=113 clock_getres=114
    gettimeofday=169 times=153 getrusage=165 getrlimit=163 prlimit64=261 getpid=172 getppid=173 gettid=178
    getuid=174 geteuid=175 getgid=176 getegid=177 getgroups=158 getpgid=155 getsid=156 getpriority=141
    getitimer=102 setitimer=103 socketpair=199 sendto=206 recvfrom=207 sendmsg=211 recvmsg=212 shutdown=210
    getsockopt=209 getsockname=204 getpeername=205 exit=93 exit_group=94 set_tid_address=96 set_robust_list=99
    rseq=293 futex=98 membarrier=283 sched_getaffinity=123 sched_getscheduler=120 sched_getparam=121 uname=160
    sysinfo=179 fcntl=25 flock=32 fsync=82 fdatasync=83 ftruncate=46 getdents64=61 getcwd=17 chdir=49 fchdir=50
    renameat=38 renameat2=276 mkdirat=34 unlinkat=35 openat=56 readlinkat=78 umask=166 statfs=43 fstatfs=44
    getrandom=278 copy_file_range=285 sendfile=71 fadvise64=223
    """,
}
# In addition, for a compiler and a simulator, which start one another. The first alone is for what a compiler has made,
# the second alone for what may start processes (with links, by which locks between them are made).
_BECOMING_A_PROGRAM = {
    "x86_64": "execve=59 execveat=322 symlink=88",
    "aarch64": "execve=221 execveat=281",
}
_STARTING_PROCESSES = {
    "x86_64": "clone=56 fork=57 vfork=58 wait4=61 waitid=247 setpgid=109 setsid=112 link=86 linkat=265",
    "aarch64": "clone=220 wait4=260 waitid=95 setpgid=154 setsid=157 linkat=37",
}
_SIGNALLING = {"x86_64": "kill=62 tgkill=234", "aarch64": "kill=129 tgkill=131"}
_CLONE3 = 435
_ITIMER_PROF = 2
_NAMESPACES = 0x7E020000  # the flags of clone that make a namespace
_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal, how wide, bytes waiting, flags
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # duplicate, flags, locks; nothing that has signals sent
_SOCKET_TYPE_MASK, _SOCK_STREAM = 0xF, 1  # datagram pairs could be sent from to any socket that has a path
_ACCESS_MODE_MASK, _O_TRUNC = 0x3, 0x200  # Landlock before version 3 lets a file that is opened to read be emptied
FILTERED_MACHINES = frozenset(_COMPUTING)
"""Machine types that the system call filter knows."""


def landlock_abi() -> int:
    """Return the kernel's Landlock version; 0 where it has none or it is switched off."""
    return max(0, int(_LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)))


def keeps_signals_in() -> bool:
    """Decide whether no process under a ruleset can signal one outside of it (Landlock version 6, Linux 6.12)."""
    return landlock_abi() >= 6


def build_ruleset(readable: Iterable[str], writable: Iterable[str], executable: Iterable[str] = ()) -> int:
    """Return a Landlock ruleset as a descriptor, for `confine`: everything that is not named is refused.

    Args:
        readable: files and folders (with all below) to read.
        writable: folders in which files and folders may be made, written and removed.
        executable: files and folders whose programs may be run; also readable.

    Raises:
        OSError: the kernel has no Landlock.
    """
    abi = landlock_abi()
    handled = (1 << _NUM_RIGHTS_BY_ABI.get(abi, 16)) - 1  # an older kernel refuses a ruleset with rights it lacks
    if abi >= 6:  # no TCP (4), no abstract sockets and no signals outside (6)
        attributes = struct.pack("QQQ", handled, 0b11, 0b11)
    elif abi >= 4:
        attributes = struct.pack("QQ", handled, 0b11)
    else:
        attributes = struct.pack("Q", handled)
    ruleset = _check(_LIBC.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    for paths, rights in (
        (readable, _READ_FILE | _READ_DIR),
        (executable, _EXECUTE | _READ_FILE | _READ_DIR),
        (writable, _READ_FILE | _READ_DIR | _WRITE_RIGHTS),
    ):
        for path in paths:
            _add_rule(ruleset, path, rights & handled)
    return ruleset


def _add_rule(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS  # the kernel refuses a rule on a file with rights that only folders have
            if not path.startswith("/dev/"):
                rights &= ~_WRITE_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        _check(_LIBC.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0))
    finally:
        os.close(descriptor)


def build_filter(*, programs: bool = False, processes: bool = False, signals: bool = False) -> Filter:
    """Return a seccomp program for this machine.

    Args:
        programs: the process may become another program.
        processes: processes and threads may be started; only where something else bounds their number.
        signals: processes may be sent signals; only where Landlock keeps them in (`keeps_signals_in`).

    Raises:
        KeyError: this machine's system calls are not known here (see `FILTERED_MACHINES`).
    """
    machine = platform.machine()
    numbers = _numbers(_COMPUTING[machine])
    if programs:
        numbers |= _numbers(_BECOMING_A_PROGRAM[machine])
    if processes:
        numbers |= _numbers(_STARTING_PROCESSES[machine])
    if signals:
        numbers |= _numbers(_SIGNALLING[machine])
    program = [
        # The architecture first: at the 32-bit entry to the kernel the same numbers are other calls. x32, the third
        # numbering of x86_64, needs no such test: its numbers have a bit that none of the list has.
        _instruction(_LOAD, 4),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, 0),
    ]
    program += _when(numbers.pop("ioctl"), _allow_if_equal(1, _IOCTLS))
    program += _when(numbers.pop("fcntl"), _allow_if_equal(1, _FCNTLS))
    program += _when(numbers.pop("prlimit64"), _allow_if_equal(0, (0,)))  # 0: of this process itself
    program += _when(numbers.pop("setitimer"), _allow_if_equal(0, (_ITIMER_PROF,)))  # CPU time: no program waits for it
    program += _when(numbers.pop("socketpair"), _allow_if_equal(1, (_SOCK_STREAM,), mask=_SOCKET_TYPE_MASK))
    for name, argument in (("open", 1), ("openat", 2)):
        if name in numbers:
            program += _when(numbers.pop(name), _allow_unless_emptied(argument))
    if processes:
        program += _when(numbers.pop("clone"), _allow_if_equal(0, (0,), mask=_NAMESPACES))
    # A filter cannot see the flags of clone3. Told that there is none, libraries use clone.
    program += [_instruction(_JUMP_EQUAL, _CLONE3, 0, 1), _instruction(_RETURN, _ENOSYS)]
    for number in numbers.values():
        program += [_instruction(_JUMP_EQUAL, number, 0, 1), _PASS]
    program.append(_REFUSE)
    return Filter(b"".join(program))


def _numbers(table: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (entry.partition("=") for entry in table.split())}


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


_PASS = _instruction(_RETURN, _ALLOW)
_REFUSE = _instruction(_RETURN, _EPERM)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """Return `then` and a refusal, for one system call; the others jump over it."""
    return [_instruction(_JUMP_EQUAL, number, 0, len(then) + 1), *then, _REFUSE]


def _allow_if_equal(argument: int, values: Iterable[int], mask: int | None = None) -> list[bytes]:
    masked = [] if mask is None else [_instruction(_AND, mask)]
    tests = [part for value in values for part in (_instruction(_JUMP_EQUAL, value, 0, 1), _PASS)]
    return [_instruction(_LOAD, _ARGUMENTS[argument]), *masked, *tests]


def _allow_unless_emptied(argument: int) -> list[bytes]:
    """Allow opening a file, but not to read it and empty it at once."""
    return [
        _instruction(_LOAD, _ARGUMENTS[argument]),
        _instruction(_JUMP_ANY_BIT, _O_TRUNC, 1, 0),
        _PASS,
        _instruction(_AND, _ACCESS_MODE_MASK),
        _instruction(_JUMP_EQUAL, 0, 1, 0),
        _PASS,
    ]


def confine(ruleset: int) -> None:
    """Apply a Landlock ruleset to this process and all that it starts, for good.

    Raises:
        OSError: the kernel refused.
    """
    forbid_new_privileges()
    _check(_LIBC.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def forbid_new_privileges() -> None:
    """Let no program that this process starts gain privileges (a set-user-id one would)."""
    # Landlock and seccomp ask for this first, unless the process is root's.
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


die_with_parent = functools.partial(_LIBC.prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
"""Have the kernel kill this process when its parent ends; the filters let nobody undo it."""


class Filter:
    """A seccomp program that is ready to be applied: a child that was just forked should do as little as it can."""

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: the number of instructions, and where they are.
        fields = struct.pack("@HP", len(program) // 8, ctypes.addressof(self._program))
        self._fields = ctypes.create_string_buffer(fields, len(fields))
        self._call = functools.partial(
            _LIBC.syscall, _SECCOMP[platform.machine()], _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(self._fields)
        )

    def apply(self) -> None:
        """Filter this process's system calls, for good.

        Raises:
            OSError: the kernel refused: nothing untrusted may run in this process.
        """
        _check(self._call())


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent ends, so that none can get away."""
    _check(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def drop_privileges() -> None:
    """Give up every capability, so that being root means nothing but a user id; hide memory from other processes."""
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # they would come back with the next program
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_LIBC.capset(header, bytes(24)))
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit_all() -> None:
    """Set the limits of this process and of all that it starts: few open files, no core dumps."""
    _limit(0, resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _limit(0, resource.RLIMIT_CORE, 0)


def limit_children(memory_mib: int, file_bytes: int) -> None:
    """Set the limits that children start with. This process may raise them again for the next child."""
    for kind, value in ((resource.RLIMIT_AS, memory_mib << 20), (resource.RLIMIT_FSIZE, file_bytes)):
        _, ceiling = resource.getrlimit(kind)
        resource.setrlimit(kind, (capped(value, ceiling), ceiling))  # a child could raise it too: see `limit_child`


def limit_child(pid: int, cpu_s: float, memory_mib: int, file_bytes: int) -> None:
    """Set a child's limits for good, and so those of what it starts."""
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        # In whole seconds: the server counts a child's own time exactly, and this is for what a child starts.
        _limit(pid, resource.RLIMIT_CPU, math.floor(cpu_s) + 1)
        _limit(pid, resource.RLIMIT_AS, memory_mib << 20)
        _limit(pid, resource.RLIMIT_FSIZE, file_bytes)


def capped(value: int, ceiling: int) -> int:
    """Return a resource limit that may be set: a container may have set a lower one already."""
    return value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)


def _limit(pid: int, kind: int, value: int) -> None:
    _, ceiling = resource.prlimit(pid, kind)
    # At the first the kernel warns of CPU time, by a signal of its own, and a second later it kills.
    least, most = capped(value, ceiling), capped(value + (kind == resource.RLIMIT_CPU), ceiling)
    resource.prlimit(pid, kind, (least, most))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
