"""The judge stage: samples in, one result for each and the metrics out (`ibft.execution.judging` has the files).

`judge` takes what a run generated, `judge_file` the samples of any tool, and `check_problems` the references alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.artifacts.metrics import Metrics, require_k
from ibft.artifacts.rows import Problem
from ibft.artifacts.samples import open_samples
from ibft.artifacts.writers import Judged, require_forms, write_forms
from ibft.errors import UserError
from ibft.execution.judging import judge_into
from ibft.execution.outcome import Reference
from ibft.execution.references import check_references
from ibft.execution.settings import JudgeSettings, Judging, MetricSettings, resolve_settings
from ibft.problems.loading import load_benchmark, load_problems, select_problems
from ibft.run.digests import file_digest, folder_digest
from ibft.run.folder import RunFolder
from ibft.run.inputs import identity_of
from ibft.run.recipe import Recipe
from ibft.run.sections import JudgeConfig
from ibft.run.stage import StageRecord, mismatch, read_record

__all__ = ["check_problems", "judge", "judge_file", "judge_inputs", "load_judged", "require_tests"]


def judge(recipe: Recipe, run: RunFolder, arm: str, write: Sequence[str] = ()) -> Metrics:
    """Judge what an arm generated: `generate/<arm>/samples.jsonl` to `judge/<arm>/`.

    `arm` may also be one of `RunFolder.asked`. `write` are further forms of the results (`artifacts.writers`).

    Raises:
        UserError: a form is not known, the arm has not been generated, or the problems or samples cannot be judged.
    """
    require_forms(write)
    upstream = run.record(f"generate/{arm}")
    recipe = msgspec.structs.replace(recipe, problems=recipe.problems_of(arm))
    source = recipe.problems.source
    problems, settings = load_judged(recipe)
    path = run.path / "generate" / arm / "samples.jsonl"
    stage = run.stage(f"judge/{arm}", judge_inputs(problems, settings, upstream.identity, path))
    metric_settings = MetricSettings(recipe.report.k, recipe.seed, recipe.report.bootstrap_resamples)
    samples = open_samples(path, problems, source)
    # A complete stage too: what the sandbox failed on is tried again, and metrics that are new in the recipe are added.
    with contextlib.nullcontext(stage.path) if stage.is_complete else stage.work() as folder:
        # False: the generate stage has extracted the answers already.
        judging = Judging(problems, source, samples, False, settings, metric_settings)
        metrics = judge_into(folder, judging, f"Judging {arm}")
        write_forms(write, _judged(judging, folder, arm, recipe.seed), folder)
        return metrics


def load_judged(recipe: Recipe) -> tuple[list[Problem], JudgeSettings]:
    """Return the problems of a recipe, and how they are judged on this machine.

    Raises:
        UserError: the problems cannot be judged, or no sandbox works here.
    """
    problems = load_benchmark(recipe.problems)
    require_tests(problems, recipe.problems.source)
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
    write: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 10_000,
) -> Metrics:
    """Judge a file of samples from any tool; writes `out_dir/results.jsonl` and `out_dir/metrics.json`.

    Called again with the same samples, problems and limits it resumes where it was interrupted, and once it is
    complete only the metrics are computed (`k`, `seed` and `resamples` may then differ).

    Args:
        problems: what `load_problems` takes.
        samples_path: samples of any tool that `artifacts.readers` knows.
        out_dir: made if missing; may hold other files.
        config: workers, limits, sandbox and cache.
        k: the k of Pass@k; Pass@k^(m) is given for every m from 2 to k.
        tasks: task ids or patterns (`HumanEval/1*`); the samples of other tasks are left out. All, if empty.
        extract: auto judges the program in a raw answer (`ibft.text.answers`), none every text as it stands.
        write: further forms of the results in `out_dir`, such as `evalplus` (`artifacts.writers`).
        seed: random seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Raises:
        UserError: something cannot be read or written, the samples do not fit the problems, `out_dir` has results of
            other samples, problems or limits, or no sandbox works here.
    """
    require_k(k)
    require_forms(write)
    loaded = load_problems(problems)
    chosen = select_problems(loaded, tasks)
    require_tests(chosen, problems)
    ids = [problem.task_id for problem in chosen]
    # Options of a source choose a part, such as LiveCodeBench's contests since a day.
    samples = open_samples(Path(samples_path), loaded, problems, ids, is_part="?" in problems)
    settings = resolve_settings(config)
    folder = Path(out_dir)
    digest = folder_digest if Path(samples_path).is_dir() else file_digest
    _claim(folder, {"samples": digest(Path(samples_path)), "extract": extract, **_inputs(chosen, settings)})
    metric_settings = MetricSettings(tuple(k), seed, resamples)
    judging = Judging(chosen, problems, samples, extract == "auto", settings, metric_settings)
    metrics = judge_into(folder, judging, f"Judging {Path(samples_path).name}")
    write_forms(write, _judged(judging, folder, Path(samples_path).name.partition(".")[0], None), folder)
    return metrics


def _judged(judging: Judging, folder: Path, arm: str, seed: int | None) -> Judged:
    by_id = {problem.task_id: problem for problem in judging.problems}
    return Judged(arm, seed, judging.source, by_id, judging.answers, folder / "results.jsonl")


def check_problems(source: str, config: JudgeConfig, tasks: Sequence[str] = ()) -> dict[str, Reference]:
    """Run the reference solution of each problem: what does not pass is broken, or cannot run here.

    Raises:
        UserError: the problems cannot be read, or no sandbox works here.
    """
    problems = load_problems(source, tasks=tasks)
    require_tests(problems, source)
    return check_references(problems, config)


def require_tests(problems: Sequence[Problem], source: str) -> None:
    """Refuse problems without tests.

    Raises:
        UserError: names the first.
    """
    untested = [problem.task_id for problem in problems if not problem.tests.strip() and not problem.io]
    if untested:
        raise UserError(
            f"problems: {source} has {len(untested)} problems with empty tests (first: {untested[0]!r}), which every "
            "sample would pass. Write tests for them (or io, for programs that read standard input), or remove them."
        )


def _inputs(problems: Sequence[Problem], settings: JudgeSettings) -> dict[str, Any]:
    """Return what decides the verdicts on given samples."""
    config = settings.config
    inputs: dict[str, Any] = {
        "problems": hashlib.sha256(msgspec.json.encode(problems)).hexdigest(),
        "limits": {"timeout_s": config.timeout_s, "memory_mib": config.memory_mib},
        "sandbox": settings.level,
    }
    # Left out at their defaults: what was judged before there were any is the same.
    if config.packages:
        inputs["packages"] = sorted(config.packages)
    if config.threads:
        inputs["threads"] = True
    return inputs


def _claim(folder: Path, inputs: dict[str, Any]) -> None:
    """Mark the folder as belonging to these inputs, or find that it already does.

    Raises:
        UserError: it cannot be written, or holds results made from other inputs.
    """
    # Not a `Stage`, which gets its name by a rename: the user's folder may exist and hold other files.
    record = read_record(folder)
    if record is None:
        present = [name for name in ("results.jsonl", "metrics.json") if (folder / name).exists()]
        if present:
            raise UserError(f"{folder} already has a {present[0]} from elsewhere. Choose another --out folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be created ({error.strerror}). Choose another --out folder.") from None
        record = StageRecord(stage="judge", identity=identity_of(inputs), inputs=inputs)
        write_atomically(folder / "stage.json", pretty_json(record))
    if mismatch(folder, record, inputs):
        differing = [name for name in inputs if record.inputs.get(name) != inputs[name]]
        raise UserError(
            f"{folder} has results for other {' and '.join(differing) or 'inputs'}. "
            "Choose another --out folder, or delete this one."
        )
