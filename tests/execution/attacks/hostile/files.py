"""Changing files outside of the work folder. What changed is seen on the baits."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]


def _write(name: str, source: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return Attack("file", name, f"import os\n{source}\n", opened_by=opened_by)


ATTACKS = (
    _write("a new file in the home folder", "open('@MARK@', 'w').write('x')", ("landlock",)),
    _write("a new folder in the home folder", "os.mkdir('@MARK@')", ("landlock",)),
    _write("a new file in /tmp", "open('/tmp/@MARK_NAME@', 'w').write('x')", opened_by=("landlock",)),
    _write("a new file in /var/tmp", "open('/var/tmp/@MARK_NAME@', 'w').write('x')", opened_by=("landlock",)),
    _write("a new file in /dev/shm", "open('/dev/shm/@MARK_NAME@', 'w').write('x')", opened_by=("landlock",)),
    _write(
        "shared memory by name",
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory('@MARK_NAME@', True, 99)",
        opened_by=("landlock",),
    ),
    _write("a new file two folders up", "open('../../@MARK_NAME@', 'w').write('x')", opened_by=("landlock",)),
    _write("overwriting a file", "open('@SECRET@', 'w').write('x')", ("landlock",)),
    _write("adding to a file", "open('@SECRET@', 'a').write('x')", ("landlock",)),
    _write("emptying a file by name", "os.truncate('@SECRET@', 0)"),
    _write("emptying a file by opening it", "os.open('@SECRET@', os.O_RDONLY | os.O_TRUNC)"),
    _write("deleting a file", "os.unlink('@SECRET@')", ("landlock",)),
    _write("deleting a folder", "os.rmdir('@HOME@/empty')", ("landlock",)),
    _write("renaming a file", "os.rename('@SECRET@', '@MARK@')", ("landlock",)),
    _write("moving a file out", "open('own', 'w').write('x')\nos.rename('own', '@MARK@')", opened_by=("landlock",)),
    _write("moving a file in", "os.rename('@SECRET@', 'own')\neffect(open('own').read())", opened_by=("landlock",)),
    _write(
        "exchanging two files",
        "import ctypes\nopen('own', 'w').write('x')\nlibc = ctypes.CDLL(None)\n"
        "libc.renameat2(-100, b'own', -100, b'@SECRET@', 2)",
        opened_by=("landlock",),
    ),
    _write("a symbolic link to a file", "os.symlink('@SECRET@', 'link')\nopen('link', 'a').write('x')"),
    _write("a symbolic link outside", "os.symlink('@SECRET@', '@MARK@')"),
    _write("a hard link to a file", "os.link('@SECRET@', 'link')\nopen('link', 'a').write('x')"),
    _write("a hard link outside", "open('own', 'w')\nos.link('own', '@MARK@')"),
    _write("through the root of its own process", "open('/proc/self/root@MARK@', 'w')", ("landlock",)),
    _write(
        "through its own folder's link in /proc",
        "open('/proc/self/cwd/../../@MARK_NAME@', 'w')",
        opened_by=("landlock",),
    ),
    _write("the rights of a file", "os.chmod('@SECRET@', 0o777)", opened_by=("seccomp",)),
    _write("the rights of a file by descriptor", "os.fchmod(os.open('@SECRET@', os.O_RDONLY), 0o777)"),
    _write(
        "the rights of a file by the newest call",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.syscall(452, -100, b'@SECRET@', 0o777, 0)",
        opened_by=("seccomp",),
    ),
    _write(
        "the rights of a readable file of the system",
        "import os.path\n"
        "descriptor, before = os.open(os.__file__, os.O_RDONLY), os.stat(os.__file__).st_mode\n"
        "os.fchmod(descriptor, before & 0o7777)\neffect('the standard library belongs to the sample')",
    ),
    _write("the owner of a file", "os.chown('@SECRET@', 65534, 65534)"),
    _write("the time of a file", "os.utime('@SECRET@', (9, 9))", opened_by=("seccomp",)),
    _write(
        "the time of a file by descriptor",
        "os.utime(os.open(os.__file__, os.O_RDONLY))\neffect('the time of the standard library')",
    ),
    _write(
        "the attributes of a file",
        "os.setxattr('@SECRET@', 'user.mark', b'x')\neffect('an attribute')",
        opened_by=("seccomp",),
    ),
    _write("a named pipe", "os.mkfifo('@MARK@')"),
    _write("a named pipe in its own folder", "os.mkfifo('pipe')\neffect('a pipe')"),
    _write("a socket file", "import socket\nsocket.socket(socket.AF_UNIX).bind('@MARK@')"),
    _write("a device", "os.mknod('disk', 0o60600, os.makedev(8, 0))\neffect('a device')"),
    _write(
        "a copy without reading",
        "open('own', 'w').write('x')\nos.sendfile(os.open('@SECRET@', os.O_WRONLY), os.open('own', 0), 0, 1)",
        opened_by=("landlock",),
    ),
    _write(
        "a file without a name",
        "os.open('@HOME@', os.O_TMPFILE | os.O_RDWR)\neffect('a file without a name')",
        opened_by=("landlock",),
    ),
    _write(
        "a lock on a file of the system",
        "import fcntl\nfcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 1024, 1)\neffect('a lease')",
    ),
    _write(
        "a watch on a folder of the system",
        "import fcntl\nfcntl.fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), 1026, 1)\neffect('a watch')",
    ),
    _write(
        "a mount",
        "import ctypes\nif ctypes.CDLL(None).mount(b'none', b'@HOME@', b'tmpfs', 0, None) == 0: effect('a mount')",
    ),
    _write(
        "a mount by the new calls",
        "import ctypes\nif ctypes.CDLL(None).syscall(428, -100, b'@HOME@', 1) >= 0: effect('a tree of mounts')",
    ),
    _write("another root folder", "os.chroot('@HOME@')\neffect('a root of its own')"),
    _write("the standard library", "open(os.__file__, 'a').write('')\neffect('the standard library can be written')"),
    _write(
        "a byte code cache of the standard library",
        "import importlib.util\npath = importlib.util.cache_from_source(os.__file__)\nopen(path, 'ab')\n"
        "effect('a cache can be written')",
    ),
    _write(
        "a file of its own without rights, as root may",
        "os.close(os.open('own', os.O_CREAT | os.O_WRONLY, 0))\n"
        "os.open('own', os.O_RDWR)\neffect('the rights of files do not bind it')",
        ("capabilities",),
    ),
    _write("a name of a terminal", "open('/dev/tty', 'w').write('x')\neffect('a terminal')"),
    _write(
        "files of the kernel",
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/self/oom_score_adj', '/sys/kernel/mm/ksm/run'):\n"
        "    try: open(path, 'r+')\n    except OSError: continue\n    effect(path)",
    ),
)
