"""Results as EvalPlus 0.3.1 writes them; `artifacts.evalplus_results` has the form. Failing inputs are not recorded."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.evalplus_results import EvalPlusStatus
from ibft.artifacts.json_lines import write_atomically
from ibft.artifacts.rows import Result
from ibft.artifacts.writers.judged import Judged

__all__ = ["write"]


def write(judged: Judged, path: Path) -> None:
    """Write the samples by task, each a whole program.

    Raises:
        UserError: a sample was not judged, or the file cannot be written.
    """
    tasks: dict[str, list[dict[str, Any]]] = {}
    for sample, result in judged.decided("EvalPlus"):
        prompt = judged.problems[sample.task_id].prompt if sample.completion is not None else ""
        base, plus = _statuses(result)
        tasks.setdefault(result.task_id, []).append(
            {
                "task_id": result.task_id,
                "solution": prompt + sample.text,
                "base_status": base,
                "plus_status": plus,
                "base_fail_tests": [],
                "plus_fail_tests": [],
            }
        )
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")  # as EvalPlus writes it
    write_atomically(path, msgspec.json.encode({"date": when, "hash": "", "eval": tasks}))


def _statuses(result: Result) -> tuple[EvalPlusStatus, EvalPlusStatus | None]:
    """Return the status of the base tests and of the plus tests."""
    failed: EvalPlusStatus = "timeout" if result.status in ("timeout_cpu", "timeout_wall") else "fail"
    last = "pass" if result.passed else failed
    # The base tests come first and the first failure ends a sample, so the plus tests of a sample that failed in them
    # were never run. EvalPlus counts null as not passed. Problems without plus tests have null as well.
    return ("pass", last) if result.reached == "plus" else (last, None)
