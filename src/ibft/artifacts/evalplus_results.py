"""EvalPlus's own file of results (`*_eval_results.json`, EvalPlus 0.3.1, evaluate.py): reading and writing it.

    {"date": "...", "hash": "...", "eval": {TASK_ID: [{"task_id", "solution", "base_status", "plus_status",
                                                       "base_fail_tests", "plus_fail_tests"}, ...]}}

A status is pass, fail or timeout, and null where these tests were not run. EvalPlus counts a sample as passed where
both are pass, or the base tests alone with `--base-only`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from ibft.artifacts.json_lines import read_content
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.errors import UserError

__all__ = ["read_evalplus_results", "to_evalplus_results"]

EvalPlusStatus = Literal["pass", "fail", "timeout"]


class _Judged(msgspec.Struct, frozen=True):
    base_status: EvalPlusStatus
    plus_status: EvalPlusStatus | None = None  # with --base-only there is none


class _File(msgspec.Struct, frozen=True):
    eval: dict[str, list[_Judged]]


def read_evalplus_results(path: str | os.PathLike[str]) -> Iterator[tuple[str, bool]]:
    """Yield each sample's task id, and whether it passed: base and plus tests, or the base tests if only they ran.

    Raises:
        UserError: the file is missing, or is not in this form.
    """
    data = read_content(path)
    try:
        content = msgspec.json.decode(data, type=_File)
    # For bytes that are not UTF-8 msgspec raises Python's error, not its own.
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Expected the eval_results.json of EvalPlus 0.3.") from None
    for task_id, samples in content.eval.items():
        for sample in samples:
            yield task_id, sample.base_status == "pass" and sample.plus_status in ("pass", None)


def to_evalplus_results(
    samples: Iterable[Sample],
    results: Iterable[Result],
    problems: Mapping[str, Problem],
    *,
    dataset_hash: str = "",
    date: datetime.datetime | None = None,
) -> dict[str, Any]:
    """Return the results in EvalPlus's form, as what `json.dump` takes; failing inputs are not recorded.

    Args:
        samples: what was judged.
        results: one for each sample, in the same order.
        problems: by task id; their prompts complete a completion to a whole solution.
        dataset_hash: EvalPlus's MD5 of the data set file.
        date: when it was judged; now by default.

    Raises:
        ValueError: samples and results do not belong together.
        UserError: a result is missing, since the sandbox failed on the sample or the problem was excluded.
    """
    tasks: dict[str, list[dict[str, Any]]] = {}
    for sample, result in zip(samples, results, strict=True):
        if sample.task_id != result.task_id:
            raise ValueError(f"a sample of {sample.task_id} was given a result of {result.task_id}")
        if result.status in ("infrastructure_error", "excluded"):
            raise UserError(
                f"{result.task_id} was not judged ({result.result}), which EvalPlus's form cannot say. Judge again, "
                "or leave the problem out of the samples."
            )
        # EvalPlus's `solution` is a whole program.
        prompt = problems[sample.task_id].prompt if sample.completion is not None else ""
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
    # In the form that EvalPlus writes.
    when = date or datetime.datetime.now()
    return {"date": when.strftime("%Y-%m-%d %H:%M"), "hash": dataset_hash, "eval": tasks}


def _statuses(result: Result) -> tuple[EvalPlusStatus, EvalPlusStatus | None]:
    """Return the status of the base tests and of the plus tests."""
    failed: EvalPlusStatus = "timeout" if result.status in ("timeout_cpu", "timeout_wall") else "fail"
    last = "pass" if result.passed else failed
    # The base tests come first and the first failure ends a sample, so the plus tests of a sample that failed in them
    # were never run. EvalPlus counts null as not passed. Problems without plus tests have null as well.
    return ("pass", last) if result.reached == "plus" else (last, None)
