"""A run folder with plausible made-up results, so that the report can be tested (and looked at) without a model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from ibft.metrics.alarms import find_alarms
from ibft.metrics.pass_at_k import Count
from ibft.metrics.summary import Metrics, summarize
from ibft.recipe import GenerateConfig, ProblemsConfig, Recipe, ReportConfig
from ibft.recipe_objectives import (
    ASFTObjective,
    DFTObjective,
    EAFTObjective,
    FTKLObjective,
    FTObjective,
    GEMObjective,
    IBObjective,
    Objective,
    STMObjective,
)
from ibft.rows import Problem, Result, Sample, Score, TrainingLog, write_rows
from ibft.runs import RunFolder

Tallies = Mapping[str, list[int]]
"""Arm to the number of passing samples of each problem."""

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Judged arms in a run folder; see `write_run`."""

    def make(tallies: Tallies, num_samples: int = 5, **options: object) -> RunFolder:
        return write_run(tmp_path / "runs", tallies, num_samples, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with every stage: `ft` and `ib` tie, both beat `base`; Pass@10 is undefined."""
    tallies = {"base": [0] * 12, "ft": [5, 0] * 6, "ib": [5, 0] * 6}
    return write_run(tmp_path_factory.mktemp("full"), tallies, k=(1, 5, 10), with_training=True, with_scan=True)


NINE = (
    FTObjective(),
    IBObjective(),
    IBObjective(arm="ib-controlled", form="controlled"),
    DFTObjective(),
    FTKLObjective(),
    ASFTObjective(),
    EAFTObjective(),
    GEMObjective(),
    STMObjective(),
)


@pytest.fixture(scope="session")
def nine_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Nine objectives beside the base model, of different strength; `ib` collapses, `ib-controlled` does not."""
    rng = random.Random(1)
    names = ["base", *(objective.arm for objective in NINE)]
    tallies = {
        name: [
            sum(rng.random() < 0.15 + 0.03 * index for _ in range(5)) if rng.random() < 0.5 else 0 for _ in range(60)
        ]
        for index, name in enumerate(names)
    }
    return write_run(tmp_path_factory.mktemp("nine"), tallies, with_training=True, with_scan=True, objectives=NINE)


def write_run(
    output: Path,
    tallies: Tallies,
    num_samples: int = 5,
    *,
    k: tuple[int, ...] = (1, 5),
    completion: str = "    return sorted(items)\n",
    with_training: bool = False,
    with_scan: bool = False,
    objectives: tuple[Objective, ...] = (FTObjective(), IBObjective()),
) -> RunFolder:
    """Write the stages `generate` and `judge`, and if asked `scan` and `train`, as the real stages do."""
    output.mkdir(parents=True, exist_ok=True)
    num_problems = max(len(tally) for tally in tallies.values())
    source = output / "problems.jsonl"
    write_rows(
        source,
        [
            Problem(task_id=f"demo/{i}", prompt=f'def task_{i}(items):\n    """Sort."""\n', tests="assert True")
            for i in range(num_problems)
        ],
    )
    recipe = Recipe(
        name="fake",
        output=str(output),
        objective=objectives,
        problems=ProblemsConfig(source=str(source)),
        generate=GenerateConfig(num_samples=num_samples),
        report=ReportConfig(k=k, bootstrap_resamples=1000, max_shown_samples=6),
    )
    run = RunFolder(recipe)
    for arm, tally in tallies.items():
        _write_judged(run, arm, tally, num_samples, completion)
    if with_training:
        for objective in objectives:
            _write_training(run, objective)
    if with_scan:
        _write_scan(run)
    return run


def _write_judged(run: RunFolder, arm: str, tally: list[int], num_samples: int, completion: str) -> None:
    recipe = run.recipe
    samples, results = [], []
    for problem, num_correct in enumerate(tally):
        for index in range(num_samples):
            passed, text = index < num_correct, completion + f"    # {arm}, sample {index}\n"
            common = {"task_id": f"demo/{problem}", "index": index}
            reason = "length" if (problem + index) % 7 == 0 else "stop"
            samples.append(Sample(completion=text, finish_reason=reason, **common))
            outcome = ("passed", "passed") if passed else ("failed", "failed: AssertionError at line 3")
            results.append(Result(completion=text, status=outcome[0], result=outcome[1], passed=passed, **common))
    counts = [Count(num_samples, num_correct) for num_correct in tally]
    metrics = Metrics(
        num_problems=len(tally),
        num_samples=len(results),
        metrics=summarize(counts, recipe.report.k, num_resamples=1000, seed=recipe.seed),
        statuses={"failed": len(results) - sum(tally), "passed": sum(tally)},
        problems=recipe.problems.source,
        sandbox="process",
        tool_versions={},
        k=recipe.report.k,
        seed=recipe.seed,
        bootstrap_resamples=1000,
    )
    with run.stage(f"generate/{arm}", {"generate": recipe.generate, "arm": arm}).work() as folder:
        write_rows(folder / "samples.jsonl", samples)
    with run.stage(f"judge/{arm}", {"arm": arm}).work() as folder:
        write_rows(folder / "results.jsonl", results)
        (folder / "metrics.json").write_bytes(metrics.to_json())


def _write_training(run: RunFolder, objective: Objective) -> None:
    rng = random.Random(objective.arm)
    rows = []
    for step in range(1, 121):
        ce = 0.9 + 1.1 * math.exp(-step / 30) + rng.gauss(0, 0.05)
        metrics: dict[str, float | None] = {
            "loss": ce,
            "grad_norm": 1.5 + rng.random(),
            "learning_rate": 2e-4 * math.cos(step / 120 * math.pi / 2),
            "epoch": step / 120,
        }
        if isinstance(objective, IBObjective):
            metrics |= _gauges(objective, step, ce, rng)
        elif not isinstance(objective, FTObjective):
            metrics |= {"ce": ce, "loss": ce * 0.4 + rng.random() * 0.1}
        rows.append(TrainingLog(step, metrics))
    alarms = []
    if isinstance(objective, IBObjective):
        alarms = find_alarms(rows, bottleneck_dim=objective.bottleneck_dim, form=objective.form)
    summary = {
        "steps": 120,
        "examples": 1394,
        "tokens": 181_240,
        "skipped": {"longer than 200 tokens": 213},
        "seconds": 183.4,
        "peak_memory_mib": 2913.2,
        "final_loss": 0.91,
        "alarms": alarms,
    }
    with run.stage(f"train/{objective.arm}", {"train": run.recipe.train}).work() as folder:
        write_rows(folder / "log.jsonl", rows)
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))


