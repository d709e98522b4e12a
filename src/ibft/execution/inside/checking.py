"""A benchmark's own checker, in a process of its own: is one output right? The program that printed it is gone.

The checker is the benchmark's, but what it reads is a hostile program's, and a checker may well `eval` it. So it runs
where that can do no harm. It comes in two forms: a module that defines `check(input, output, expected)`, or, as for
Codeforces in open-r1, a program that is started with the names of three files, `input expected output`, and prints a
score. Here both end by printing a score.
"""

from __future__ import annotations

import json
import sys
import types

__all__ = ["serve"]

_FILES = ("input.txt", "expected.txt", "output.txt")


def serve() -> None:
    """Read a checker and one case as JSON from standard input, run it, and print its score: over 0 is right.

    Raises:
        BaseException: whatever the checker raises: the output is wrong.
    """
    source, is_program, given, expected, output = json.load(sys.stdin)
    module = types.ModuleType("__main__" if is_program else "checker")
    sys.modules[module.__name__] = module
    code = compile(source, "<checker>", "exec", dont_inherit=True)
    if is_program:
        for name, text in zip(_FILES, (given, expected, output), strict=True):
            # The bytes that the program has printed, be they UTF-8 or not.
            with open(name, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(text)
        sys.argv = ["checker.py", *_FILES]
        exec(code, module.__dict__)
        return
    score, sys.stdout = sys.stdout, sys.stderr  # what it prints is not the score
    exec(code, module.__dict__)
    print(int(bool(module.__dict__["check"](given, output, expected))), file=score, flush=True)
