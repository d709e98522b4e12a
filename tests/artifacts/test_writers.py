"""What is written for other tools: the exact form, what no form can say, and that what is written is read again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, Result, Sample, Status
from ibft.artifacts.samples import open_samples
from ibft.artifacts.tally import read_results
from ibft.artifacts.writers import FORMS, Judged, require_forms, write_forms
from ibft.artifacts.writers.problem_rows import ProblemRow
from ibft.errors import UserError

PROBLEMS = {
    task_id: Problem(task_id=task_id, prompt=f"def {task_id}():\n", tests="assert a()", entry_point=task_id)
    for task_id in ("a", "b", "c")
}
SAMPLES = [
    Sample(task_id="a", completion="    return 1\n", index=0, finish_reason="length"),
    Sample(task_id="b", solution="b = 1\n", index=0),
    Sample(task_id="a", completion="", index=1),
]


def result(sample: Sample, status: Status, reached: str = "") -> Result:
    return Result(
        task_id=sample.task_id,
        completion=sample.text,
        result="passed" if status == "passed" else f"{status}: why",
        passed=status == "passed",
        status=status,
        index=sample.index or 0,
        is_weak=status == "passed",
        reached=reached,
    )


def judged(folder: Path, samples: Sequence[Sample], verdicts: Sequence[tuple[Status, str]]) -> Judged:
    rows = [result(sample, *verdict) for sample, verdict in zip(samples, verdicts, strict=True)]
    write_rows(folder / "results.jsonl", rows)
    return Judged("ft", 7, "toy", PROBLEMS, lambda: iter(samples), folder / "results.jsonl")


def written(folder: Path, form: str, *verdicts: tuple[Status, str], samples: Sequence[Sample] = SAMPLES) -> Path:
    write_forms([form], judged(folder, samples, verdicts), folder)
    return folder / FORMS[form][0]


VERDICTS: tuple[tuple[Status, str], ...] = (("passed", "plus"), ("timeout_cpu", "base"), ("no_code", ""))


def test_evalplus(tmp_path: Path) -> None:
    path = written(tmp_path, "evalplus", *VERDICTS)
    content = json.loads(path.read_text())
    nothing: dict[str, Any] = {"base_fail_tests": [], "plus_fail_tests": []}
    first = {"task_id": "a", "solution": "def a():\n    return 1\n", "base_status": "pass", "plus_status": "pass"}
    second = {"task_id": "a", "solution": "def a():\n", "base_status": "fail", "plus_status": None}
    assert content["eval"]["a"] == [first | nothing, second | nothing]
    assert content["eval"]["b"][0]["solution"] == "b = 1\n"
    assert sorted(content) == ["date", "eval", "hash"]
    assert [(row.task_id, row.passed) for row in read_results(path)] == [("a", True), ("a", False), ("b", False)]


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
def test_evalplus_statuses(tmp_path: Path, status: Status, reached: str, expected: tuple[str, str | None]) -> None:
    path = written(tmp_path, "evalplus", (status, reached), samples=SAMPLES[:1])
    [row] = json.loads(path.read_text())["eval"]["a"]
    assert (row["base_status"], row["plus_status"]) == expected


def test_human_eval(tmp_path: Path) -> None:
    path = written(tmp_path, "human-eval", *VERDICTS)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"task_id": "a", "completion": "    return 1\n", "result": "passed", "passed": True},
        {"task_id": "b", "completion": "b = 1\n", "result": "timed out", "passed": False},
        {"task_id": "a", "completion": "", "result": "failed: no_code: why", "passed": False},
    ]
    assert [row.passed for row in read_results(path)] == [True, False, False]


def test_inspect(tmp_path: Path) -> None:
    path = written(tmp_path, "inspect", *VERDICTS)
    log = json.loads(path.read_text())
    assert (log["eval"]["model"], log["eval"]["task"], log["eval"]["config"]["epochs"]) == ("ft", "toy", 2)
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 1 / 3
    assert [(row["id"], row["epoch"], row["scores"]["ibft"]["value"]) for row in log["samples"]] == [
        ("a", 1, "C"), ("b", 1, "I"), ("a", 2, "I"),
    ]  # fmt: skip
    read = list(open_samples(path, list(PROBLEMS.values()), "toy").read())
    assert [(sample.task_id, sample.text) for sample in read] == [(row.task_id, row.text) for row in SAMPLES]
    assert read[0].finish_reason == "length"


def test_rows_have_every_problem_and_count_what_was_judged(tmp_path: Path) -> None:
    path = written(tmp_path, "rows", ("passed", ""), ("excluded", ""), ("infrastructure_error", ""))
    assert list(read_rows(path, ProblemRow)) == [
        ProblemRow(arm="ft", seed=7, problems="toy", task_id=task_id, n=n, c=n, num_weak=n, statuses=statuses)
        for task_id, n, statuses in (
            ("a", 1, {"passed": 1, "infrastructure_error": 1}), ("b", 0, {"excluded": 1}), ("c", 0, {}),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["infrastructure_error", "excluded"])
def test_what_was_not_judged(tmp_path: Path, status: Status) -> None:
    for form in ("evalplus", "human-eval"):
        with pytest.raises(UserError, match=rf"a was not judged \({status}: why\)"):
            written(tmp_path, form, (status, ""), samples=SAMPLES[:1])
        assert not (tmp_path / FORMS[form][0]).exists()
    log = json.loads(written(tmp_path, "inspect", (status, ""), samples=SAMPLES[:1]).read_text())
    assert log["samples"][0]["scores"] == {}
    assert log["results"]["scores"][0]["metrics"] == {}


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UserError, match=r"--write evalpuls: .*evalplus, human-eval, inspect, rows"):
        require_forms(["evalplus", "evalpuls"])
