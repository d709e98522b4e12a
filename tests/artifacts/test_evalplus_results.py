import datetime
import json
from pathlib import Path

import pytest

from ibft.artifacts.evalplus_results import read_evalplus_results, to_evalplus_results
from ibft.artifacts.rows import Problem, Result, Sample, Status
from ibft.errors import UserError

PROBLEMS = {
    task_id: Problem(task_id=task_id, prompt=f"def {task_id}():\n", tests="assert a()", entry_point=task_id)
    for task_id in ("a", "b")
}


def result(task_id: str, status: Status, reached: str = "") -> Result:
    passed = status == "passed"
    return Result(task_id=task_id, completion="", result="why", passed=passed, status=status, reached=reached)


def test_the_form_of_evalplus() -> None:
    samples = [
        Sample(task_id="a", completion="    return 1\n"),
        Sample(task_id="b", solution="b = 1\n"),
        Sample(task_id="a", completion=""),
    ]
    results = [result("a", "passed", "plus"), result("b", "failed", "base"), result("a", "no_code")]
    when = datetime.datetime(2026, 1, 2, 3, 4)
    content = to_evalplus_results(samples, results, PROBLEMS, dataset_hash="abc", date=when)
    assert json.loads(json.dumps(content)) == content
    assert (content["date"], content["hash"]) == ("2026-01-02 03:04", "abc")
    assert content["eval"]["a"] == [
        {
            "task_id": "a",
            "solution": "def a():\n    return 1\n",
            "base_status": "pass",
            "plus_status": "pass",
            "base_fail_tests": [],
            "plus_fail_tests": [],
        },
        {
            "task_id": "a",
            "solution": "def a():\n",
            "base_status": "fail",
            "plus_status": None,
            "base_fail_tests": [],
            "plus_fail_tests": [],
        },
    ]
    assert content["eval"]["b"][0]["solution"] == "b = 1\n"


@pytest.mark.parametrize(
    ("status", "reached", "expected"),
    [
        ("passed", "plus", ("pass", "pass")),
        ("passed", "", ("pass", None)),
        ("failed", "plus", ("pass", "fail")),
        ("failed", "base", ("fail", None)),
        ("timeout_cpu", "plus", ("pass", "timeout")),
        ("timeout_wall", "base", ("timeout", None)),
        ("syntax_error", "", ("fail", None)),
        ("cheating_refused", "base", ("fail", None)),
    ],
)
def test_statuses(status: Status, reached: str, expected: tuple[str, str | None]) -> None:
    sample = Sample(task_id="a", solution="")
    [row] = to_evalplus_results([sample], [result("a", status, reached)], PROBLEMS)["eval"]["a"]
    assert (row["base_status"], row["plus_status"]) == expected


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    samples = [Sample(task_id="a", solution="x"), Sample(task_id="b", solution="x"), Sample(task_id="a", solution="x")]
    results = [result("a", "passed", "plus"), result("b", "passed"), result("a", "failed", "plus")]
    path = tmp_path / "samples_eval_results.json"
    path.write_text(json.dumps(to_evalplus_results(samples, results, PROBLEMS)))
    assert list(read_evalplus_results(path)) == [("a", True), ("a", False), ("b", True)]


@pytest.mark.parametrize("status", ["infrastructure_error", "excluded"])
def test_what_was_not_judged_is_refused(status: Status) -> None:
    with pytest.raises(UserError, match=r"a was not judged \(why\)"):
        to_evalplus_results([Sample(task_id="a", solution="")], [result("a", status)], PROBLEMS)


def test_results_of_other_samples_are_refused() -> None:
    sample = Sample(task_id="a", solution="")
    with pytest.raises(ValueError, match="a sample of a was given a result of b"):
        to_evalplus_results([sample], [result("b", "passed")], PROBLEMS)
    with pytest.raises(ValueError, match="shorter"):
        to_evalplus_results([sample], [], PROBLEMS)
