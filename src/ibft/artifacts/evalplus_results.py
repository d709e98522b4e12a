"""EvalPlus's own file of results (`*_eval_results.json`, EvalPlus 0.3.1, evaluate.py): reading it, to compare.

    {"date": "...", "hash": "...", "eval": {TASK_ID: [{"task_id", "solution", "base_status", "plus_status",
                                                       "base_fail_tests", "plus_fail_tests"}, ...]}}

A status is pass, fail or timeout, and null where these tests were not run. EvalPlus counts a sample as passed where
both are pass, or the base tests alone with `--base-only`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

import msgspec

from ibft.artifacts.json_lines import read_content
from ibft.errors import UserError

__all__ = ["EvalPlusStatus", "read_evalplus_results"]

EvalPlusStatus = Literal["pass", "fail", "timeout"]
"""The verdict on a sample's base tests, or on its plus tests."""


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
