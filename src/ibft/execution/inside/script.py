"""A whole program's process: it reads standard input and prints. The judge sees its outputs and how it ended."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
import types

from .messages import MAX_MESSAGE_BYTES, receive

__all__ = ["NOT_COMPILED", "serve"]

NOT_COMPILED = "not compiled: "
"""Begins the line on standard error of a program that does not compile."""

_STDIN = ".stdin"


def serve(channel: int) -> None:
    """Receive a program and its standard input, run it as a script, and end this process."""
    source, stdin = receive(channel, MAX_MESSAGE_BYTES)
    os.close(channel)
    # A file and not a pipe: nobody would have to write while the program reads. It has no name while that runs.
    with open(_STDIN, "w+", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(stdin)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        os.dup2(file.fileno(), 0)
    os.unlink(_STDIN)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.argv = ["answer.py"]
    exit_code = 1
    try:
        exit_code = _run(source)
        atexit._run_exitfuncs()  # some programs print there
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(exit_code & 0xFF)


def _run(source: str) -> int:
    """Run a program as `__main__`; return its exit code."""
    try:
        # `dont_inherit`: this file's own `annotations` would change the program.
        code = compile(source, "<candidate>", "exec", dont_inherit=True)
    except Exception as error:  # SyntaxError; ValueError: a null byte; MemoryError, RecursionError: nested too deeply
        sys.stderr.write(f"{NOT_COMPILED}{type(error).__name__}: {error}\n")
        return 1
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        exec(code, module.__dict__)
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        # Without our own frame, which is the first.
        own = error.__traceback__
        traceback.print_exception(error.with_traceback(own and own.tb_next), limit=-5)
        return 1
    return 0
