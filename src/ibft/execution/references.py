"""Before any sample: does each problem's own solution pass here, how, and in how much CPU time?

A problem whose reference fails is broken, or this machine cannot run it (Icarus 11 lacks what two references of
VerilogEval need). No sample could pass there, so it is excluded, and named in every result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from ibft.artifacts.rows import Problem
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import LocalPool, Pool
from ibft.execution.sandbox import Limits
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.progress import task
from ibft.run.sections import JudgeConfig

__all__ = ["check_references", "run_references"]

REFERENCE_CPU_S = 120.0
"""What a reference may use: it is not timed to be judged, but to scale what its samples may use."""


def run_references(
    problems: Sequence[Problem], pool: Pool, cache: VerdictCache, settings: JudgeSettings
) -> dict[str, Reference]:
    """Return what came of the reference of each problem, by task id; from the cache where it passed before."""
    keys = {problem.task_id: settings.reference_key(problem) for problem in problems}
    known = _decoded(cache.get_many(list(keys.values())))
    found = {task_id: known[key] for task_id, key in keys.items() if key in known}
    missing = [problem for problem in problems if problem.task_id not in found]
    if not missing:
        return {problem.task_id: found[problem.task_id] for problem in problems}
    limits = Limits(
        cpu_s=REFERENCE_CPU_S, wall_s=settings.wall_s(REFERENCE_CPU_S), memory_mib=settings.config.memory_mib
    )
    jobs = ((problem.task_id, Job(problem=problem, limits=limits)) for problem in missing)
    fresh: dict[str, Reference] = {}
    with (
        task("Running references", total=len(problems), done=len(found)) as progress,
        contextlib.closing(pool.run(jobs)) as outcomes,
    ):
        for task_id, reference in outcomes:
            assert isinstance(reference, Reference)
            fresh[task_id] = reference
            progress.advance()
    cache.put_many({keys[task_id]: _encoded(reference) for task_id, reference in fresh.items() if reference.passed})
    return {problem.task_id: (found | fresh)[problem.task_id] for problem in problems}


def check_references(problems: Sequence[Problem], config: JudgeConfig | None = None) -> dict[str, Reference]:
    """Run the reference solution of each problem on this machine: what does not pass is broken, or cannot run here.

    Args:
        problems: with tests.
        config: limits, sandbox and the number of workers.

    Raises:
        UserError: no sandbox works here, or a tool is missing.
    """
    settings = resolve_settings(config or JudgeConfig())
    with LocalPool(settings.num_workers, settings.level) as pool, VerdictCache(None) as cache:
        return run_references(problems, pool, cache, settings)


def _decoded(values: Mapping[str, bytes]) -> dict[str, Reference]:
    return {key: msgspec.json.decode(value, type=Reference) for key, value in values.items()}


def _encoded(value: Reference | Outcome) -> bytes:
    return msgspec.json.encode(value)
