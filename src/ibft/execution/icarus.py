"""Icarus Verilog: which one is installed, and what the ends of its programs mean."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from typing import NamedTuple

from ibft.artifacts.rows import Status
from ibft.errors import UserError
from ibft.execution.sandbox import CommandResult

__all__ = [
    "Icarus",
    "abnormal_end",
    "first_line",
    "icarus_warning",
    "installed_icarus",
]

_MESSAGE_CHARACTERS = 200


class Icarus(NamedTuple):
    """An installation: the absolute paths of `iverilog` and `vvp`, and the version, such as 12.0."""

    compiler: str
    simulator: str
    version: str


def icarus_warning(version: str) -> str | None:
    """Return the warning about this version for the user, or None."""
    if int(version.split(".")[0]) >= 12:
        return None
    return (
        f"Icarus Verilog {version} cannot run every reference of VerilogEval (11 fails on review2015_fsm and "
        "review2015_fancytimer of Human). Problems whose reference fails are listed and not counted; install 12 or "
        "later to judge them all."
    )


@functools.cache
def installed_icarus() -> Icarus:
    """Return the installation on the search path.

    Raises:
        UserError: there is none, or it does not run.
    """
    compiler, simulator = shutil.which("iverilog"), shutil.which("vvp")
    if compiler is None or simulator is None:
        raise UserError(
            f"judge: {'iverilog' if compiler is None else 'vvp'} is not on the search path. Verilog is judged with "
            "Icarus Verilog, 12 or later: `apt install iverilog`, or see https://steveicarus.github.io/iverilog/."
        )
    run = subprocess.run([compiler, "-V"], capture_output=True, text=True, errors="replace", check=False)
    version = re.search(r"Icarus Verilog version (\d+(?:\.\d+)*)", run.stdout)
    if version is None:
        raise UserError(
            f"judge: {compiler} -V names no version of Icarus Verilog. Reinstall it, or repair the search path."
        )
    return Icarus(os.path.abspath(compiler), os.path.abspath(simulator), version.group(1))


def abnormal_end(result: CommandResult, tool: str) -> tuple[Status, str] | None:
    """Return status and message where a command did not end well, else None."""
    if result.timed_out == "cpu":
        return "timeout_cpu", f"the {tool} used more than its CPU time"
    if result.timed_out == "wall":
        return "timeout_wall", f"the {tool} was stopped at the limit on elapsed time"
    if result.exit_code == 0:
        return None
    if re.search(rb"bad_alloc|out of memory|Cannot allocate memory", result.stderr):
        return "memory", f"the {tool} used more than its memory"
    fatal = re.search(rb"(?m)^FATAL: .*", result.stdout)  # of a test bench's $fatal
    line = first_line(result.stderr or (fatal.group() if fatal else b""), prefer=("error", "sorry"))
    line = line or f"exit status {result.exit_code}"
    return ("syntax_error" if tool == "compiler" else "failed"), f"the {tool} says: {line}"


def first_line(stderr: bytes, prefer: tuple[str, ...] = ()) -> str:
    """Return the first line that has one of the preferred words, or else the first; "" where there is no line."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    lines = [line for line in lines if any(word in line for word in prefer)] or lines
    return lines[0][:_MESSAGE_CHARACTERS] if lines else ""
