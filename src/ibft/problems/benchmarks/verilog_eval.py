"""VerilogEval: version 1 (arXiv 2309.07544, one JSONL file) and version 2 (arXiv 2408.11053, a folder of files)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.source_files import read_source

__all__ = ["FAILING_WARNINGS", "load_verilog_eval"]


FAILING_WARNINGS = (
    "warning: always_comb process has no sensitivities",
    "found no sensitivities so it will never trigger",
)
"""With these, version 2's own harness takes a sample for failed, whatever it printed; it passes over all others.

scripts/sv-iv-analyze of NVlabs/verilog-eval (65c87a8).
"""


class _Row(msgspec.Struct, frozen=True):
    task_id: str
    prompt: str
    canonical_solution: str
    test: str


class _DescriptionRow(msgspec.Struct, frozen=True):
    task_id: str
    detail_description: str


def load_verilog_eval(path: Path) -> list[Problem]:
    """Return the problems of a version 1 file, or of a version 2 folder.

    Raises:
        UserError: a file is missing or malformed, or the folder holds no problems.
    """
    return _load_folder(path) if path.is_dir() else _load_file(path)


def _load_file(path: Path) -> list[Problem]:
    """Return the problems of version 1: the prompt is the description as comments, then the module's header.

    Descriptions are in a second file beside the problems, VerilogDescription_{Human,Machine}.jsonl; without it
    the prompt is the header alone, as the problem file has it.
    """
    beside = path.with_name(path.name.replace("VerilogEval", "VerilogDescription"))
    descriptions = {}
    if beside != path and beside.exists():  # equal where the file has another name than the repository's
        descriptions = {row.task_id: row.detail_description for row in read_rows(beside, _DescriptionRow)}
    problems = []
    for row in read_rows(path, _Row):
        description = descriptions.get(row.task_id, "")
        problems.append(
            Problem(
                task_id=row.task_id,
                prompt=_as_comments(description) + row.prompt,
                tests=row.test,
                entry_point="top_module",
                canonical_solution=row.canonical_solution,
                language="verilog",
                description=description,
                warnings_fail=True,  # as in version 1's own harness, so that figures can be compared
            )
        )
    return problems


def _load_folder(folder: Path) -> list[Problem]:
    """Return the problems of version 2: files `NAME_prompt.txt`, `NAME_ref.sv` and `NAME_test.sv` for each NAME.

    The test bench compares module TopModule with the reference's module RefModule, so `tests` holds both of these
    files, and `canonical_solution` is the reference under the name TopModule. A problem of the code completion task
    also has `NAME_ifc.txt`, the module's header, with which its prompt file ends.
    """
    names = sorted(path.name.removesuffix("_prompt.txt") for path in folder.glob("*_prompt.txt"))
    if not names:
        raise UserError(
            f"problems: {folder} has no *_prompt.txt files. Give a data set folder of VerilogEval version 2, such as "
            "dataset_spec-to-rtl, or a problem file of version 1."
        )
    return [_load_from_folder(folder, name) for name in names]


def _load_from_folder(folder: Path, name: str) -> Problem:
    text = read_source(folder / f"{name}_prompt.txt").strip()
    reference = read_source(folder / f"{name}_ref.sv")
    top_module, num_renamed = re.subn(r"\bRefModule\b", "TopModule", reference)
    if not num_renamed:
        raise UserError(f"{folder / f'{name}_ref.sv'}: has no module RefModule, so nothing could be compared with it.")
    header_file = folder / f"{name}_ifc.txt"
    if header_file.exists():  # the code completion task: the prompt has to end where the module's body begins
        header = read_source(header_file).strip()
        text = text.removesuffix(header).rstrip()
        prompt = f"{_as_comments(text)}\n{header}\n"
    else:
        prompt = f"Question:\n{text}\n\nAnswer:\n"
    return Problem(
        task_id=name,
        prompt=prompt,
        tests=f"{read_source(folder / f'{name}_test.sv')}\n{reference}",
        entry_point="TopModule",
        canonical_solution=top_module,
        language="verilog",
        description=text,
        warnings_fail=FAILING_WARNINGS,
    )


def _as_comments(text: str) -> str:
    return "".join(f"// {line}".rstrip() + "\n" for line in text.splitlines())
