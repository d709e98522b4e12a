"""Before any sample: does each problem's own solution pass here, how, and in how much CPU time?

A problem whose reference fails is broken, or this machine cannot run it (Icarus 11 cannot run two references of
VerilogEval). No sample could pass there, so it is excluded, and named in every result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import msgspec

from ibft.artifacts.rows import Problem
from ibft.execution.cache import VerdictCache
from ibft.execution.completing import complete
from ibft.execution.languages import LANGUAGES
from ibft.execution.outcome import Job, Reference
from ibft.execution.pool import Pool, PoolLike
from ibft.execution.sandbox import Limits
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.progress import task
from ibft.run.sections import JudgeConfig

__all__ = ["check_references", "run_references"]

REFERENCE_CPU_S = 120.0
"""Limit of a reference: it is not timed to be judged, but to scale the limit of its samples."""

_MORE_MEMORY = 4
"""A reference that runs out of `judge.memory_mib` is given this many times as much."""


def run_references(
    problems: Sequence[Problem], pool: PoolLike, cache: VerdictCache, settings: JudgeSettings
) -> dict[str, Reference]:
    """Return the verdict on each problem's reference, by task id; from the cache where it passed before.

    Raises:
        UserError: the tools of a language cannot be judged with.
    """
    keys = {problem.task_id: settings.reference_key(problem) for problem in problems}
    references = cache.get_many(list(keys.values()), Reference)
    missing = [problem for problem in problems if keys[problem.task_id] not in references]
    for language in sorted({problem.language for problem in missing}):
        LANGUAGES[language].try_out(settings.level)
    with task("Running references", total=len(problems), done=len(problems) - len(missing)) as progress:
        fresh = _run(missing, pool, settings.limits_of(REFERENCE_CPU_S), progress.advance)
        # No sample could pass in less than its reference needs.
        if needy := [problem for problem in missing if fresh[problem.task_id].status == "memory"]:
            more = _MORE_MEMORY * settings.config.memory_mib
            again = _run(needy, pool, settings.limits_of(REFERENCE_CPU_S, more), lambda: None)
            fresh |= {key: msgspec.structs.replace(verdict, memory_mib=more) for key, verdict in again.items()}
    cache.put_many({keys[task_id]: reference for task_id, reference in fresh.items() if reference.passed})
    return {task_id: fresh.get(task_id) or references[key] for task_id, key in keys.items()}


def _run(
    problems: Sequence[Problem], pool: PoolLike, limits: Limits, advance: Callable[[], None]
) -> dict[str, Reference]:
    jobs = ((problem.task_id, Job(problem=problem, limits=limits)) for problem in problems)
    verdicts: dict[str, Reference] = {}
    with contextlib.closing(pool.run(jobs)) as outcomes:
        for task_id, reference in outcomes:
            assert isinstance(reference, Reference)
            verdicts[task_id] = reference
            advance()
    return verdicts


def check_references(problems: Sequence[Problem], config: JudgeConfig | None = None) -> dict[str, Reference]:
    """Run the reference solution of each problem on this machine. One that fails is broken, or cannot run here.

    Args:
        problems: with tests.
        config: limits, sandbox and the number of workers.

    Raises:
        UserError: no sandbox works here, a tool is missing, or a problem could not be judged as meant.
    """
    completed = [complete(problem) for problem in problems]
    settings = resolve_settings(config or JudgeConfig())
    with Pool(settings.num_workers, settings.level) as pool, VerdictCache(None) as cache:
        return run_references(completed, pool, cache, settings)
