"""System calls that no sample needs: each must be refused before the kernel looks at its arguments."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_REFUSED = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def attempt(number, *arguments):
    found = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    error = ctypes.get_errno()
    if found >= 0 or error not in (1, 38): effect(f'system call {number} reached the kernel: {found}, error {error}')
"""


def _calls(name: str, *attempts: tuple[int, ...], opened_by: tuple[str, ...] = ()) -> Attack:
    lines = "".join(f"attempt{arguments if len(arguments) > 1 else f'({arguments[0]})'}\n" for arguments in attempts)
    return Attack("kernel", name, _REFUSED + lines, opened_by=opened_by)


def _python(name: str, source: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return Attack("kernel", name, f"{_REFUSED}import os\n{source}\n", opened_by=opened_by)


_SECCOMP = ("seccomp",)

# Arguments are such that even a kernel that got them would refuse them or do nothing.
ATTACKS = (
    _calls("io_uring", (425, 1, 0), (426, -1, 0, 0, 0), (427, -1, 0, 0, 0), opened_by=_SECCOMP),
    _calls("asynchronous input and output", (206, 0, 0), (209, 0, 0, 0), opened_by=_SECCOMP),
    _calls("bpf", (321, 0, 0, 0), opened_by=("seccomp",)),
    _calls("keys", (248, 0, 0, 0, 0, 0), (249, 0, 0, 0, 0), (250, 0, -3, 0), opened_by=_SECCOMP),
    _calls("userfaultfd", (323, 1), opened_by=_SECCOMP),
    _calls("perf_event_open", (298, 0, 0, -1, -1, 0), opened_by=_SECCOMP),
    _calls("namespaces", (272, 0x10000000), (272, 0), (308, -1, 0), opened_by=_SECCOMP),
    _calls(
        "mounts", (165, 0, 0, 0, 0, 0), (166, 0, 0), (155, 0, 0), (428, -100, 0, 0), (430, 0, 0), (442, 0, 0, 0, 0, 0)
    ),
    _calls(
        "prctl",
        (157, 3),
        (157, 4, 1),
        (157, 38, 0),
        (157, 15, 0),
        (157, 0x59616D61, -1),
        (157, 1, 0),
        (157, 36, 0),
        opened_by=_SECCOMP,
    ),
    _calls("more filters", (317, 99, 0, 0), (157, 22, 1), (444, 0, 0, 1), (446, -1, 0), opened_by=_SECCOMP),
    _calls("capabilities", (125, 0, 0), (126, 0, 0), opened_by=_SECCOMP),
    _calls(
        "user and group",
        (105, 0),
        (106, 0),
        (113, 0, 0),
        (114, 0, 0),
        (117, 0, 0, 0),
        (119, 0, 0, 0),
        (116, 0, 0),
        (122, 0),
        opened_by=_SECCOMP,
    ),
    _calls("clocks", (227, 0, 0), (164, 0, 0), (159, 0), (305, 0, 0), opened_by=_SECCOMP),
    _calls("names of the machine", (170, 0, -1), (171, 0, -1)),
    _calls("restarting", (169, 0, 0, 0, 0), (246, 0, 0, 0, 0), (320, -1, -1, 0, 0, -1)),
    _calls("modules of the kernel", (175, 0, 0, 0), (313, -1, 0, -1), (176, 0, 0)),
    _calls("swap, accounting and quotas", (167, 0, 0), (168, 0), (163, -1), (179, -1, 0, 0, 0)),
    _calls("ports", (172, 3), (173, 0, 1, 1)),
    _calls("the local descriptor table and other personalities", (154, 0, 0, 0), (135, 0), opened_by=_SECCOMP),
    _calls("watches on files", (253,), (294, 0), (300, 0, 0), opened_by=_SECCOMP),
    _calls("shared memory of System V", (29, 0, 4096, 0o1600), (30, -1, 0, 0), (31, -1, 0, 0), opened_by=_SECCOMP),
    _calls("messages of System V", (68, 0, 0o1600), (69, -1, 0, 0, 0), (71, -1, 0, 0), opened_by=_SECCOMP),
    _calls("semaphores of System V", (64, 0, 1, 0o1600), (65, -1, 0, 0), (66, -1, 0, 0, 0), opened_by=_SECCOMP),
    _calls("message queues of POSIX", (240, 0, 0, 0, 0), (241, 0), opened_by=_SECCOMP),
    _calls("files in memory", (319, 0, 0), (447, 0), opened_by=_SECCOMP),
    # 2 is allowed: the timer of a call's own CPU time, which is not the sample's (`resources`).
    _calls(
        "timers", (38, 0, 0, 0), (38, 1, 0, 0), (38, -1, 0, 0), (37, 0), (222, 0, 0, 0), (283, 0, 0), opened_by=_SECCOMP
    ),
    _calls(
        "signals",
        (62, 0, 0),
        (200, 0, 0),
        (234, 0, 0, 0),
        (129, 0, 0, 0),
        (297, 0, 0, 0, 0),
        (424, -1, 0, 0, 0),
        (282, -1, 0, 8),
        opened_by=_SECCOMP,
    ),
    _calls(
        "other processes",
        (101, 0xFFFF, 0, 0, 0),
        (310, 0, 0, 0, 0, 0, 0),
        (311, 0, 0, 0, 0, 0, 0),
        (312, 0, 0, 99, 0, 0),
        (434, -1, 0),
        (438, -1, -1, 0),
        (440, -1, 0, 0, 0, 0),
        (448, -1, 0),
        opened_by=_SECCOMP,
    ),
    _calls(
        "memory of other nodes", (237, 0, 0, 0, 0, 0, 0), (238, 0, 0, 0), (256, 0, 0, 0, 0), (279, 0, 0, 0, 0, 0, 0)
    ),
    _calls("locked memory", (149, 0, 0), (151, 0), (325, 0, 0, 0), opened_by=_SECCOMP),
    _calls(
        "handles and attributes of files",
        (303, -100, 0, 0, 0, 0),
        (304, -1, 0, 0),
        (188, 0, 0, 0, 0, 0),
        (191, 0, 0, 0, 0),
        (463, -100, 0, 0, 0, 0, 0),
        opened_by=("seccomp",),
    ),
    _calls(
        "owners and rights of files",
        (92, 0, 0, 0),
        (93, -1, 0, 0),
        (94, 0, 0, 0),
        (260, -100, 0, 0, 0, 0),
        (90, 0, 0),
        (91, -1, 0),
        (268, -100, 0, 0),
        (452, -100, 0, 0, 0),
        (280, -1, 0, 0, 0),
        opened_by=("seccomp",),
    ),
    _calls(
        "pipes without copying",
        (278, -1, 0, 0, 0),
        (275, -1, 0, -1, 0, 0, 0),
        (276, -1, -1, 0, 0),
        opened_by=("seccomp",),
    ),
    _calls("room on the disk", (285, -1, 0, 0, 0), (187, -1, 0, 0), (162,), (306, -1), opened_by=_SECCOMP),
    _calls("running programs", (59, 0, 0, 0), (322, -1, 0, 0, 0, 0), opened_by=("seccomp",)),
    _calls("numbers that no call has", (1000,), (335,), (-1,), (511,)),
    _calls(
        "the other numbering of this machine (x32)", (0x40000000 + 39,), (0x40000000 + 57,), (0x40000000 + 41, 2, 1, 0)
    ),
    _python(
        "the 32-bit entry to the kernel",
        """
import mmap
code = bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3])  # getpid in the numbering of 32-bit programs
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
effect(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
""",
        _SECCOMP,
    ),
    _python(
        "typing into a terminal",
        "import fcntl\nfor n in (0, 1, 2, 3):\n    try: fcntl.ioctl(n, 0x5412, b'x')\n"
        "    except OSError as error:\n        if error.errno != 1: effect(f'TIOCSTI reached the kernel: {error}')\n",
        _SECCOMP,
    ),
    _python(
        "owners by ioctl",
        "import fcntl, struct\nfor command in (0x8901, 0x8902, 0x5452, 0x5422, 0x540E, 0xC0189436):\n"
        "    try: fcntl.ioctl(3, command, struct.pack('Q', 0))\n"
        "    except OSError as error:\n"
        "        if error.errno != 1: effect(f'{command:#x} reached the kernel: {error}')\n"
        "    else: effect(f'{command:#x}')\n",
        _SECCOMP,
    ),
    _python(
        "raising its own limits",
        "import resource\n"
        "for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):\n"
        "    soft, hard = resource.getrlimit(kind)\n    try: resource.setrlimit(kind, (hard + 1, hard + 1))\n"
        "    except (OSError, ValueError): continue\n    effect(f'limit {kind} is higher')\n",
    ),
    _python(
        "reading privileges that root has",
        "status = [os.access(path, os.W_OK) for path in ('/etc/shadow', '/')]\n"
        "try: os.setgroups([])\nexcept OSError: pass\nelse: effect('groups')\n",
    ),
    _python(
        "threads that are processes",
        "attempt(56, 0x10000, 0, 0, 0, 0) if False else None\n"
        "found = libc.syscall(ctypes.c_long(56), ctypes.c_long(0x10000 | 0x10000000), 0, 0, 0, 0)\n"
        "if found >= 0: effect('a thread in a namespace')\n",
    ),
)
