import gzip
import json
from pathlib import Path

import pytest

from ibft.artifacts.rows import Result
from ibft.artifacts.tally import ForeignResult, read_results, tally
from ibft.errors import UserError


def test_results_are_counted_by_problem_status_and_kind() -> None:
    rows = [
        Result(task_id="b", completion="", result="", passed=True, status="passed", sandbox="landlock", is_weak=True),
        Result(task_id="a", completion="", result="", passed=False, status="failed", sandbox="none", is_extracted=True),
        Result(task_id="b", completion="", result="", passed=False, status="failed", is_extracted=True),
        Result(task_id="c", completion="", result="", passed=False, status="excluded"),
    ]
    counted = tally(rows)
    assert list(counted.counts.items()) == [("b", (2, 1)), ("a", (1, 0)), ("c", (1, 0))]
    assert counted.statuses == {"passed": 1, "failed": 2, "excluded": 1}
    assert (counted.num_samples, counted.num_weak, counted.num_extracted) == (4, 1, 2)
    assert counted.excluded == {"c"}
    assert counted.sandboxes == {"landlock", "none"}
    assert tally([]).counts == {}


def test_other_readings_count_what_compiles_and_what_has_warnings() -> None:
    def result(status: str, warning: str = "") -> ForeignResult:
        return ForeignResult("a", status == "passed", status, warning=warning)

    counted = tally(
        [result("passed"), result("passed", "w"), result("failed", "w"), result("failed"), result("syntax_error")]
    )
    assert counted.num_warned == 2
    assert counted.counts == {"a": (5, 2)}
    assert counted.readings == {
        "syntax": {"a": (5, 4)},
        "warnings_pass": {"a": (5, 3)},
        "warnings_fail": {"a": (5, 1)},
    }


def test_results_of_three_tools_are_read_alike(tmp_path: Path) -> None:
    ours = {"task_id": "a", "completion": "", "result": "", "passed": True, "status": "passed", "is_weak": True}
    (tmp_path / "ours.jsonl.gz").write_bytes(gzip.compress(json.dumps(ours).encode()))
    human_eval = {"task_id": "a", "completion": "'\ud800'", "result": "passed", "passed": True}
    (tmp_path / "samples.jsonl_results.jsonl").write_text(json.dumps(human_eval))
    evalplus = {"eval": {"a": [{"base_status": "pass", "plus_status": "pass"}]}}
    (tmp_path / "samples_eval_results.json").write_text(json.dumps(evalplus))
    assert list(read_results(tmp_path / "ours.jsonl.gz")) == [ForeignResult("a", True, "passed", is_weak=True)]
    for name in ("samples.jsonl_results.jsonl", "samples_eval_results.json"):
        assert list(read_results(tmp_path / name)) == [ForeignResult("a", True)]
    (tmp_path / "samples.jsonl").write_text('\n{"task_id": "a", "completion": ""}\n')
    with pytest.raises(UserError, match=r"samples\.jsonl, line 2: .*passed.*judged first"):
        list(read_results(tmp_path / "samples.jsonl"))
