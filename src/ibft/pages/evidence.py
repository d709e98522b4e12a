"""Read what else the page shows: training logs, samples side by side, and how the run was made (the scan: scan.py).

Only the judged arms are required; a stage that has not run is None or empty here, and the page says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Result, TrainingLog
from ibft.artifacts.scan import ScanSummary
from ibft.artifacts.training import Alarm, TrainingSummary, read_training_summary
from ibft.errors import UserError
from ibft.pages.scan import SUBSET_NAMES, Scan
from ibft.problems.loading import load_benchmark
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.run.sections import DataConfig
from ibft.run.stage import StageRecord, read_record
from ibft.run.steps import STEPS

__all__ = [
    "Making",
    "ShownProblem",
    "ShownSample",
    "TrainedArm",
    "left_out",
    "read_alarms",
    "read_making",
    "read_shown_problems",
    "read_training",
    "skipped_in_scan",
]

_MAX_SHOWN_CHARACTERS = 20_000  # so that one endless answer does not make the page too large to open


class TrainedArm(NamedTuple):
    """One arm's training: what it logged, and its summary."""

    name: str
    log: list[TrainingLog]
    summary: TrainingSummary


class ShownSample(NamedTuple):
    """One arm's first sample of a problem, with the number of the arm's samples of it that passed.

    `text` is at most 20,000 characters; `num_hidden` counts the rest.
    """

    arm: str
    result: Result
    text: str
    num_hidden: int
    num_passed: int
    num_samples: int


class ShownProblem(NamedTuple):
    """A problem with the first sample of each arm; `is_contested` if one passed and another did not."""

    task_id: str
    prompt: str
    samples: list[ShownSample]
    is_contested: bool


class Making(NamedTuple):
    """The making of the run, from the stages' records: those that exist, in the order of the pipeline.

    `drift` has a sentence for each stage that was made with another setting than the recipe shown.
    """

    stages: list[StageRecord]
    versions: dict[str, str]
    machines: list[str]
    drift: list[str]


def read_training(recipe: Recipe, run: RunFolder) -> list[TrainedArm]:
    """Read the trained arms of the recipe, in its order.

    Raises:
        UserError: a log or summary is damaged.
    """
    trained = []
    for name in recipe.arms:
        folder = run.path / "train" / name
        if name != BASE_ARM and folder.exists():
            log = list(read_rows(folder / "log.jsonl", TrainingLog)) if (folder / "log.jsonl").exists() else []
            # Weights whose summary was lost are judged and shown like all others.
            summary = read_training_summary(folder) or TrainingSummary()
            trained.append(TrainedArm(name, log, summary))
    return trained


def read_alarms(recipe: Recipe, run: RunFolder) -> dict[str, list[Alarm]]:
    """Read the alarms of each arm's training, for the arms that have any.

    Raises:
        UserError: a summary is damaged.
    """
    summaries = {name: read_training_summary(run.path / "train" / name) for name in recipe.arms}
    return {name: summary.alarms for name, summary in summaries.items() if summary is not None and summary.alarms}


def read_shown_problems(recipe: Recipe, run: RunFolder, arms: Sequence[str]) -> list[ShownProblem]:
    """Return the problems to show: first those where the arms' first samples differ in verdict, then in file order.

    Args:
        recipe: `report.max_shown_samples` limits the number of problems.
        run: the run folder.
        arms: the judged arms.
    """
    by_arm = {arm: _by_problem(run.path / "judge" / arm / "results.jsonl") for arm in arms}
    verdicts: dict[str, set[bool]] = defaultdict(set)
    for results in by_arm.values():
        for task_id, of_problem in results.items():
            verdicts[task_id].add(of_problem[0].passed)
    ordered = sorted(verdicts, key=lambda task_id: len(verdicts[task_id]) < 2)  # stable: file order within each
    prompts = _prompts(recipe)
    return [
        ShownProblem(
            task_id,
            prompts.get(task_id, ""),
            [_shown_sample(arm, results[task_id]) for arm, results in by_arm.items() if task_id in results],
            len(verdicts[task_id]) > 1,
        )
        for task_id in ordered[: recipe.report.max_shown_samples]
    ]


def read_making(recipe: Recipe, run: RunFolder, only: Sequence[str] = ()) -> Making:
    """Read times, versions and machines of the completed steps of a run; `only` these, if any are given."""
    steps = [step for step in STEPS if not only or step.name in only]
    names = [part for step in steps for part in step.parts(recipe.arms)]
    records = [record for name in names if (record := read_record(run.path / name)) is not None]
    versions: dict[str, set[str]] = defaultdict(set)
    for record in records:
        provenance = record.provenance
        current = {"python": provenance.get("python"), **provenance.get("versions", {})}
        for name, version in (current | {"git commit": provenance.get("git_commit")}).items():
            if version:
                versions[name].add(str(version))
    # Stages may run on different machines: generation on a GPU, judging elsewhere.
    machines = dict.fromkeys(_machine(record.provenance) for record in records if record.provenance)
    return Making(
        records,
        {name: ", ".join(sorted(of_name)) for name, of_name in sorted(versions.items())},
        list(machines),
        [sentence for record in records if (sentence := _drift(record, recipe))],
    )


