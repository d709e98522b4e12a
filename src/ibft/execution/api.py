"""Judging from a program of your own: a problem and an answer in, a verdict out.

    from ibft import Pool, execute
    from ibft.problems.loading import load_problems

    problem = load_problems("humaneval")[0]
    execute(problem, "    return True\\n").status  # 'failed'

Many answers, in as many processes as there are cores: `with Pool() as pool: execute_all(pairs, pool=pool)`. Beside
other work of an event loop: `await execute_async(problem, answer, pool=pool)`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping

from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution.cache import VerdictCache
from ibft.execution.completing import complete
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import FuturePool, Pool, PoolLike
from ibft.execution.references import REFERENCE_CPU_S, run_references
from ibft.execution.run import without_running
from ibft.execution.sandbox import Limits
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.run.sections import JudgeConfig
from ibft.text.answers import extract_sample

__all__ = ["execute", "execute_all", "execute_async", "jobs_of"]


def execute(
    problem: Problem, answer: str | Sample, *, limits: Limits | None = None, pool: PoolLike | None = None
) -> Outcome:
    """Run one answer against its problem's tests, in the sandbox, and return the verdict.

    Starting a pool takes half a second: to judge more than once, keep one, or call `execute_all`.

    Args:
        problem: its reference is run first, and decides the limits and where the tests run.
        answer: a model's text after the problem's prompt or in a chat, or a sample: the program in it is judged.
        limits: of the answer; by default those of `ibft judge`.
        pool: judges it; by default one process of this machine.

    Raises:
        UserError: no sandbox works here, the language is not known, its tools are missing, or the problem could not be
            judged as meant (see "What is refused" in docs/problems.md).
    """
    return execute_all([(problem, answer)], limits=limits, pool=pool)[0]


def execute_all(
    answers: Iterable[tuple[Problem, str | Sample]],
    *,
    limits: Limits | None = None,
    pool: PoolLike | None = None,
    references: Mapping[str, Reference] | None = None,
) -> list[Outcome]:
    """Run answers against their problems' tests; the outcomes are in the order of the answers.

    An answer to a problem whose own reference does not pass here is not run (`excluded`).

    Args:
        answers: each with its problem; task ids must tell problems apart.
        limits: for every answer; by default those of `ibft judge`.
        pool: judges them; by default the processes of this machine.
        references: of `check_references`, by task id, so that they are not run again in each call.

    Raises:
        UserError: see `execute`.
    """
    pairs = [(_completed(problem), answer) for problem, answer in answers]
    settings = resolve_settings(JudgeConfig())
    problems = {problem.task_id: problem for problem, _ in pairs}
    outcomes: dict[int, Outcome] = {}
    with contextlib.ExitStack() as cleanup:
        if pool is None:
            pool = cleanup.enter_context(Pool(min(settings.num_workers, max(1, len(pairs)))))
        if references is None:
            references = run_references(list(problems.values()), pool, VerdictCache(None), settings)
        jobs = jobs_of(pairs, references, limits, settings, outcomes)
        for position, outcome in cleanup.enter_context(contextlib.closing(pool.run(jobs))):
            assert isinstance(outcome, Outcome)
            outcomes[position] = outcome
    return [outcomes[position] for position in range(len(pairs))]


async def execute_async(
    problem: Problem,
    answer: str | Sample,
    *,
    pool: FuturePool,
    limits: Limits | None = None,
    references: Mapping[str, Reference] | None = None,
) -> Outcome:
    """Run one answer against its problem's tests while the event loop does other work.

    Cancelling the task ends the run, as `asyncio.timeout` or a failing task group does.

    Args:
        problem: its reference is run first, unless `references` has it.
        answer: see `execute`.
        pool: judges it, and takes as many answers at once as are awaited.
        limits: of the answer; by default those of `ibft judge`.
        references: of `check_references`, by task id.

    Raises:
        UserError: see `execute`.
    """
    settings = resolve_settings(JudgeConfig())
    problem = _completed(problem)
    if references is None:
        job = Job(problem=problem, limits=settings.limits_of(REFERENCE_CPU_S))
        reference = await asyncio.wrap_future(pool.submit(job))
        assert isinstance(reference, Reference)
        references = {problem.task_id: reference}
    outcomes: dict[int, Outcome] = {}
    for _, job in jobs_of([(problem, answer)], references, limits, settings, outcomes):
        outcome = await asyncio.wrap_future(pool.submit(job))
        assert isinstance(outcome, Outcome)
        return outcome
    return outcomes[0]


def _completed(problem: Problem) -> Problem:
    try:
        return complete(problem)
    except ValueError as error:
        raise UserError(f"judge: {error}") from None


def jobs_of(
    pairs: Iterable[tuple[Problem, str | Sample]],
    references: Mapping[str, Reference],
    limits: Limits | None,
    settings: JudgeSettings,
    outcomes: dict[int, Outcome],
) -> Iterator[tuple[int, Job]]:
    """Yield the jobs of the answers that have to be run, by position; fill in the outcomes of the others."""
    for position, (problem, answer) in enumerate(pairs):
        raw = Sample(task_id=problem.task_id, completion=answer) if isinstance(answer, str) else answer
        sample, reference = extract_sample(raw, problem), references[problem.task_id]
        if (outcome := without_running(sample, reference)) is not None:
            outcomes[position] = outcome
        else:
            wanted = limits or settings.limits(problem, reference)
            yield position, Job(problem=problem, limits=wanted, sample=sample, reference=reference)
