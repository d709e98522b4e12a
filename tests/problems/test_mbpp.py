import json
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.problems.benchmarks.mbpp import tested_function as find_tested_function
from ibft.problems.loading import load_problems

ROW = {
    "task_id": 7,
    "prompt": 'Write a function that returns a """ and a \\n.',
    "code": "def f():\r\n  return 1",
    "test_imports": ["import math"],
    "test_list": ["assert f() == 1", "assert math.isfinite(f())"],
}


def write(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return f"mbpp:{path}"


def test_prompt_is_valid_python_with_text_and_first_assertion(tmp_path: Path) -> None:
    [problem] = load_problems(write(tmp_path / "mbpp.json", [ROW]))
    assert problem.task_id == "Mbpp/7"
    namespace: dict[str, object] = {}
    exec(problem.prompt + "x = 1", namespace)
    assert namespace["__doc__"] == f"\n{ROW['prompt']}\nassert f() == 1\n"
    assert problem.setup == "import math\n"
    assert problem.tests == "assert f() == 1\nassert math.isfinite(f())\n"
    assert problem.entry_point == "f"
    assert problem.canonical_solution == "def f():\n  return 1"


def test_imports_of_the_canonical_code_that_the_tests_use_become_setup(tmp_path: Path) -> None:
    code = "import sys, re\nfrom os import path\ndef size(x):\n    return sys.getsizeof(x)\n"
    row = {**ROW, "code": code, "test_imports": [], "test_list": ["assert size(1) == sys.getsizeof(1)"]}
    assert load_problems(write(tmp_path / "mbpp.json", [row]))[0].setup == "import sys, re\n"


@pytest.mark.parametrize(
    ("code", "assertion", "expected"),
    [
        ("def f(x): ...\ndef g(x): ...", "assert set(g(1)) == set((1,))", "g"),
        ("def f(x): ...\ndef g(x): ...", "assert f(g(1)) == 1", "f"),
        ("class Pair: ...\ndef chain(x): ...", "assert chain([Pair(1, 2)], 1) == 3", "chain"),
        ("def f(x): ...", "assert h(1)", ""),
        ("def f(x:", "assert f(1)", ""),
    ],
)
def test_the_tested_function(code: str, assertion: str, expected: str) -> None:
    assert find_tested_function(code, assertion) == expected


FULL = {
    "task_id": 8,
    "text": "Write a function.",
    "code": "class Node: ...\r\ndef g(node):\r\n    return 1\r\n",
    "test_list": ["assert g(root) == 1"],
    "test_setup_code": "root = Node()",
    "challenge_test_list": ["assert g(None) == 2"],
}


def test_the_full_data_set_is_read_and_its_setup_may_use_the_candidates_classes(tmp_path: Path) -> None:
    (tmp_path / "mbpp.jsonl").write_text(f"{json.dumps(FULL)}\n\n{json.dumps(ROW)}\n")
    full, sanitized = load_problems(f"mbpp:{tmp_path / 'mbpp.jsonl'}")
    assert (full.task_id, full.entry_point, full.setup, full.description) == ("Mbpp/8", "g", "", "Write a function.")
    assert full.tests == "root = Node()\nassert g(root) == 1\n"
    assert [sanitized] == load_problems(write(tmp_path / "mbpp.json", [ROW]))


def test_a_malformed_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "mbpp.jsonl").write_text(f"{json.dumps(FULL)}\n{json.dumps({**FULL, 'code': None})}\n")
    with pytest.raises(UserError, match=r"mbpp\.jsonl, line 2: .*sanitized-mbpp\.json or mbpp\.jsonl"):
        load_problems(f"mbpp:{tmp_path / 'mbpp.jsonl'}")


def test_without_tests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task 7 has an empty test_list"):
        load_problems(write(tmp_path / "mbpp.json", [{**ROW, "test_list": []}]))


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: .*`task_id`"):
        load_problems(write(tmp_path / "mbpp.json", {}))