def left_out(recipe: Recipe, trained: Sequence[TrainedArm], scan: Scan | None) -> list[str]:
    """Say in sentences which data the run did not use."""
    sentences = [
        f"Training of {arm.name}: {number:,} {reason}"
        for arm in trained
        for reason, number in arm.summary.skipped.items()
    ]
    if scan:
        sentences += [f"Scan, {sentence}" for sentence in skipped_in_scan(scan.summary)]
    if recipe.data.max_examples is not None and trained:
        sentences.append(f"Training: at most {recipe.data.max_examples:,} examples are taken (data.max_examples)")
    if recipe.problems.tasks:
        sentences.append(f"Benchmark: only the tasks {', '.join(recipe.problems.tasks)} (problems.tasks)")
    if recipe.problems.limit is not None:
        sentences.append(
            f"Benchmark: only the first {recipe.problems.limit:,} problems of {recipe.problems.source} (problems.limit)"
        )
    if recipe.forgetting is not None and recipe.forgetting.limit is not None:
        sentences.append(
            f"Second benchmark: only the first {recipe.forgetting.limit:,} problems of {recipe.forgetting.source} "
            "(forgetting.limit)"
        )
    return sentences


def skipped_in_scan(summary: ScanSummary) -> list[str]:
    """Say what the scan could not score, of which set, and why."""
    return [
        f"{SUBSET_NAMES.get(subset, subset)}: {number:,} {reason}"
        for subset, reasons in summary.skipped.items()
        for reason, number in reasons.items()
    ]


def _by_problem(path: Path) -> dict[str, list[Result]]:
    """Read results by task id in file order, each problem's ordered by sample index."""
    grouped: dict[str, list[Result]] = defaultdict(list)
    for result in read_rows(path, Result):
        grouped[result.task_id].append(result)
    return {task_id: sorted(results, key=lambda result: result.index) for task_id, results in grouped.items()}


def _shown_sample(arm: str, results: Sequence[Result]) -> ShownSample:
    first = results[0]
    text = first.completion[:_MAX_SHOWN_CHARACTERS]
    num_passed = sum(result.passed for result in results)
    return ShownSample(arm, first, text, len(first.completion) - len(text), num_passed, len(results))


def _prompts(recipe: Recipe) -> dict[str, str]:
    """Return what the models were asked, where the benchmark is at hand."""
    try:
        return {problem.task_id: problem.prompt for problem in load_benchmark(recipe.problems)}
    except UserError:  # a report of moved results does without
        return {}


def _machine(provenance: dict[str, Any]) -> str:
    parts = [provenance.get("cpu"), f"{provenance.get('cores', '?')} cores", provenance.get("gpu") or "no GPU"]
    return ", ".join(str(part) for part in [*parts, provenance.get("platform")] if part)


def _drift(record: StageRecord, recipe: Recipe) -> str | None:
    """Name the first setting of the stage's inputs that the recipe has otherwise."""
    # All other verbs check the inputs of the stages; `ibft report` shows what is there, so the page has to say it.
    current = msgspec.json.decode(msgspec.json.encode(recipe))  # as stage.json holds it: lists, not tuples
    current["data"] |= _sources_as_recorded(recipe.data)
    arm = record.stage.rpartition("/")[2]
    # A stage of one arm holds the objective of that arm alone.
    current["objective"] = next((objective for objective in current["objective"] if objective["arm"] == arm), None)
    for path, before, after in _changes(record.inputs, current):
        return f"{record.stage} was made with {path} = {before}; the recipe now says {after}."
    return None


def _sources_as_recorded(data: DataConfig) -> dict[str, Any]:
    """Return the training and validation data in the form that a stage's inputs have, which is not the recipe's."""
    sources: dict[str, Any] = {}
    if not isinstance(data.train, str):
        sources["train"] = [msgspec.to_builtins(source) for source in data.sources]
    if data.validation_share is not None:
        sources["validation"] = data.validation_share
    elif data.validation_source is not None:
        sources["validation"] = msgspec.to_builtins(data.validation_source)
    return sources


def _changes(before: Any, after: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    if after == "auto":  # what it stood for is in the record
        return
    # What lies under a path is recorded with its content, of which the recipe has only the name.
    if isinstance(before, dict) and "digest" in before and isinstance(after, str):
        before = before["name"]
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [key for key in before if key in after]:
            yield from _changes(before[key], after[key], f"{path}.{key}" if path else key)
    elif _are_sources(before, after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{path}.{number}")
    # A section's place may hold a digest or an identity instead, which are not settings.
    elif path and not isinstance(after, dict) and before != after:
        yield path, before, after


def _are_sources(before: Any, after: Any) -> bool:
    """Return whether both are lists of as many sources."""
    are_lists = isinstance(before, list) and isinstance(after, list) and len(before) == len(after)
    return are_lists and all(isinstance(item, dict) for item in [*before, *after])
