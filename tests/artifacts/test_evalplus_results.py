import json
from pathlib import Path

import pytest

from ibft.artifacts.evalplus_results import read_evalplus_results
from ibft.errors import UserError


def test_a_sample_passed_with_both_kinds_of_tests_or_with_the_base_tests_if_only_they_ran(tmp_path: Path) -> None:
    statuses = [("pass", "pass"), ("pass", "fail"), ("fail", None), ("pass", None), ("timeout", None)]
    rows = [{"task_id": "a", "base_status": base, "plus_status": plus} for base, plus in statuses]
    path = tmp_path / "samples_eval_results.json"
    path.write_text(json.dumps({"date": "", "hash": "", "eval": {"a": rows, "b": [{"base_status": "pass"}]}}))
    assert [passed for _, passed in read_evalplus_results(path)] == [True, False, False, True, False, True]
    assert [task_id for task_id, _ in read_evalplus_results(path)] == ["a"] * 5 + ["b"]


@pytest.mark.parametrize("content", [b"[]", b'{"eval": {"a": [{"base_status": "right"}]}}', b'{"eval": "\xe9"}'])
def test_what_is_not_in_the_form_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "samples_eval_results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"Expected the eval_results\.json of EvalPlus"):
        list(read_evalplus_results(path))
