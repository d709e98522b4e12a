"""MBPP, sanitized (arXiv 2108.07732): one JSON list of problems, `sanitized-mbpp.json`."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import read_content
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.prompts import as_docstring
from ibft.text.names import bound_names, free_names

__all__ = ["MbppRow", "load_mbpp", "tested_function"]


class MbppRow(msgspec.Struct, frozen=True):
    """A problem in MBPP's own fields."""

    task_id: int
    prompt: str
    code: str
    test_list: list[str]
    test_imports: list[str] = []

    def to_problem(self) -> Problem:
        """Return the problem, with EvalPlus's task id (`Mbpp/2`), so that its samples can be judged.

        Raises:
            ValueError: it has no tests.
        """
        if not self.test_list:
            raise ValueError(f"task {self.task_id} has an empty test_list")
        code = self.code.replace("\r\n", "\n")  # the data set's code has Windows line ends
        tests = "\n".join(self.test_list) + "\n"
        return Problem(
            task_id=f"Mbpp/{self.task_id}",
            prompt=_prompt(self.prompt, self.test_list[0]),
            setup="".join(f"{line}\n" for line in [*self.test_imports, *_imports_for(tests, code)]),
            tests=tests,
            entry_point=tested_function(code, self.test_list[0]),
            canonical_solution=code,
            description=self.prompt,
        )


def load_mbpp(path: Path) -> list[Problem]:
    """Return the problems.

    Raises:
        UserError: the file is missing or malformed, or a problem has no tests.
    """
    data = read_content(path)
    try:
        rows = msgspec.json.decode(data, type=list[MbppRow])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Expected one JSON list of problems, as in sanitized-mbpp.json.") from None
    try:
        return [row.to_problem() for row in rows]
    except ValueError as error:
        raise UserError(f"{path}: {error}, so nothing could fail. Remove it.") from None


def _prompt(text: str, first_assertion: str) -> str:
    """Return the prompt of bigcode-evaluation-harness: a docstring of the task's text and its first assertion."""
    return as_docstring(f"{text}\n{first_assertion}")


def tested_function(code: str, assertion: str) -> str:
    """Return the name of the function of `code` that the assertion calls, the outermost first; "" if it calls none."""
    try:
        # Functions alone: an argument may be made by a class of the reference, as in `chain([Pair(1, 2)], 1)`.
        defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
        calls = [node.func for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError):
        return ""
    # ast.walk goes breadth first, so that `f` comes before `g` in `f(g(1))`.
    return next((call.id for call in calls if isinstance(call, ast.Name) and call.id in defined), "")


def _imports_for(tests: str, code: str) -> list[str]:
    """Return the imports of the canonical code that the tests use."""
    # Mbpp/596 is tested with `sys.getsizeof`, and only its reference imports sys: no candidate has to.
    try:
        used = free_names(tests)
        imports = [node for node in ast.parse(code).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    except (SyntaxError, ValueError):
        return []
    return [text for node in imports if bound_names(text := ast.unparse(node)) & used]
