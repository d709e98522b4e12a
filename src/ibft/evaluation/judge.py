"""Verdicts on answers while something else computes: a pool's processes, and one thread that waits for them."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from ibft.artifacts.evaluations import EvaluatedAnswer
from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution.cache import VerdictCache, default_cache_path
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import Pool
from ibft.execution.references import run_references
from ibft.execution.run import without_running
from ibft.execution.settings import resolve_settings
from ibft.run.provenance import usable_cores
from ibft.run.sections import JudgeConfig

__all__ = ["BackgroundJudge"]

_log = logging.getLogger(__name__)


class BackgroundJudge:
    """Judges answers one step after the other; nobody has to wait for it.

    Starting it runs the problems' references, so that what cannot be judged here is known before anything is trained.

    Args:
        problems: those that are answered.
        config: limits, sandbox and cache. `workers: null` leaves one of the usable cores to the training.

    Raises:
        UserError: no sandbox works here, its processes fail, a tool is missing, or no reference passes.
    """

    def __init__(self, problems: Sequence[Problem], config: JudgeConfig) -> None:
        workers = config.workers or max(1, usable_cores() - 1)
        self._settings = resolve_settings(msgspec.structs.replace(config, workers=workers))
        self._problems = {problem.task_id: problem for problem in problems}
        with contextlib.ExitStack() as started:
            self._pool = started.enter_context(Pool(self._settings.num_workers, self._settings.level))
            path = default_cache_path() if config.cache else None
            self._cache = started.enter_context(VerdictCache(path))
            self._references = run_references(problems, self._pool, self._cache, self._settings)
            _require_references(self._references)
            self._thread = ThreadPoolExecutor(1, "ibft-judge")
            # Also where nobody closes it, since training ended in an error: when it is forgotten, or Python ends.
            self._end = weakref.finalize(self, _end, self._thread, started.pop_all(), os.getpid())

    @property
    def excluded(self) -> dict[str, str]:
        """The task ids whose own reference does not pass here, with the reason: they count in no figure."""
        return {task_id: reference.message for task_id, reference in self._references.items() if not reference.passed}

    def submit(self, answers: Sequence[EvaluatedAnswer]) -> Future[list[EvaluatedAnswer]]:
        """Return at once; the future has the answers with their verdicts, and never fails."""
        return self._thread.submit(self._judge, list(answers))

    def close(self) -> None:
        """End the processes; what is not judged yet remains so."""
        self._end()

    def _judge(self, answers: list[EvaluatedAnswer]) -> list[EvaluatedAnswer]:
        try:
            outcomes = self._outcomes(answers)
        except Exception as error:  # an hour of training must not end with its evaluation
            _log.warning("An evaluation could not be judged: %s", error)
            failure = Outcome(status="infrastructure_error", message=f"not judged: {error or type(error).__name__}")
            outcomes = [failure] * len(answers)
        return [
            msgspec.structs.replace(answer, status=outcome.status, result=outcome.message)
            for answer, outcome in zip(answers, outcomes, strict=True)
        ]

    def _outcomes(self, answers: Sequence[EvaluatedAnswer]) -> list[Outcome]:
        """Return the verdicts in the answers' order; equal programs are run once."""
        outcomes: dict[int, Outcome] = {}
        keys: dict[int, str] = {}
        jobs: dict[str, Job] = {}
        for place, answer in enumerate(answers):
            problem, reference = self._problems[answer.task_id], self._references[answer.task_id]
            if outcome := without_running(answer, reference):
                outcomes[place] = outcome
                continue
            sample = Sample(task_id=answer.task_id, completion=answer.completion, solution=answer.solution)
            limits = self._settings.limits(problem, reference)
            keys[place] = self._settings.sample_key(problem, sample, reference)
            jobs[keys[place]] = Job(problem=problem, limits=limits, sample=sample, reference=reference)
        known = self._cache.get_many(list(jobs), Outcome)
        missing = [(key, job) for key, job in jobs.items() if key not in known]
        fresh: dict[str, Outcome] = {}
        with contextlib.closing(self._pool.run(missing)) as ended:
            for key, verdict in ended:
                assert isinstance(verdict, Outcome)
                fresh[key] = verdict
        self._cache.put_many(fresh)
        known |= fresh
        return [outcomes.get(place) or known[keys[place]] for place in range(len(answers))]


def _end(thread: ThreadPoolExecutor, resources: contextlib.ExitStack, process: int) -> None:
    if os.getpid() != process:  # a fork, such as a data loader's worker, which has neither thread nor processes
        return
    thread.shutdown(wait=False, cancel_futures=True)
    resources.close()  # ends the job that runs, for which the thread waits
    thread.shutdown(wait=True)


def _require_references(references: dict[str, Reference]) -> None:
    """Check that there is something to judge.

    Raises:
        UserError: the sandbox or its processes fail, or no reference passes.
    """
    failed = [reference for reference in references.values() if reference.status == "infrastructure_error"]
    if failed:
        raise UserError(
            f"evaluation: the sandbox fails before training begins ({failed[0].message}). Run `ibft doctor`, or train "
            "without train.evaluate_problems."
        )
    if not any(reference.passed for reference in references.values()):
        task_id, reference = next(iter(references.items()))
        raise UserError(
            f"evaluation: none of the {len(references)} problems has a reference that passes here (the first, "
            f"{task_id}: {reference.message}). Run `ibft problems check`, or choose other problems."
        )
