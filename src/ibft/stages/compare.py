"""Finished runs beside each other: what was trained at which settings with which seeds, and which of it is better.

The runs' own recipes say it. Two arms are one condition where they differ in nothing but the seed; an arm's name is
followed by the settings in which its conditions differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec

from ibft.artifacts.run_comparison import ConditionMean, RunComparison
from ibft.artifacts.tally import Tally
from ibft.comparison.diff import read_judged
from ibft.comparison.pair import Scores
from ibft.comparison.seeds import compare_seeds
from ibft.errors import UserError
from ibft.run.recipe import BASE_ARM, Recipe, load_recipe
from ibft.statistics.pass_at_k import Count, curve_of_each, metric_name, why_undefined

__all__ = ["compare_runs"]

_NO_MATTER = ("name", "output", "seed", "scan", "judge", "report", "gpu", "forgetting")
"""Parts of a recipe that change neither an arm nor what it is asked."""
_OF_TRAINING = ("objective", "train", "data")


class _Arm(NamedTuple):
    """One judged arm of one run, and all settings that made it what it is, by their path in the recipe."""

    name: str
    seed: int
    run: Path
    settings: dict[str, Any]
    results: Tally


def compare_runs(runs: Sequence[Path], *, metric: str = "pass@1", arms: Sequence[str] = ()) -> RunComparison:
    """Compare all judged arms of some runs, on the problems that all of them have.

    Args:
        runs: folders of runs; those that differ in their seed alone are repetitions.
        metric: `pass@k` or `pass@k^(m)`.
        arms: those that are compared; all, if empty.

    Raises:
        UserError: a folder is not a run's or has no results, no run has one of the `arms`, an arm occurs twice with one
            seed, the sandbox failed on a sample, the metric is undefined, or there are fewer than two conditions.
    """
    k, m = _read_metric(metric)
    found = [arm for run in dict.fromkeys(runs) for arm in _arms_of(run, arms)]
    if unknown := [name for name in arms if name not in {arm.name for arm in found}]:
        raise UserError(f"--arms: no run has a judged arm {unknown[0]!r}. Name arms that were judged.")
    conditions = _conditions(found)
    if len(conditions) < 2:
        names = ", ".join(conditions) or "none"
        raise UserError(
            f"There is nothing to compare: {len(conditions)} condition ({names}). Name runs of other settings, or of "
            "several arms."
        )
    left_out = _left_out(found)
    scores = {
        name: {arm.seed: _scores(arm, k, m, left_out) for arm in of_condition}
        for name, of_condition in conditions.items()
    }
    num_samples = fmean(count.num_samples for arm in found for count in arm.results.counts.values())
    differences, undefined = compare_seeds(scores, num_samples)
    means = {name: {seed: fmean(of.values.values()) for seed, of in by.items()} for name, by in scores.items()}
    return RunComparison(
        metric=metric_name(k, m),
        conditions=[
            ConditionMean(
                name=name,
                mean=fmean(means[name].values()),
                by_seed=dict(sorted(means[name].items())),
                runs={arm.seed: str(arm.run) for arm in of_condition},
            )
            for name, of_condition in conditions.items()
        ],
        differences=differences,
        undefined=[pair.reason for pair in undefined],
        left_out=left_out,
    )


def _read_metric(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"pass@([1-9]\d*)(?:\^\(([1-9]\d*)\))?", text)
    k, m = (int(match[1]), int(match[2] or 1)) if match else (0, 1)
    if not 1 <= m <= k:
        raise UserError(
            f"--metric {text}: expected pass@K or pass@K^(M) with M up to K, such as pass@10 or pass@10^(5)"
        )
    return k, m


def _arms_of(run: Path, arms: Sequence[str]) -> Iterator[_Arm]:
    if not (run / "recipe.yaml").is_file():
        raise UserError(f"{run}: is not a run's folder (it has no recipe.yaml). Name folders like runs/NAME.")
    recipe = load_recipe(run / "recipe.yaml")
    judged = [name for name in recipe.arms if (run / "judge" / name / "results.jsonl").is_file()]
    if not judged:
        raise UserError(f"{run}: has no judged arm. `ibft judge` the recipe first.")
    for name in judged:
        if arms and name not in arms:
            continue
        results = read_judged(run / "judge" / name / "results.jsonl")
        yield _Arm(name, recipe.seed, run, _settings_of(recipe, name), results)


def _settings_of(recipe: Recipe, arm: str) -> dict[str, Any]:
    raw = {key: value for key, value in msgspec.to_builtins(recipe).items() if key not in _NO_MATTER}
    if arm == BASE_ARM:
        return _flat({key: value for key, value in raw.items() if key not in _OF_TRAINING})
    [raw["objective"]] = (msgspec.to_builtins(one) for one in recipe.objective if one.arm == arm)
    return _flat(raw)


def _flat(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _conditions(found: Sequence[_Arm]) -> dict[str, list[_Arm]]:
    """Return the arms that are repetitions of one another, by the name of what they are."""
    conditions: dict[str, list[_Arm]] = {}
    for arm in found:
        settings = [other.settings for other in found if other.name == arm.name]
        keys = dict.fromkeys(key for one in settings for key in one)
        varied = {
            key: arm.settings.get(key) for key in keys if any(one.get(key) != settings[0].get(key) for one in settings)
        }
        details = ", ".join(f"{key}={value}" for key, value in varied.items())
        of_condition = conditions.setdefault(f"{arm.name} ({details})" if details else arm.name, [])
        if twin := next((other for other in of_condition if other.seed == arm.seed), None):
            raise UserError(
                f"{twin.run} and {arm.run} have the same arm {arm.name} with the same seed {arm.seed}. Name one of "
                "the runs, or with --arms the arms without it."
            )
        of_condition.append(arm)
    return conditions


def _left_out(found: Sequence[_Arm]) -> dict[str, str]:
    """Return the problems that not all arms have a value for, and where it is missing."""
    reasons = {}
    for task_id in dict.fromkeys(task_id for arm in found for task_id in arm.results.counts):
        for arm in found:
            if task_id not in arm.results.counts:
                reasons[task_id] = f"not in {arm.run}, {arm.name}"
            elif task_id in arm.results.excluded:
                reasons[task_id] = f"excluded in {arm.run}, {arm.name}"
    return reasons


def _scores(arm: _Arm, k: int, m: int, left_out: Mapping[str, str]) -> Scores:
    counts: dict[str, Count] = {
        task_id: count for task_id, count in arm.results.counts.items() if task_id not in left_out
    }
    if not counts:
        raise UserError("The runs have no judged problem in common. Compare runs on one benchmark.")
    if reason := why_undefined(list(counts.values()), k):
        raise UserError(f"{metric_name(k, m)} is undefined: {arm.run}, {arm.name}: {reason}.")
    if (k, m) == (1, 1):
        return Scores.of_counts(counts)
    return Scores(dict(zip(counts, curve_of_each(list(counts.values()), k)[m - 1], strict=True)))
