"""Programs that leave before their tests are done, or blow up in ways that the judge might take for its own."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_FAILED = frozenset({"failed"})


def _both(name: str, statement: str, statuses: frozenset[str] = _FAILED) -> tuple[Attack, Attack]:
    """The same while the program loads and when it is called."""
    indented = statement.replace("\n", "\n    ")
    return (
        Attack("exit", f"{name} at once", f"{statement}\n", statuses=statuses),
        Attack("exit", f"{name} when called", f"def f(x):\n    {indented}\n", statuses=statuses),
    )


def _error(name: str, source: str) -> Attack:
    return Attack("exit", name, source, statuses=_FAILED)


ATTACKS = (
    *_both("sys.exit", "import sys; sys.exit(0)"),
    *_both("exit code 0", "import os; os._exit(0)"),
    *_both("the exit code of a failed set-up", "import os; os._exit(125)"),
    *_both("SystemExit", "raise SystemExit"),
    *_both("KeyboardInterrupt", "raise KeyboardInterrupt"),
    *_both("GeneratorExit", "raise GeneratorExit"),
    *_both("StopIteration", "raise StopIteration"),
    *_both("AssertionError", "raise AssertionError"),
    *_both("a bare base exception", "raise BaseException"),
    *_both("a segmentation fault", "import ctypes; ctypes.string_at(0)"),
    *_both("abort", "import os; os.abort()"),
    *_both(
        "an illegal instruction",
        "import ctypes, mmap\npage = mmap.mmap(-1, 4096, prot=7)\npage.write(b'\\x0f\\x0b' * 9)\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()",
    ),
    *_both("a signal to itself", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    *_both("the signal of the CPU limit", "import signal; signal.raise_signal(signal.SIGPROF)"),
    *_both("exit handlers", "import atexit, os, sys\natexit.register(os._exit, 0)\nsys.exit(0)"),
    _error(
        "an error whose text raises SystemExit",
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E\n",
    ),
    _error("an error whose text is no text", "class E(Exception):\n    def __str__(self): return 4\nraise E\n"),
    _error(
        "an error whose text takes for ever to recurse",
        "class E(Exception):\n    def __str__(self): return str(self)\nraise E\n",
    ),
    _error("an error whose text is huge", "raise ValueError('x' * 10_000_000)\n"),
    _error("an error whose text holds lone surrogates", "raise ValueError('\\ud800')\n"),
    _error("an error whose name is a verdict", "raise type('passed', (Exception,), {})('passed')\n"),
    _error("an error whose name is huge", "raise type('x' * 1_000_000, (Exception,), {})\n"),
    _error(
        "an error whose class lies about its name",
        "class M(type):\n    __name__ = property(lambda cls: 1 / 0)\n    __mro__ = property(lambda cls: 4)\n"
        "class E(Exception, metaclass=M): pass\nraise E\n",
    ),
    _error(
        "an error with a hostile cause",
        "class E(Exception):\n    __cause__ = property(lambda self: 1 / 0)\n"
        "    __traceback__ = property(lambda self: 1 / 0)\nraise E\n",
    ),
    _error(
        "errors with the names of the judge's own",
        "class _Lost(BaseException): pass\nclass _OutOfTime(_Lost): pass\nclass CodecError(_OutOfTime): pass\n"
        "class SandboxError(CodecError): pass\nraise SandboxError('no sandbox')\n",
    ),
    _error(
        "the judge's own errors",
        "import sys\n"
        "messages = next(m for m in [*sys.modules.values()] if hasattr(m, 'ChannelClosed'))\n"
        "def f(x): raise messages.ChannelClosed('gone')\n",
    ),
    _error("a cycle of causes", "a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a\n"),
    _error(
        "an error from a destructor",
        "class D:\n    def __del__(self): raise SystemExit\ndef f(x): return [D(), 0][1]\n",
    ),
    Attack("exit", "no program", "(", statuses=frozenset({"syntax_error"})),
    Attack("exit", "a null byte", "def f(x): return 0\n\0", statuses=frozenset({"syntax_error"})),
    Attack("exit", "deep parentheses", "(" * 100_000, statuses=frozenset({"syntax_error", "memory"})),
    Attack("exit", "deep operators", "x = " + "-" * 100_000 + "1\n"),
    Attack("exit", "a chain of attributes", "x = a" + ".b" * 100_000 + "\n"),
    Attack("exit", "a power tower that the compiler folds", "x = 9 ** 9 ** 9 ** 9\n"),
    Attack("exit", "an encoding that does not exist", "# coding: no-such\ndef f(x): return 0\n"),
)
