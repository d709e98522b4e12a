"""Judging from a program of your own: a problem and an answer in, a verdict out.

    from ibft.execution import execute
    from ibft.problems.loading import load_problems

    problem = load_problems("humaneval")[0]
    execute(problem, "    return True\\n").status  # 'failed'

Many answers, in as many processes as there are cores: `with local_pool() as pool: execute_all(pairs, pool=pool)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import LocalPool, Pool
from ibft.execution.references import run_references
from ibft.execution.run import without_running
from ibft.execution.sandbox import Limits
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.run.sections import JudgeConfig
from ibft.text.answers import extract_sample

__all__ = ["execute", "execute_all", "local_pool"]


def execute(
    problem: Problem, answer: str | Sample, *, limits: Limits | None = None, pool: Pool | None = None
) -> Outcome:
    """Run one answer against its problem's tests, in the sandbox, and return the verdict.

    Starting a pool takes half a second: to judge more than once, keep one, or call `execute_all`.

    Args:
        problem: its reference is run first, and decides the limits and where the tests run.
        answer: a model's text after the problem's prompt or in a chat, or a sample: the program in it is judged.
        limits: of the answer; by default those of `ibft judge`.
        pool: judges it; by default one process of this machine.

    Raises:
        UserError: no sandbox works here, the language is not known, or its tools are missing.
    """
    return execute_all([(problem, answer)], limits=limits, pool=pool)[0]


def execute_all(
    answers: Iterable[tuple[Problem, str | Sample]],
    *,
    limits: Limits | None = None,
    pool: Pool | None = None,
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
    pairs = list(answers)
    settings = resolve_settings(JudgeConfig())
    problems = {problem.task_id: problem for problem, _ in pairs}
    outcomes: dict[int, Outcome] = {}
    with contextlib.ExitStack() as cleanup:
        if pool is None:
            pool = cleanup.enter_context(local_pool(min(settings.num_workers, max(1, len(pairs)))))
        if references is None:
            references = run_references(list(problems.values()), pool, VerdictCache(None), settings)
        jobs = _jobs(pairs, references, limits, settings, outcomes)
        for position, outcome in cleanup.enter_context(contextlib.closing(pool.run(jobs))):
            assert isinstance(outcome, Outcome)
            outcomes[position] = outcome
    return [outcomes[position] for position in range(len(pairs))]


def local_pool(num_workers: int | None = None) -> LocalPool:
    """Return a pool of processes of this machine, to be used in a `with` statement.

    Args:
        num_workers: answers judged at once; by default the usable cores.

    Raises:
        UserError: no sandbox works here.
    """
    settings = resolve_settings(JudgeConfig(workers=num_workers))
    return LocalPool(settings.num_workers, settings.level)


def _jobs(
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
