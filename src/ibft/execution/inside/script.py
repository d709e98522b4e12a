"""A whole program's process: it reads standard input and prints. The judge sees its outputs and how it ended."""

from __future__ import annotations

import os
import sys
import traceback
import types

from .codec import MAX_MESSAGE_BYTES, receive

__all__ = ["serve"]

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
    sys.argv = ["answer.py"]
    exit_code = 0
    try:
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        # `dont_inherit`: this file's own `annotations` would change the program.
        exec(compile(source, "<candidate>", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
    except BaseException:
        traceback.print_exc(limit=-5)
        exit_code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(exit_code & 0xFF)
