"""Spoiling what the next sample finds. The arena judges an honest one, which compares its surroundings."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_RIGHT = "def f(x): return 2 * x\n"


def _spoil(name: str, source: str) -> Attack:
    return Attack("poison", name, f"import os\n{source}\n{_RIGHT}", may_pass=True)


def _try(name: str, source: str) -> Attack:
    """What may be refused, as long as the next sample does not notice."""
    indented = "".join(f"    {line}\n" for line in source.splitlines())
    return _spoil(name, f"try:\n{indented}except OSError: pass")


ATTACKS = (
    _spoil("a file left in the work folder", "open('left', 'w').write('x')"),
    _try("a file left beside the work folder", "open('../left', 'w').write('x')"),
    _try("a folder left beside the work folder", "os.mkdir('../left')"),
    _try("the work folder renamed", "os.rename('../work', '../other')"),
    _try(
        "a file in the place of the work folder",
        "os.rename(os.getcwd(), '../other')\nopen('../' + 'work', 'w').write('x')",
    ),
    _try("the work folder removed", "os.rmdir(os.getcwd())"),
    _spoil("a folder without rights", "os.mkdir('closed', 0)"),
    _spoil(
        "a full folder without rights",
        "os.mkdir('closed')\nopen('closed/left', 'w')\nold = os.umask(0o777)\nos.mkdir('closed/inner')\n"
        "try: os.chmod('closed', 0)\nexcept OSError: pass",
    ),
    _spoil("a file without rights", "os.close(os.open('closed', os.O_CREAT | os.O_WRONLY, 0))"),
    _try("the rights of the work folder", "os.chmod('.', 0)"),
    _spoil("deep folders", "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')"),
    _spoil(
        "very deep folders with long names",
        "try:\n    for _ in range(400):\n        os.mkdir('d' * 200)\n        os.chdir('d' * 200)\n"
        "except OSError: pass",
    ),
    _spoil("wide and deep folders", "for n in range(30):\n    os.makedirs('/'.join(str(n) for _ in range(30)))"),
    _spoil("names that are no text", "open(b'\\xff\\xfe\\n', 'w')\nos.mkdir(b'-rf\\x80 *')"),
    _spoil("another current folder", "os.chdir('/')"),
    _spoil("another mask for new files", "os.umask(0o777)"),
    _spoil("environment variables", "os.environ['LEFT'] = 'x'\nos.putenv('PATH', '/nowhere')"),
    _spoil("patched builtins", "import builtins\nbuiltins.len = builtins.str = builtins.exec = None"),
    _spoil(
        "patched modules",
        "import json, math, random, socket\njson.dumps = json.loads = math.sqrt = random.random = socket.socket = None",
    ),
    _spoil(
        "removed modules",
        "import sys\nfor name in ('json', 'math', 'os', 'socket', 'random'): sys.modules.pop(name, None)",
    ),
    _spoil(
        "the patched server",
        "import sys\nfor name, module in list(sys.modules.items()):\n"
        "    if any(word in name for word in ('zygote', 'codec', 'messages', 'lockdown')):\n"
        "        for key in list(vars(module)):\n"
        "            if not key.startswith('__') and key not in ('send', 'receive', 'encode', 'decode', "
        "'ChannelClosed', 'CodecError'):\n"
        "                try: setattr(module, key, None)\n                except Exception: pass",
    ),
    _spoil("another random state", "import random\nrandom.seed(42)\nrandom.random()"),
    _spoil(
        "handlers of signals",
        "import signal\n"
        "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)",
    ),
    _spoil("blocked signals", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))"),
    _spoil(
        "lower limits",
        "import resource\n"
        "for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE): resource.setrlimit(kind, (9, 9))",
    ),
    _spoil(
        "threads",
        "import threading, time\n"
        "for _ in range(20): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    _spoil("frozen and disabled collection", "import gc\ngc.disable()\ngc.freeze()"),
    _spoil("locks", "import fcntl\nfcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX)"),
    _spoil(
        "memory of constants",
        "import ctypes\n"
        "ctypes.memmove(id(4096 * 4096) + 24, (9).to_bytes(4, 'little'), 4)\n"
        "ctypes.memmove(id(7) + 24, (8).to_bytes(4, 'little'), 4)",
    ),
    _spoil(
        "a blocking mode of shared streams",
        "for n in (0, 1, 2): os.set_blocking(n, False)\nos.ftruncate(1, 0) if False else None",
    ),
    _spoil(
        "trace and audit hooks",
        "import sys\nsys.addaudithook(lambda *_: None)\nsys.setprofile(lambda *_: None)\nsys.settrace(None)",
    ),
    _spoil(
        "another recursion limit and switch interval",
        "import sys\nsys.setrecursionlimit(99_999)\nsys.setswitchinterval(1)",
    ),
    _spoil(
        "the full work folder",
        "try:\n    for n in range(80): open(f'../work/{n}', 'wb').write(bytes(1 << 20))\nexcept OSError: pass",
    ),
)
