"""LiveCodeBench, APPS and Codeforces: small files of our own in their layouts, loaded and judged."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Case, Problem, Result, Sample
from ibft.errors import UserError
from ibft.execution.inside import lockdown
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import check_problems, judge_file

needs_landlock = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")


def packed(tests: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def stdin(given: str, expected: str) -> dict[str, str]:
    return {"input": given, "output": expected, "testtype": "stdin"}


def call(given: str, expected: str) -> dict[str, str]:
    return {"input": given, "output": expected, "testtype": "functional"}


PROGRAM = {
    "question_title": "Double",
    "question_content": 'Double the "number" \\n.',
    "platform": "atcoder",
    "question_id": "abc900_a",
    "contest_id": "abc900",
    "contest_date": "2024-08-03T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([stdin("2\n", "4\n")]),
    "private_test_cases": packed([stdin("5\n", "10\n"), stdin("0\n", "0\n")]),
    "metadata": "{}",
}
FUNCTION = {
    **PROGRAM,
    "question_id": "9001",
    "platform": "leetcode",
    "difficulty": "hard",
    "contest_date": "2025-01-05T10:30:00",
    "starter_code": "class Solution:\n    def pairs(self, xs: List[int], k: int) -> List[int]:\n        ",
    "public_test_cases": json.dumps([call("[1, 2]\n3", "[3, 6]")]),
    "private_test_cases": json.dumps(
        [call("[]\n3", "[]"), call("[12345678901234567890]\n1", "[12345678901234567890]")]
    ),
    "metadata": json.dumps({"func_name": "pairs"}),
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def statuses(source: str, samples: Sequence[Sample], folder: Path) -> list[str]:
    write_rows(folder / "samples.jsonl", samples)
    config = JudgeConfig(workers=1, cache=False)
    judge_file(source, folder / "samples.jsonl", folder / "out", config, (1,), resamples=10)
    return [result.status for result in read_rows(folder / "out" / "results.jsonl", Result)]


def test_a_problem_of_standard_input_has_its_public_and_private_tests(tmp_path: Path) -> None:
    [problem] = load_problems(f"livecodebench:{write(tmp_path / 'test.jsonl', PROGRAM)}")
    assert problem.task_id == "abc900_a"
    assert problem.io == (Case("2\n", "4\n"), Case("5\n", "10\n"), Case("0\n", "0\n"))
    assert (problem.comparison, problem.tests, problem.entry_point) == ("lines", "", "")
    namespace: dict[str, str] = {}
    exec(problem.prompt, namespace)
    assert namespace["__doc__"].strip().startswith(PROGRAM["question_content"])


@needs_landlock
def test_programs_are_judged_as_livecodebench_does(tmp_path: Path) -> None:
    answers = {
        "print(int(input()) * 2)": "passed",
        "Think.\n```python\nn = int(input())\nif __name__ == '__main__':\n    print(2.0 * n)\n```\nDone.": "passed",
        "stack: List[int] = [deque([int(input())]).pop()]\nprint(stack[0] * 2)": "passed",  # nothing is imported
        "def f(n):\n    return n and 2 + f(n - 1)\nf(2000)\nprint(f(int(input())))": "passed",  # 50,000 deep
        "print(4)": "failed",
        "print(f'{int(input()) * 2} ', 1, sep='\\n')": "failed",
    }
    source = f"livecodebench:{write(tmp_path / 'test.jsonl', PROGRAM)}"
    samples = [Sample(task_id="abc900_a", solution=answer) for answer in answers]
    samples += [Sample(task_id="abc900_a", completion=answer) for answer in answers]
    assert statuses(source, samples, tmp_path) == [*answers.values()] * 2


@needs_landlock
def test_functions_are_judged_as_livecodebench_does(tmp_path: Path) -> None:
    bodies = {
        "return [x * k for x in xs]": "passed",
        "return tuple(x * k for x in xs)": "passed",  # what JSON expects is never a tuple
        "return [float(x * k) for x in xs]": "failed",  # 10 ** 20 + 1 is no float
        "return [[x * k] for x in xs]": "failed",
        "print([x * k for x in xs])": "failed",
        "class Equal(list):\n            def __eq__(self, other): return True\n        return Equal()": "failed",
    }
    source = f"livecodebench:{write(tmp_path / 'test.jsonl', FUNCTION)}"
    texts = [f"```python\n{FUNCTION['starter_code']}{body}\n```" for body in bodies]
    texts.append("def pairs(xs, k):\n    return [x * k for x in xs]\n")  # without the class
    samples = [Sample(task_id="9001", solution=text) for text in texts]
    assert statuses(source, samples, tmp_path) == [*bodies.values(), "passed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ["abc900_a", "9001"]),
        ("?since=2024-08-03", ["abc900_a", "9001"]),
        ("?since=2024-08-04", ["9001"]),
        ("?until=2025-01-04", ["abc900_a"]),
        ("?since=2024-08-01&until=2025-01-05", ["abc900_a", "9001"]),
        ("?platform=leetcode", ["9001"]),
        ("?difficulty=easy&since=2024-01-01", ["abc900_a"]),
    ],
)
def test_a_window_of_dates_and_kinds_is_chosen(tmp_path: Path, options: str, expected: list[str]) -> None:
    write(tmp_path / "test.jsonl", PROGRAM)
    write(tmp_path / "test2.jsonl", FUNCTION)
    problems = load_problems(f"livecodebench:{tmp_path}{options}")
    assert [problem.task_id for problem in problems] == expected


class _Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('it was run')",))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(_Hostile()))).decode()}, "",
         r"line 1: private_test_cases cannot be unpacked \(it calls for builtins.exec"),
        ({"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps([1]))).decode()}, "", "something else"),
        ({"private_test_cases": "&&&"}, "", "cannot be unpacked"),
        ({"private_test_cases": packed({"a": 1})}, "", "line 1: .*Expected `array`"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "", "no test cases"),
        ({"public_test_cases": json.dumps([call("[1", "1")])}, "", "line 1: .*Expecting"),
        ({"public_test_cases": json.dumps([call("1", "1")])}, "", "line 1: .*Expecting value"),
        ({"public_test_cases": json.dumps([call("1", "1")]), "private_test_cases": "",
          "metadata": '{"func_name": "f()"}'}, "", r"'f\(\)' is not a function's name"),
        ({"question_id": None}, "", "line 1: .*question_id"),
        ({"contest_date": "May"}, "", "line 1: .*May"),
        ({}, "?since=May", "since=May is not a day"),
        ({}, "?since=2026-01-01", "no LiveCodeBench problems of that time"),
        ({}, "?from=2024-01-01", "no option 'from=2024-01-01'. Its options are since, until, platform, difficulty"),
        ({}, "?since", "no option 'since'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path: Path, change: dict[str, object], options: str, message: str) -> None:
    path = write(tmp_path / "test.jsonl", {**PROGRAM, **change})
    with pytest.raises(UserError, match=message):
        load_problems(f"livecodebench:{path}{options}")


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no test\*.jsonl"):
        load_problems(f"livecodebench:{tmp_path}")


APPS = {
    "problem_id": 3,
    "question": "Halve it.",
    "solutions": json.dumps(["print(int(input()) / 2)\n"]),
    "input_output": json.dumps({"inputs": ["3\n", ["5"]], "outputs": ["1.5\n", ["2.5"]]}),
    "difficulty": "interview",
    "url": "",
    "starter_code": "",
}
METHOD = {
    **APPS,
    "problem_id": 4,
    "starter_code": "class Solution:\n    def swap(self, pair: List[int]) -> List[int]:\n",
    "solutions": json.dumps(["class Solution:\n    def swap(self, pair):\n        return pair[1], pair[0]\n"]),
    "input_output": json.dumps({"fn_name": "swap", "inputs": [[[1, 2]]], "outputs": [[[2, 1]]]}),
}
COUNT = {
    **APPS,
    "id": 5,
    "starter_code": "def count(table):\n\t",
    "solutions": json.dumps(["def count(table):\n    return sum(table)\n"]),
    "input_output": json.dumps({"fn_name": "count", "inputs": [[{"1": 2, "3": 4}]], "outputs": [4]}),
}


@needs_landlock
def test_apps_has_programs_methods_and_functions_with_references(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", APPS, METHOD, COUNT, {**APPS, "problem_id": 6, "input_output": ""})
    source = f"apps:{path}"
    problems = load_problems(source)
    assert [problem.task_id for problem in problems] == ["APPS/3", "APPS/4", "APPS/5"]
    assert [problem.entry_point for problem in problems] == ["", "Solution", "count"]
    assert problems[0].io == (Case("3\n", "1.5\n"), Case("5", "2.5"))
    references = check_problems(source, JudgeConfig(workers=1, cache=False))
    assert {task_id: reference.message for task_id, reference in references.items()} == dict.fromkeys(
        ("APPS/3", "APPS/4", "APPS/5"), "passed"
    )
    assert load_problems(f"{source}?difficulty=interview") == problems
    samples = [
        Sample(task_id="APPS/3", completion="print(round(int(input()) / 2 + 1e-9, 9))\n"),
        Sample(task_id="APPS/3", completion="print(int(input()) // 2)\n"),
        Sample(task_id="APPS/4", completion="class Solution:\n    def swap(self, pair):\n        return pair[::-1]\n"),
        Sample(task_id="APPS/4", completion="class Solution:\n    def swap(self, pair):\n        return pair\n"),
        Sample(task_id="APPS/5", completion="def count(table):\n    return max(table) + 1\n"),
    ]
    assert statuses(source, samples, tmp_path) == ["passed", "failed", "passed", "failed", "passed"]


CODEFORCES = {
    "id": "900/A",
    "title": "Any divisor",
    "description": "Print a divisor above 1.",
    "input_format": "n",
    "examples": [{"input": "6\n", "output": "3\n"}],
    "official_tests": [{"input": "6\n", "output": "3\n"}, {"input": "49\n", "output": "7\n"}],
    "generated_checker": "import sys\n\ndef check(n, d):\n    return d > 1 and n % d == 0\n\n"
    "n, d = (int(open(sys.argv[place]).read()) for place in (1, 3))\nprint(100 if check(n, d) else 0)\n",
    "time_limit": 5.0,
    "memory_limit": 256.0,
    "input_mode": "stdio",
    "interaction_format": None,
}


@needs_landlock
def test_codeforces_problems_have_checkers_and_time_limits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = [{"interaction_format": "Ask."}, {"input_mode": "file"}, {"official_tests": None, "examples": None}]
    path = write(tmp_path / "rows.jsonl", CODEFORCES, *({**CODEFORCES, **change} for change in others))
    [problem] = load_problems(f"codeforces:{path}")
    assert "3 problems are left out" in caplog.text
    assert (problem.task_id, problem.time_limit_s, len(problem.io)) == ("900/A", 5.0, 2)
    samples = [
        Sample(task_id="900/A", completion="n = int(input())\nprint(2 if n == 6 else n)\n"),
        Sample(task_id="900/A", completion="print(3)\n"),
        Sample(task_id="900/A", completion="print(input(), 0)\n"),
    ]
    assert statuses(f"codeforces:{path}", samples, tmp_path) == ["passed", "failed", "failed"]


def test_limits_of_a_problem_raise_those_of_the_judge() -> None:
    from ibft.execution.outcome import Reference
    from ibft.execution.settings import JudgeSettings

    settings = JudgeSettings(JudgeConfig(timeout_s=3), "landlock", 1)
    reference = Reference(status="passed", message="", cpu_time_s=0.1)
    for time_limit_s, cpu_s in ((0.0, 3.0), (1.0, 3.0), (8.0, 8.0)):
        problem = Problem(task_id="t", prompt="", io=(Case("", "1"),), time_limit_s=time_limit_s)
        assert settings.limits(problem, reference).cpu_s == cpu_s
