"""Results as a log of Inspect (version 2 of its JSON format, as inspect_ai 0.3 reads it), with one scorer, `ibft`."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import write_atomically
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.artifacts.writers.judged import UNJUDGED, Judged

__all__ = ["write"]

_SCORER = "ibft"


def write(judged: Judged, path: Path) -> None:
    """Write the log. A sample that was not judged has no score, and is not in the accuracy.

    Raises:
        UserError: the file cannot be written.
    """
    samples = [_sample(judged, sample, result) for sample, result in judged.rows()]
    scores = [sample["scores"][_SCORER]["value"] == "C" for sample in samples if sample["scores"]]
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "created": created,
            "task": judged.source,
            "dataset": {"name": judged.source, "samples": len(judged.problems), "sample_ids": list(judged.problems)},
            "model": judged.arm,
            "config": {"epochs": max(Counter(sample["id"] for sample in samples).values(), default=1)},
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(scores),
            "scores": [
                {
                    "name": _SCORER,
                    "scorer": _SCORER,
                    "scored_samples": len(scores),
                    "unscored_samples": len(samples) - len(scores),
                    "metrics": {"accuracy": {"name": "accuracy", "value": sum(scores) / len(scores)}} if scores else {},
                }
            ],
        },
        "stats": {"started_at": created, "completed_at": created},
        "samples": samples,
    }
    write_atomically(path, msgspec.json.encode(log))


def _sample(judged: Judged, sample: Sample, result: Result) -> dict[str, Any]:
    problem: Problem = judged.problems[sample.task_id]
    message = {"role": "assistant", "content": result.completion}
    reason = "max_tokens" if sample.finish_reason == "length" else "stop"
    score = {"value": "C" if result.passed else "I", "answer": result.completion, "explanation": result.result}
    return {
        "id": sample.task_id,
        "epoch": result.index + 1,
        "input": problem.prompt,
        "target": problem.canonical_solution or "",
        "messages": [{"role": "user", "content": problem.prompt}, message],
        "output": {
            "model": judged.arm,
            "choices": [{"message": message, "stop_reason": reason}],
            "completion": result.completion,
        },
        "scores": {} if result.status in UNJUDGED else {_SCORER: score},
        "metadata": {"status": result.status, "is_weak": result.is_weak},
    }
