"""Before any sample: does each problem's own solution pass here, how, and in how much CPU time?

A problem whose reference fails is broken, or this machine cannot run it (Icarus 11 cannot run two references of
VerilogEval). No sample could pass there, so it is excluded, and named in every result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ibft.artifacts.rows import Problem
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Job, Reference
from ibft.execution.pool import Pool, PoolLike
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.progress import task
from ibft.run.sections import JudgeConfig

__all__ = ["check_references", "run_references"]

REFERENCE_CPU_S = 120.0
"""Limit of a reference: it is not timed to be judged, but to scale the limit of its samples."""


def run_references(
    problems: Sequence[Problem], pool: PoolLike, cache: VerdictCache, settings: JudgeSettings
) -> dict[str, Reference]:
    """Return the verdict on each problem's reference, by task id; from the cache where it passed before."""
    keys = {problem.task_id: settings.reference_key(problem) for problem in problems}
    references = cache.get_many(list(keys.values()), Reference)
    missing = [problem for problem in problems if keys[problem.task_id] not in references]
    limits = settings.limits_of(REFERENCE_CPU_S)
    jobs = ((keys[problem.task_id], Job(problem=problem, limits=limits)) for problem in missing)
    fresh: dict[str, Reference] = {}
    with (
        task("Running references", total=len(problems), done=len(problems) - len(missing)) as progress,
        contextlib.closing(pool.run(jobs)) as outcomes,
    ):
        for key, reference in outcomes:
            assert isinstance(reference, Reference)
            fresh[key] = reference
            progress.advance()
    cache.put_many({key: reference for key, reference in fresh.items() if reference.passed})
    references |= fresh
    return {task_id: references[key] for task_id, key in keys.items()}


def check_references(problems: Sequence[Problem], config: JudgeConfig | None = None) -> dict[str, Reference]:
    """Run the reference solution of each problem on this machine. One that fails is broken, or cannot run here.

    Args:
        problems: with tests.
        config: limits, sandbox and the number of workers.

    Raises:
        UserError: no sandbox works here, or a tool is missing.
    """
    settings = resolve_settings(config or JudgeConfig())
    with Pool(settings.num_workers, settings.level) as pool, VerdictCache(None) as cache:
        return run_references(problems, pool, cache, settings)
