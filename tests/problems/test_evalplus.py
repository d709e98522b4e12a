import gzip
import json
import marshal
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ibft import Pool, execute_all
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.evalplus_oracle import Oracle, agrees, shaped
from ibft.problems.loading import load_problems
from ibft.text.names import bound_names, free_names

HALVE = {
    "task_id": "HumanEval/900",
    "prompt": "import math\n\n\ndef halve(values):\n    '''Halve each.'''\n",
    "entry_point": "halve",
    "canonical_solution": "    values.reverse()\n    print('noise')\n    return [v / 2 for v in reversed(values)]\n",
    "base_input": [[[1, 2]], [[]]],
    "plus_input": [[[1e30, float("inf"), 10**30]]],
    "atol": 0,
    "contract": "",
    "assertion": "",
}


def load(tmp_path: Path, **row: object) -> Problem:
    path = tmp_path / "plus.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return load_problems(f"evalplus:{path}")[0]


def outcome(problem: Problem, candidate: Callable[..., Any]) -> tuple[str, str]:
    """Run the tests as the judge does: how far they came, and the failure."""
    namespace: dict[str, Any] = {}
    exec(problem.setup, namespace)
    namespace[problem.entry_point] = candidate
    try:
        exec(problem.tests, namespace)
    except Exception as error:
        return namespace["reached"], f"{type(error).__name__}: {error}"
    return namespace["reached"], ""