def _gauges(objective: IBObjective, step: int, ce: float, rng: random.Random) -> dict[str, float | None]:
    """`controlled` holds its set point; any other form is overloaded at first and collapses at the end."""
    noise = math.exp(rng.gauss(0, 0.1))
    gauges: dict[str, float | None]
    if objective.form == "controlled":
        target = math.exp(max(0.0, 1 - step / 12) * math.log(66) + min(1.0, step / 12) * math.log(objective.kl_target))
        kl, ratio, alpha, units = target * noise, 0.8 * noise, 0.1 * (1 + step / 60), 180 + 5 * noise
        gauges = {"ib/kl_target": target}
    else:
        kl = 264_000 * math.exp(-step / 6) * noise
        ratio, alpha, units = min(630.0, kl / 200), objective.alpha, 256 / (1 + 1 / kl)
        gauges = {}
    kl_dim = kl / objective.bottleneck_dim
    ce_bottleneck = 3 + 7 * math.exp(-step / 30)
    penalty = alpha * (kl_dim + 0.01 * ce_bottleneck)
    return gauges | {
        "ce": ce,
        "loss": ce + penalty,
        "ib/kl": kl_dim,
        "ib/ce": ce_bottleneck,
        "ib/penalty": penalty,
        "ib/hidden_std": 9 + 66 * math.exp(-step / 15),
        "ib/kl_per_token": kl,
        "ib/kl_per_dim": kl_dim,
        "ib/active_units": units,
        "ib/grad_ratio": ratio,
        "ib/accuracy": 0.4 * (1 - math.exp(-step / 40)) * noise,
        "ib/alpha": alpha,
    }


def _write_scan(run: RunFolder) -> None:
    rng = random.Random(0)
    scores = [
        Score(id=f"{subset}/{i}", subset=subset, num_tokens=80, min_k_prob=nll * 2.6, mean_nll=nll)
        for subset, number, scale in (("train", 600, 0.35), ("control", 200, 0.5))
        for i in range(number)
        for nll in [rng.gammavariate(3, scale)]
    ]
    subset_summary = {"num_examples": 813, "num_scored": 600, "median_min_k_prob": 2.4, "median_mean_nll": 0.93}
    summary = {
        "k_percent": 20.0,
        "subsets": {"train": {**subset_summary, "num_tokens": 48_000}, "control": subset_summary},
        "skipped": {"train": {"longer than 200 tokens": 213}, "control": {}},
        "auroc_min_k_prob": 0.71,
        "auroc_mean_nll": 0.69,
    }
    with run.stage("scan", {"scan": run.recipe.scan}).work() as folder:
        write_rows(folder / "scores.jsonl", scores)
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))
