"""RTLLM, version 2 (arXiv 2308.05345 and 2503.15112): a folder for each design, with a test bench of its own form."""

from __future__ import annotations

import re
from pathlib import Path

from ibft.artifacts.rows import File, Problem
from ibft.errors import UserError
from ibft.execution.verilog_ports import instances
from ibft.problems.source_files import read_source
from ibft.text.answers.verilog_modules import defined_modules

__all__ = ["load_rtllm"]


def load_rtllm(path: Path) -> list[Problem]:
    """Return the problems of hkust-zhiyao/RTLLM, or of a part of it, in the order of their folders' paths.

    A folder with `testbench.v` is a problem: `design_description.txt` is its prompt, `verified_*.v` its reference,
    whose module gets the name that the test bench instantiates; other files are what the test bench reads.

    Raises:
        UserError: there is no problem in the folder, or a file of one is missing or malformed.
    """
    folders = sorted(bench.parent for bench in path.rglob("testbench.v"))
    if not folders:
        raise UserError(
            f"problems: {path} has no testbench.v below it. Give the folder of RTLLM version 2, with its folders "
            "Arithmetic, Control, Memory and Miscellaneous."
        )
    return [_load(folder) for folder in folders]


def _load(folder: Path) -> Problem:
    references = sorted(folder.glob("verified_*.v"))
    if not references:
        raise UserError(f"problems: {folder} has no verified_*.v. A test bench is judged only with its reference.")
    description = read_source(folder / "design_description.txt").strip()
    tests, reference = read_source(folder / "testbench.v"), read_source(references[0])
    entry_point = _tested(tests, folder)
    known = {"testbench.v", "design_description.txt", references[0].name, "makefile"}
    beside = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name not in known]
    return Problem(
        task_id=folder.name,
        prompt=f"{description}\n",
        tests=tests,
        entry_point=entry_point,
        canonical_solution=re.sub(rf"\b{_top(reference)}\b", entry_point, reference),
        language="verilog",
        description=description,
        files=tuple(File(file.name, read_source(file)) for file in beside),
    )


def _tested(tests: str, folder: Path) -> str:
    """Return the module that a test bench instantiates and does not define."""
    defined = {module.name for module in defined_modules(tests)[0]}
    tested = [known.module for known in instances(tests) if known.module not in defined]
    if not tested:
        raise UserError(f"problems: {folder / 'testbench.v'} instantiates no module, so there is nothing to test.")
    return tested[0]


def _top(reference: str) -> str:
    """Return the module of a reference that no other of its modules uses."""
    modules, _ = defined_modules(reference)
    used = {name for module in modules for name in module.names - {module.name}}
    return next((re.escape(module.name) for module in modules if module.name not in used), "")