def test_the_released_layout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    problem = load(tmp_path, **HALVE)
    assert outcome(problem, lambda values: [value / 2 for value in values]) == ("plus", "")
    assert capfd.readouterr().out == ""  # what the canonical solution prints stays away
    reached, failure = outcome(problem, lambda values: [value // 2 for value in values])
    assert (reached, failure) == ("base", "AssertionError: base input 0: got [0, 1], expected [0.5, 1.0]")
    reached, failure = outcome(problem, lambda values: [value / 2 for value in values if value < 1e10])
    assert (reached, failure.split(":")[1]) == ("plus", " plus input 0")
    assert outcome(problem, lambda values: 1 / 0) == ("base", "ZeroDivisionError: division by zero")


def test_the_tests_take_nothing_but_the_entry_point_from_the_candidate(tmp_path: Path) -> None:
    problem = load(tmp_path, **HALVE)
    assert free_names(problem.tests) - bound_names(problem.setup) == {"halve"}
    namespace: dict[str, Any] = {}
    exec(problem.setup, namespace)
    assert set(namespace) - {"__builtins__"} == {"evalplus", "oracle"}


def test_expected_values_come_from_inputs_that_nothing_has_changed(tmp_path: Path) -> None:
    problem = load(tmp_path, **HALVE)
    namespace: dict[str, Any] = {}
    exec(problem.setup, namespace)
    assert namespace["oracle"].cases["base"] == [([[1, 2]], [0.5, 1.0]), ([[]], [])]


def test_compressed_and_without_plus_inputs(tmp_path: Path) -> None:
    path = tmp_path / "HumanEvalPlus.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({**HALVE, "plus_input": {}}).encode() + b"\n\n"))
    [problem] = load_problems(f"evalplus:{path}")
    assert outcome(problem, lambda values: [value / 2 for value in values]) == ("plus", "")


def test_mbpp_as_released(tmp_path: Path) -> None:
    row = {
        "task_id": "Mbpp/2",
        "prompt": '"""\nFind the shared elements.\nassert similar_elements((3, 4), (5, 4)) == (4,)\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "\ndef similar_elements(a, b):\n  a + ()\n  return tuple(set(a) & set(b))\n",
        "base_input": [[[3, 4, 5], [5, 4, 7]]],
        "plus_input": [[[], [1]]],
        "atol": 0,
    }
    problem = load(tmp_path, **row)
    assert problem.prompt == row["prompt"]
    assert outcome(problem, lambda a, b: [x for x in b if x in a and type(b) is tuple]) == ("plus", "")
    assert "base input 0" in outcome(problem, lambda a, b: list(a))[1]


HUB_HUMANEVAL = {
    "task_id": "HumanEval/901",
    "prompt": "def poly(x):\n    return x * x\n\n\ndef root(x):\n    '''Root.'''\n",
    "entry_point": "root",
    "canonical_solution": "    return x ** 0.5\n",
    "test": "def check(candidate):\n    for x in [4, 9]:\n        assert poly(candidate(x)) == x\n",
}
HUB_MBPP = {
    "task_id": 902,
    "code": "def twice(x):\r\n    return 2 * x",
    "prompt": "Write a function to double.",
    "source_file": "x",
    "test_imports": ["import math"],
    "test_list": ["assert twice(1) == 2"],
    "test": "def same(a, b):\n    assert a == b\n\ninputs = [[1],\n  [2]]\nresults = [2, 4]\n"
    "for inp, exp in zip(inputs, results):\n    same(twice(*inp), exp)\n",
}


def test_the_hubs_layouts(tmp_path: Path) -> None:
    problem = load(tmp_path, **HUB_HUMANEVAL)
    assert problem.setup == "def poly(x):\n    return x * x\n\n\n"
    assert problem.tests.endswith("\ncheck(root)\n")
    problem = load(tmp_path, **HUB_MBPP)
    assert (problem.task_id, problem.entry_point) == ("Mbpp/902", "twice")
    assert problem.canonical_solution == "def twice(x):\n    return 2 * x"
    assert problem.setup.startswith("import math\ndef same")
    assert problem.setup.endswith("results = [2, 4]\n")
    assert problem.tests == "for inp, exp in zip(inputs, results):\n    same(twice(*inp), exp)\n"
    assert "Write a function to double." in problem.prompt


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({**HALVE, "base_input": [], "plus_input": []}, "line 1: task HumanEval/900 has no inputs"),
        ({**HALVE, "entry_point": "a b"}, "line 1: .*'a b'"),
        ({**HALVE, "base_input": 3}, "line 1: .*base_input"),
        ({**HUB_MBPP, "test": "pass"}, "never uses the tested function .twice"),
        ({**HUB_MBPP, "test": "def"}, "not valid Python"),
        ({**HUB_MBPP, "test_list": []}, "empty test_list"),
        ({"task_id": "HumanEval/0"}, "line 1: .*prompt"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, row: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load(tmp_path, **row)


@pytest.mark.parametrize("content", [b"[]\n", b"{\n", b"\xff\n", b"3\n"])
def test_what_is_no_json_object_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plus.jsonl").write_bytes(b"\n" + content)
    with pytest.raises(UserError, match=r"plus\.jsonl, line 2"):
        load_problems(f"evalplus:{tmp_path / 'plus.jsonl'}")


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ([1, [2]], "", [1, [2]]),
        ([1, [2]], "t", (1, [2])),
        ([[1], [2]], "lt", [(1,), (2,)]),
        ([[1], [2]], "tt", ((1,), (2,))),
        ([[1], 2, "ab"], "to", ((1,), 2, "ab")),
        ([1, [2, [3]], "ab"], "a", (1, (2, (3,)), "ab")),
        (5, "a", 5),
        ([[1, 2], [], 3], "ls", [{1, 2}, {}, {}]),
        ({"a": [1]}, "dt", {"a": (1,)}),
        ("1", "f", 1.0),
        ("(1+2j)", "c", 1 + 2j),
    ],
)
def test_shapes(value: object, shape: str, expected: object) -> None:
    result = shaped(value, shape)
    assert result == expected
    assert type(result) is type(expected)


def as_in_numpy(output: Any, expected: Any, tolerance: float) -> bool:
    """The general rule in terms of `numpy.allclose`, written from EvalPlus's description of it."""
    if output == expected:
        return True
    floats = isinstance(expected, float) or (
        isinstance(expected, (list, tuple)) and expected and all(isinstance(item, float) for item in expected)
    )
    tolerance = tolerance or (1e-6 if floats else 0)
    if not tolerance or type(output) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)) and len(output) != len(expected):
        return False
    try:
        return bool(np.allclose(output, expected, rtol=1e-7, atol=tolerance))
    except (TypeError, ValueError, OverflowError):
        return False


VALUES: list[Any] = [
    0, 1, 1.0, True, None, "1", "", 1 + 1e-7, 1 + 1e-5, 1 + 3e-7, 1e8, 1e8 + 5, 1e8 + 50, math.inf, -math.inf,
    math.nan, 1j, 1j + 1e-7, [], (), [1.0], (1.0,), [1], [1 + 1e-7], [1.0, 2.0], [1.0, 2.0 + 1e-7],
    (1.0, 2.0 + 1e-7), [1.0, None], [1.0, "a"], [[1.0], [2.0]], [[1.0], [2.0 + 1e-7]], [(1.0, 3), [2, 4]],
    [[1.0, 3], (2, 4)], {1.0}, {1: 1.0}, {1: 1 + 1e-7}, [math.inf, 1.0], [math.inf, 1 + 1e-7], [math.nan],
    [True, 1.0], 10**400,
]  # fmt: skip


@pytest.mark.parametrize("tolerance", [0, 1e-6, 1e-4])
def test_agrees_as_numpys_allclose_does(tolerance: float) -> None:
    for output in VALUES:
        for expected in VALUES:
            found = agrees(output, expected, [], "", tolerance)
            assert found == as_in_numpy(output, expected, tolerance), (output, expected)


