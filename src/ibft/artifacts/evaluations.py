"""Executed evaluations while training: a row per answer with its verdict, and the figures of a step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from ibft.artifacts.rows import Sample, Status
from ibft.statistics.uncertainty import wilson_interval

__all__ = ["EVALUATIONS_FILE", "PASS_AT_1", "EvaluatedAnswer", "evaluation_metrics"]

EVALUATIONS_FILE = "evaluations.jsonl"
PASS_AT_1 = "eval_pass@1"
"""The metric's name in `log.jsonl`; the ends of its interval are `eval_pass@1_low` and `eval_pass@1_high`."""

_NO_PROGRAM: tuple[Status, ...] = ("no_code", "syntax_error")


class EvaluatedAnswer(Sample, frozen=True, kw_only=True, omit_defaults=True):
    """One answer of the model as it was at an optimizer step: a sample, and the verdict on it.

    `status` and `result` are those of `rows.Result`; both are missing while the answer is not judged. `settings` and
    `weights` are digests of what was asked and how, and of the trained weights: equal ones give the same answers.
    """

    step: int
    status: Status | None = None
    result: str = ""
    settings: str = ""
    weights: str = ""


def evaluation_metrics(answers: Iterable[EvaluatedAnswer]) -> dict[str, float]:
    """Return what is logged of one step, by name; shares are between 0 and 1.

    `eval_pass@1` is the mean over problems of the share of a problem's answers that pass, with Wilson's 95% interval
    over problems (`_low`, `_high`), which has a width at 0 and 1, too, and is at least as wide as it has to be where a
    problem has several answers. It is NaN where the sandbox failed on an answer, which is not a failure of the model,
    and where no problem's own reference passes. `eval_programs` is the share of answers that are programs,
    `eval_unjudged` the number of those that the sandbox failed on.
    """
    judged = [answer for answer in answers if answer.status != "excluded"]
    total = Counter(answer.task_id for answer in judged)
    passed = Counter(answer.task_id for answer in judged if answer.status == "passed")
    num_unjudged = sum(answer.status in (None, "infrastructure_error") for answer in judged)
    num_passed = math.fsum(passed[task_id] / total[task_id] for task_id in total)
    is_defined = bool(total) and not num_unjudged
    interval = wilson_interval(num_passed, len(total) if is_defined else 0)
    return {
        PASS_AT_1: num_passed / len(total) if is_defined else math.nan,
        f"{PASS_AT_1}_low": interval.low,
        f"{PASS_AT_1}_high": interval.high,
        "eval_programs": (
            sum(answer.status not in _NO_PROGRAM for answer in judged) / len(judged) if judged else math.nan
        ),
        "eval_unjudged": float(num_unjudged),
    }
