"""Generations of bigcode-evaluation-harness (`generations_TASK.json`): a list of answers per problem, by position."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.rows import Problem, Sample

__all__ = ["TOOL", "generated_samples"]

TOOL = "generations of bigcode-evaluation-harness"


def generated_samples(generations: Sequence[Sequence[str]], tasks: Tasks) -> Iterator[tuple[str, Sample]]:
    """Yield the answers, each with its place.

    A run may have asked a part of the problems (`--limit`, `--limit_start`), which the file does not say: the answers
    begin with their prompts, or define the functions that were asked for.

    Raises:
        ValueError: the problems that the lists belong to cannot be told.
    """
    problems = list(tasks.problems.values())
    start = _start(generations, tasks, problems)
    for number, answers in enumerate(generations):
        problem = problems[start + number]
        for text in answers:
            yield f"item {number + 1}", _sample(text, problem)


def _sample(text: str, problem: Problem) -> Sample:
    prompt = problem.prompt.strip()
    # Of MultiPL-E, answers end before the brace that closes their function: it is in the tests.
    if problem.language != "python" and text.lstrip().startswith(prompt):
        return Sample(task_id=problem.task_id, completion=text.lstrip().removeprefix(prompt))
    if prompt in text or _defines(text, problem):
        return Sample(task_id=problem.task_id, solution=text)
    return Sample(task_id=problem.task_id, completion=text)


def _start(generations: Sequence[Sequence[str]], tasks: Tasks, problems: Sequence[Problem]) -> int:
    """Return the position in the benchmark of the problem that the first list belongs to."""
    positions = {problem.task_id: position for position, problem in enumerate(problems)}
    found = ((number, tasks.by_text(answers[0])) for number, answers in enumerate(generations) if answers)
    starts = {positions[task_id] - number for number, task_id in found if task_id is not None}
    if not starts and (len(generations) == len(problems) or _all_define(generations, problems)):
        return 0
    if len(starts) == 1 and 0 <= (start := starts.pop()) <= len(problems) - len(generations):
        return start
    raise ValueError(
        f"{len(generations)} lists of generations, which are told apart by position alone, do not fit the "
        f"{len(problems)} problems: judge with the benchmark that they were made for, or give each row a `task_id`"
    )


def _all_define(generations: Sequence[Sequence[str]], problems: Sequence[Problem]) -> bool:
    pairs = zip(generations, problems, strict=False)
    return len(generations) <= len(problems) and all(
        _defines(answers[0], problem) for answers, problem in pairs if answers
    )


def _defines(text: str, problem: Problem) -> bool:
    return bool(problem.entry_point and re.search(rf"\b(?:def|module)\s+{re.escape(problem.entry_point)}\b", text))