def test_deviations_from_numpy() -> None:
    assert not agrees([[1.0], [1.0]], [[1.0, 1.0], [1.0, 1.0]], [], "", 1e-6)  # no broadcasting
    assert agrees(10**30 + 1, 10**30, [], "", 1e-6)
    assert agrees([[1.0 + 1e-9], [2.0, 3.0]], [[1.0], [2.0, 3.0]], [], "", 1e-6)  # ragged


@pytest.mark.parametrize(
    ("rule", "arguments", "expected", "right", "wrong"),
    [
        ("root", [[-6, 11, -6, 1]], None, [1.0, 2.0, 3.00001], [1.1, math.inf]),
        ("anything", [4, 6], True, [False, True], []),
        ("or_zero", [7], 1, [0, 1], [7, None]),
        ("or_pyramid", [3, 4], 33, [33, 35], [34]),  # 9 + 6 * sqrt(1.5^2 + 4^2) = 34.6
        ("or_padded", [1, 23], 6, [6, 4], [5]),  # |0 - 2| + |1 - 3|
        ("same_elements", [], (1, 2), [[2, 1, 1], {1, 2}], [[1], []]),
        ("is_not_none", [], "match", ["other", True, ""], [None, False]),
        ("is_not_none", [], None, [None, False], ["match", True]),
        ("is_not_none", [], False, [True, 0], [False, None]),
    ],
)
def test_special_rules(
    rule: str, arguments: list[object], expected: object, right: list[object], wrong: list[object]
) -> None:
    tolerance = 1e-4 if rule == "root" else 0
    assert all(agrees(output, expected, arguments, rule, tolerance) for output in right)
    assert not any(agrees(output, expected, arguments, rule, tolerance) for output in wrong)


def test_a_call_may_take_a_second_or_four_times_the_reference(tmp_path: Path) -> None:
    oracle = Oracle("def f(n): return sum(range(n))\n", "f", '{"base": [[10], [30000000]], "plus": []}', ("",), "", 0)
    short, long = oracle.limits_s["base"]
    assert short == 1.0
    assert long > 1.0
    assert oracle.limits_s["plus"] == []

    row = {**HALVE, "entry_point": "f", "prompt": "def f(n):\n", "canonical_solution": "    return n\n"}
    problem = load(tmp_path, **{**row, "base_input": [[1], [2]], "plus_input": [[3]]})
    with Pool(1) as pool:
        endless = "    while n > 1:\n        pass\n    return n\n"
        # 1.2 s in all, and no call takes a second.
        wait = "    while time.process_time() < end: pass\n"
        slow = f"    import time\n    end = time.process_time() + 0.4\n{wait}    return n\n"
        stopped, passed = execute_all([(problem, endless), (problem, slow)], pool=pool)
    assert passed.passed
    assert stopped.status == "timeout_cpu"
    assert stopped.message == "timed out: a call took more than 1 s of CPU time"
    assert stopped.cpu_time_s < 2


def test_a_case_without_an_output_is_not_right() -> None:
    class OfOne:
        def __each__(self, rows: list[list[int]], *_: object) -> list[int]:
            return [row[0] for row in rows[:1]]

    oracle = Oracle("def f(n): return n\n", "f", '{"base": [[1], [2]]}', ("",), "", 0)
    with pytest.raises(ValueError, match="shorter"):
        oracle.check(OfOne(), "base")  # type: ignore[arg-type]


def test_the_rule_belongs_to_the_task(tmp_path: Path) -> None:
    zero = {"canonical_solution": "    return 1.0\n", "prompt": "def find_zero(xs):\n", "base_input": [[[-1, 1]]]}
    row = {**HALVE, **zero, "entry_point": "find_zero", "plus_input": [], "atol": 1e-4}
    assert outcome(load(tmp_path, **row), lambda xs: 1.00001)[1] == ""
    assert "expected 1.0" in outcome(load(tmp_path, **{**row, "task_id": "Mbpp/9"}), lambda xs: 1.1)[1]


def test_results_are_kept_and_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    def results(program: str = "def f(x): return (x, {x})\n") -> list[Any]:
        oracle = Oracle(program, "f", '{"base": [[1], [2]]}', ("",), "", 0, str(tmp_path / "kept"))
        return [expected for _, expected in oracle.cases["base"]]

    assert results() == [(1, {1}), (2, {2})]
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(marshal.dumps(({"base": [3, 4]}, {"base": [0.0, 0.0]})))
    assert results() == [3, 4]
    file.write_bytes(b"damaged")
    assert results() == [(1, {1}), (2, {2})]
    assert results("def f(x): return x\n") == [1, 2]  # another program
    assert results("class A: pass\na = A()\ndef f(x): return a\n")[0].__class__.__name__ == "A"  # cannot be kept
    assert len([*(tmp_path / "kept").iterdir()]) == 2
