"""MBPP, sanitized (arXiv 2108.07732): one JSON list of problems, `sanitized-mbpp.json`."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import read_content
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.text.names import bound_names, free_names

__all__ = ["load_mbpp", "mbpp_prompt", "tested_function"]


class _Row(msgspec.Struct, frozen=True):
    task_id: int
    prompt: str
    code: str
    test_list: list[str]
    test_imports: list[str] = []


def load_mbpp(path: Path) -> list[Problem]:
    """Return the problems, with EvalPlus's task ids (`Mbpp/2`), so that its samples can be judged.

    Raises:
        UserError: the file is missing or malformed, or a problem has no tests.
    """
    data = read_content(path)
    try:
        rows = msgspec.json.decode(data, type=list[_Row])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Expected one JSON list of problems, as in sanitized-mbpp.json.") from None
    problems = []
    for row in rows:
        if not row.test_list:
            raise UserError(f"{path}: task {row.task_id} has an empty test_list, so nothing could fail. Remove it.")
        code = row.code.replace("\r\n", "\n")  # the data set's code has Windows line ends
        tests = "\n".join(row.test_list) + "\n"
        problems.append(
            Problem(
                task_id=f"Mbpp/{row.task_id}",
                prompt=mbpp_prompt(row.prompt, row.test_list[0]),
                setup="".join(f"{line}\n" for line in [*row.test_imports, *_imports_for(tests, code)]),
                tests=tests,
                entry_point=tested_function(code, row.test_list[0]),
                canonical_solution=code,
                description=row.prompt,
            )
        )
    return problems


def mbpp_prompt(text: str, first_assertion: str) -> str:
    """Return the prompt of bigcode-evaluation-harness: a docstring of the task's text and its first assertion.

    The model writes the whole program after it, so the prompt itself is valid Python and adds nothing.
    """
    # Unescaped, a quote or backslash of the text (regular expressions) would end the docstring or change it.
    escaped = f"{text}\n{first_assertion}".replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{escaped}\n"""\n'


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
