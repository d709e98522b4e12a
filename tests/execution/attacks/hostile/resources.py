"""Using up the machine. Every program must end within its limits, and the next sample must not notice."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_WALL, _MEMORY = frozenset({"timeout_wall"}), frozenset({"memory"})
_CPU = frozenset({"timeout_cpu", "timeout_wall"})  # under load the wall clock may come first
_RIGHT = "def f(x): return 2 * x\n"


def _use(name: str, source: str, statuses: frozenset[str] = frozenset(), **more: str | bool) -> Attack:
    return Attack("resource", name, f"{source}\n", statuses=statuses, **more)  # type: ignore[arg-type]


_ANY_LIMIT = frozenset({"timeout_cpu", "timeout_wall", "memory", "failed"})

ATTACKS = (
    _use("a busy loop", "while True: pass", _CPU),
    _use("a busy loop when called", "def f(x):\n    while True: pass", _CPU),
    _use(
        "a timer of CPU time that is reset for ever",
        "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\n"
        "while True: signal.setitimer(signal.ITIMER_PROF, 0)",
        _CPU,
    ),
    _use(
        "a timer of CPU time that is far away",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "signal.setitimer(signal.ITIMER_PROF, 1e8, 1e8)\nwhile True: pass",
        _CPU,
    ),
    _use(
        "a storm of timers of CPU time",
        "import signal\nsignal.signal(signal.SIGPROF, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_PROF, 1e-6, 1e-6)\nwhile True: pass",
        _CPU,
    ),
    _use(
        "a busy loop that ignores the timer",
        "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass",
        _CPU,
    ),
    _use(
        "a busy loop that blocks all signals",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        _CPU,
    ),
    _use(
        "a busy loop with handlers for all signals",
        "import signal\nfor n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(n, lambda *_: None)\nwhile True: pass",
        _CPU,
    ),
    _use("a busy loop in C", "10 ** 10 ** 9", _CPU | _MEMORY),
    _use("an expression that backtracks", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", _CPU),
    _use("a sum without end", "import itertools\nsum(itertools.count())", _CPU),
    _use(
        "busy threads",
        "import threading\nfor _ in range(4): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
    ),
    _use("sleep", "import time\ntime.sleep(60)", _WALL),
    _use("sleep when called", "import time\ndef f(x): time.sleep(60)", _WALL),
    _use(
        "sleep that ignores all signals",
        "import signal, time\nfor n in (1, 2, 3, 13, 14, 15): signal.signal(n, signal.SIG_IGN)\n"
        "while True:\n    try: time.sleep(60)\n    except BaseException: pass",
        _WALL,
    ),
    _use("a read without end", "import os\nos.read(os.pipe()[0], 1)", _WALL),
    _use("a lock taken twice", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", _WALL),
    _use(
        "a destructor that never ends",
        "class D:\n    def __del__(self):\n        while True: pass\ndef f(x):\n    D()\n    return 0",
        _CPU,
    ),
    _use("an exit that never ends", "import atexit, sys, time\natexit.register(time.sleep, 60)\nsys.exit()"),
    _use(
        "a thread that goes on after the answers",
        "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()\n" + _RIGHT,
        may_pass=True,
    ),
    _use(
        "an answer that never comes",
        "class A:\n    def __len__(self):\n        while True: pass\ndef f(x): return A()",
        _CPU,
        tests="assert len(f(2)) == 4\n",
    ),
    _use(
        "an iterator without end",
        "import itertools\ndef f(x): return itertools.count()",
        _CPU | _WALL | _MEMORY,
        tests="assert list(f(2)) == [4]\n",
    ),
    _use("a list without end", "held = []\nwhile True: held.append(bytearray(1 << 26))", _MEMORY | _CPU),
    _use("one large array of bytes", "bytearray(8 << 30)", _MEMORY),
    _use("a large text", "def f(x): return 'x' * (1 << 29)"),
    _use("an answer over the channel's limit", "def f(x): return 'x' * (20 << 20)", frozenset({"failed"})),
    _use("an answer of many small things", "def f(x): return [[] for _ in range(10 ** 7)]", _ANY_LIMIT),
    _use(
        "an answer that refers to itself", "def f(x):\n    a = []\n    a.append(a)\n    return a", frozenset({"failed"})
    ),
    _use(
        "an answer that doubles", "def f(x):\n    a = [0]\n    for _ in range(60): a = [a, a]\n    return a", _ANY_LIMIT
    ),
    _use(
        "a large map",
        "import mmap\nheld = [mmap.mmap(-1, 1 << 28) for _ in range(64)]",
        frozenset({"failed", "memory"}),
    ),
    _use(
        "a map without reserve",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
        "if libc.mmap(None, ctypes.c_size_t(8 << 30), 3, 0x4022, -1, 0) not in (None, 2 ** 64 - 1): effect('8 GiB')",
        opened_by=("limits",),
    ),
    _use(
        "stacks of threads",
        "import threading, time\nthreading.stack_size(128 << 20)\n"
        "for _ in range(64): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    _use(
        "thousands of threads",
        "import _thread\n_thread.stack_size(32768)\nlock = _thread.allocate_lock()\nlock.acquire()\nn = 0\n"
        "while n < 2000:\n    try: _thread.start_new_thread(lock.acquire, ())\n    except RuntimeError: break\n"
        "    n += 1\n"
        "if n > 300: effect(f'{n} threads')",
    ),
    _use(
        "memory errors that are swallowed",
        "def f(x):\n    held = []\n    while True:\n        try: held.append(bytearray(1 << 24))\n"
        "        except MemoryError: pass",
        _CPU,
    ),
    _use("memory errors raised by hand", "raise MemoryError", _MEMORY),
    _use("recursion without end", "def f(x): return f(x)", frozenset({"failed"})),
    _use(
        "recursion without a limit", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x)\n", _ANY_LIMIT
    ),
    _use(
        "a flood of output",
        "import sys\nfor stream in (sys.stdout, sys.stderr):\n    for _ in range(200): stream.write('x' * 100_000)\n"
        + _RIGHT,
        may_pass=True,
    ),
    _use(
        "a flood of output past Python",
        "import os\nfor _ in range(500): os.write(1, b'x' * 100_000); os.write(2, b'x' * 100_000)\n" + _RIGHT,
        may_pass=True,
    ),
    _use(
        "closed streams",
        "import os, sys\nos.closerange(0, 3)\nsys.stdout = sys.stderr = None\n" + _RIGHT,
        may_pass=True,
    ),
    _use("a large file", "open('own', 'wb').write(bytes(4 << 20))\neffect('4 MiB')", opened_by=("limits",)),
    _use("a large file with a hole", "open('own', 'wb').truncate(1 << 40)\neffect('1 TiB')", opened_by=("limits",)),
    _use(
        "a large file past its end",
        "import os\nos.pwrite(os.open('own', os.O_CREAT | os.O_RDWR), b'x', 1 << 40)\neffect('1 TiB')",
        frozenset({"failed"}),
    ),
    _use("many files", "for n in range(2000): open(f'own{n}', 'w')\n" + _RIGHT, may_pass=True),
    _use(
        "many full files", "for n in range(100): open(f'own{n}', 'wb').write(bytes(1 << 20))\n" + _RIGHT, may_pass=True
    ),
    _use(
        "files with the longest names",
        "for n in range(500): open(chr(97 + n % 26) * 250 + str(n), 'w')\n" + _RIGHT,
        may_pass=True,
    ),
    _use(
        "all descriptors",
        "import os\nheld = []\nwhile True: held.append(os.open('/dev/null', 0))",
        frozenset({"failed"}),
    ),
    _use(
        "all descriptors, held",
        "import os\ntry:\n    while True: os.open('/dev/null', 0)\nexcept OSError: pass\n" + _RIGHT,
        may_pass=True,
    ),
    _use(
        "full pipes",
        "import fcntl, os\ntry:\n    while True:\n        _, w = os.pipe()\n"
        "        fcntl.fcntl(w, 1031, 1 << 20)\n        os.set_blocking(w, False)\n"
        "        os.write(w, bytes(1 << 20))\nexcept OSError: pass\n" + _RIGHT,
        may_pass=True,
    ),
    _use("a very long line", "x = '" + "a" * 3_000_000 + "'\n" + _RIGHT, may_pass=True),
    _use("many names", "\n".join(f"a{n} = {n}" for n in range(20_000)) + "\n" + _RIGHT, may_pass=True),
)
