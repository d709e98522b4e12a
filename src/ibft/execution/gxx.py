"""g++: which one is installed, how it is called, and what its end means."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Status
from ibft.errors import UserError
from ibft.execution.outcome import one_line
from ibft.execution.sandbox import CommandResult, Limits

__all__ = ["Gxx", "compile_error", "compiling_limits", "installed_gxx"]

COMPILING_FACTOR = 10
"""A compiler may use as many times a program's CPU time, and at most `_MOST_S`: it decides no verdict on speed."""

_MOST_S = 60.0
_MEMORY_MIB = 2048
_FILE_BYTES = 32 << 20


class Gxx(NamedTuple):
    """An installation: the compiler's path, the folder of the linker that it calls, and the version."""

    compiler: str
    folder: str
    version: str

    def command(self, source: str, program: str, *options: str) -> list[str]:
        """Return the command that makes a program of a file."""
        # -B: the sandbox has no search path. -w: nobody reads warnings.
        shared = ("-std=gnu++17", "-w", "-fmax-errors=1", f"-B{self.folder}", "-pthread")
        return [self.compiler, *shared, *options, "-o", program, source]


@functools.cache
def installed_gxx() -> Gxx:
    """Return the installation on the search path.

    Raises:
        UserError: there is none, or it does not run.
    """
    compiler, linker = shutil.which("g++"), shutil.which("ld")
    if compiler is None or linker is None:
        raise UserError("judge: g++ is not on the search path. C++ is judged with it: `apt install g++`.")
    run = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, errors="replace", check=False)
    if run.returncode != 0 or not re.fullmatch(r"\d+(\.\d+)*", run.stdout.strip()):
        raise UserError(f"judge: {compiler} does not say its version. Reinstall it: `apt install --reinstall g++`.")
    return Gxx(os.path.abspath(compiler), os.path.dirname(os.path.abspath(linker)), run.stdout.strip())


def compiling_limits(limits: Limits) -> Limits:
    """Return the limits of the compiler that makes a program with these limits."""
    factor = min(COMPILING_FACTOR, _MOST_S / limits.cpu_s)
    return msgspec.structs.replace(
        limits.scaled(factor), memory_mib=max(limits.memory_mib, _MEMORY_MIB), file_bytes=_FILE_BYTES
    )


def compile_error(result: CommandResult, limits: Limits) -> tuple[Status, str] | None:
    """Return status and message where the compiler made no program, else None.

    Args:
        result: its end.
        limits: its own.
    """
    if result.timed_out:
        status: Status = "timeout_cpu" if result.timed_out == "cpu" else "timeout_wall"
        return status, f"timed out: the compiler used more than {limits.cpu_s:g} s"
    if result.exit_code == 0:
        return None
    lines = result.stderr.decode("utf-8", "replace").splitlines()
    if any("out of memory" in line or "cannot allocate" in line for line in lines):
        return "memory", "out of memory: the compiler used more than its share"
    line = next((line for line in lines if "error" in line or "undefined" in line), f"exit code {result.exit_code}")
    return "syntax_error", f"syntax error: {one_line(line)}"
