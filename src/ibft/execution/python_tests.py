"""A Python problem's tests, ready to run: which form they have, what they call, what they take from the candidate."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ibft.artifacts.rows import Module, Problem
from ibft.execution.inside.testing import TESTS, Form
from ibft.execution.packages import mentions
from ibft.execution.python_reach import Reach, find_reach
from ibft.run.digests import cache_folder
from ibft.text.names import free_names

__all__ = ["EXAMPLE", "Prepared", "find_examples", "find_imported", "names_of_examples", "prepare"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EXAMPLE = re.compile(r"(?m)^\s*>>> ")


class Prepared(NamedTuple):
    """A problem's tests: compiled once, set up once.

    `tests` call what they define, where a call is enough; `form` and `examples` are what else runs after them. `names`
    are taken from the candidate, also by importing them from one of `aliases`, modules that do not exist. `packages`
    have to be there for them; `words` are all that the problem's programs mention. `reach` says how much of the
    candidate they see, and `touched` are the modules of this process that they may change.
    """

    setup: str
    tests: str
    code: types.CodeType
    namespace: dict[str, Any]
    names: frozenset[str]
    modules: tuple[Module, ...]
    form: Form
    examples: str
    aliases: tuple[str, ...]
    packages: frozenset[str]
    words: frozenset[str]
    reach: Reach
    touched: frozenset[str]


def prepare(problem: Problem) -> Prepared:
    """Compile a problem's tests and run its setup.

    Raises:
        Exception: whatever setup or tests raise or fail to compile with: the problem is broken.
    """
    namespace: dict[str, Any] = {"__name__": "__tests__", "__kept__": _folder_of_results()}
    exec(compile(problem.setup, "<setup>", "exec", dont_inherit=True), namespace)
    tree = ast.parse(problem.tests)
    examples = find_examples(problem, tree)
    form: Form = "doctest" if examples else _form(tree)
    tests = problem.tests if form == "pytest" else _with_calls(problem.tests, tree)
    imported = find_imported(problem, tree)
    names = free_names(tests) | names_of_examples(examples)
    names -= namespace.keys() | vars(builtins).keys()
    names |= {name for taken in imported.values() for name in taken}
    if problem.entry_point:
        names |= {problem.entry_point}  # which may be called like a builtin: Mbpp/126 defines `sum`
    words = mentions(problem.setup, tests)
    reach = _reach(problem, tests, frozenset(names), bool(examples))
    return Prepared(
        setup=problem.setup,
        tests=tests,
        code=compile(tests, TESTS, "exec", dont_inherit=True),
        namespace=namespace,
        names=frozenset(names),
        modules=problem.modules,
        form=form,
        examples=examples,
        aliases=tuple(imported),
        packages=frozenset({form} - {"program"} | {"numpy", "pytest"} & words),
        words=frozenset(words.union(*(mentions(module.source) for module in problem.modules))),
        reach=reach,
        touched=frozenset(words & sys.modules.keys()) if not reach.is_whole else frozenset(),
    )


def _folder_of_results() -> str | None:
    """Return where a setup may keep what takes it long to compute; None for a user without a home folder."""
    try:
        return str(cache_folder() / "expected")
    except RuntimeError:
        return None


def _reach(problem: Problem, tests: str, names: frozenset[str], has_examples: bool) -> Reach:
    if problem.values_only:
        return Reach(is_whole=True, passes_fresh=True, keeps_results=False)
    if has_examples:  # which look at what is printed
        return Reach(is_whole=False, passes_fresh=False, keeps_results=True)
    return find_reach(tests, problem.setup, names)


def find_examples(problem: Problem, tests: ast.Module) -> str:
    """Return the text with doctest's examples that decide, if any do: of the tests, or of the prompt if they ask.

    They do so by calling doctest's `testmod` or `run_docstring_examples`.
    """
    own = [text for text in _strings(tests) if EXAMPLE.search(text)]
    if own:
        return "\n\n".join(own)
    if not any(name in problem.tests for name in ("testmod", "run_docstring_examples")):
        return ""
    calls = {node.attr for node in ast.walk(tests) if isinstance(node, ast.Attribute)}
    calls |= {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
    if calls.isdisjoint(("testmod", "run_docstring_examples")):
        return ""
    prompt = ast.parse(problem.prompt)
    nodes = (node for node in ast.walk(prompt) if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)))
    return "\n\n".join(text for node in nodes if EXAMPLE.search(text := ast.get_docstring(node) or ""))


def _strings(tests: ast.Module) -> Iterator[str]:
    """Yield the text of statements that are nothing but a string."""
    for node in tests.body:
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def names_of_examples(examples: str) -> set[str]:
    """Return the names that examples use and do not define."""
    if not examples:
        return set()
    import doctest  # takes 10 ms, which the judge's processes need not spend

    return free_names("".join(example.source for example in doctest.DocTestParser().get_examples(examples)))


def _form(tests: ast.Module) -> Form:
    """Return what runs the tests that a program defines and no call of a function without arguments could run."""
    cases: set[str] = set()
    classes = [node for node in tests.body if isinstance(node, ast.ClassDef)]
    for node in classes:
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        if any(base.endswith("TestCase") for base in bases) or bases & cases:
            cases.add(node.name)
    functions = _defined_tests(tests)
    has_classes = any(node.name.startswith("Test") and node.name not in cases for node in classes)
    if has_classes or any(function.args.args for function in functions):
        return "pytest"
    if (cases or functions) and any("pytest" in _imports(node) for node in ast.walk(tests)):
        return "pytest"
    return "unittest" if cases else "program"


def _defined_tests(tests: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the test functions that the program itself never uses."""
    found = [node for node in tests.body if isinstance(node, _FUNCTIONS) and node.name.startswith("test")]
    used = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)} if found else set()
    return [node for node in found if node.name not in used]


def _with_calls(source: str, tests: ast.Module) -> str:
    calls = []
    for function in _defined_tests(tests):
        call = f"{function.name}()"
        if isinstance(function, ast.AsyncFunctionDef):
            call = f"__import__('asyncio').run({call})"
        calls.append(f"{call}\n")
    return "\n".join([source, "".join(calls)]) if calls else source


def _imports(node: ast.AST) -> list[str]:
    """Return the modules that a statement, if it is one, imports, by their outermost names."""
    match node:
        case ast.Import(names=aliases):
            return [alias.name.partition(".")[0] for alias in aliases]
        case ast.ImportFrom(module=str(module), level=0):
            return [module.partition(".")[0]]
    return []


def find_imported(problem: Problem, tests: ast.Module) -> dict[str, set[str]]:
    """Return what the tests import from modules that do not exist: these can only be the candidate's own file."""
    known = {module.name for module in problem.modules}
    taken: dict[str, set[str]] = {}
    for node in ast.walk(tests) if "import" in problem.tests else ():
        for name in _imports(node):
            if name in known or name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
                continue
            names = taken.setdefault(name, set())
            if isinstance(node, ast.ImportFrom):
                names.update(alias.name for alias in node.names if alias.name != "*")
                taken.setdefault(node.module or name, set())  # `pkg.file`, which is asked for before `pkg`
            bound = {alias.asname or alias.name for alias in getattr(node, "names", ())}
            for use in ast.walk(tests):
                if isinstance(use, ast.Attribute) and isinstance(use.value, ast.Name) and use.value.id in bound:
                    names.add(use.attr)
    return taken
