"""One row per arm, seed and problem, for statistics: how many samples were judged, and how many passed."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Status
from ibft.artifacts.writers.judged import UNJUDGED, Judged

__all__ = ["ProblemRow", "write"]


class ProblemRow(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts on an arm's samples of one problem.

    `n` counts those that were judged, `c` those of them that passed, `num_weak` those whose candidate could have seen
    its tests; `statuses` counts all by `rows.Status`. `n` is 0 where there are no samples, or the problem is excluded.
    """

    arm: str
    seed: int | None
    problems: str
    task_id: str
    n: int
    c: int
    num_weak: int
    statuses: dict[Status, int]


def write(judged: Judged, path: Path) -> None:
    """Write a row for each problem, in the benchmark's order.

    Raises:
        UserError: the file cannot be written.
    """
    statuses: defaultdict[str, Counter[Status]] = defaultdict(Counter)
    num_weak: Counter[str] = Counter()
    for result in judged.results():
        statuses[result.task_id][result.status] += 1
        num_weak[result.task_id] += result.is_weak
    rows = (
        ProblemRow(
            arm=judged.arm,
            seed=judged.seed,
            problems=judged.source,
            task_id=task_id,
            n=sum(count for status, count in statuses[task_id].items() if status not in UNJUDGED),
            c=statuses[task_id]["passed"],
            num_weak=num_weak[task_id],
            statuses=dict(statuses[task_id]),
        )
        for task_id in judged.problems
    )
    write_rows(path, rows)
