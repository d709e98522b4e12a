"""A run folder with plausible made-up results, so that the report can be tested (and looked at) without a model."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.metrics import Metrics, summarize
from ibft.artifacts.rows import Problem, Result, Sample, TrainingLog
from ibft.objectives.asft import ASFTObjective
from ibft.objectives.base import Objective
from ibft.objectives.dft import DFTObjective
from ibft.objectives.eaft import EAFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ft_kl import FTKLObjective
from ibft.objectives.gem import GEMObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.stm import STMObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import FORMATS, GenerateConfig, ProblemsConfig, PromptConfig, ReportConfig
from ibft.statistics.pass_at_k import Count

Tallies = Mapping[str, list[int]]
"""Arm to the number of passing samples of each problem."""

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Judged arms in a run folder; see `write_run`."""

    def make(tallies: Tallies, num_samples: int = 5, **options: object) -> RunFolder:
        return write_run(tmp_path / "runs", tallies, num_samples, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_scan(tmp_path: Path) -> MakeRun:
    """A run folder that holds a scan and nothing else; see `write_scan`."""

    def make(**options: object) -> RunFolder:
        run = RunFolder(Recipe(name="scanned", output=str(tmp_path)))
        write_scan(run, **options)  # type: ignore[arg-type]
        return run

    return make


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with every stage: `ft` and `ib` tie, both beat `base`; Pass@10 is undefined."""
    tallies = {"base": [0] * 12, "ft": [5, 5, 5, 0] * 3, "ib": [5, 5, 5, 0] * 3}
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
    asked: Tallies | None = None,
) -> RunFolder:
    """Write the stages `generate` and `judge`, and if asked `scan` and `train`, as the real stages do.

    `asked` has the greedy answers by name (`base@chat`); without it no format is elicited.
    """
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
        prompt=PromptConfig(template="plain"),
        generate=GenerateConfig(num_samples=num_samples, elicit=FORMATS if asked else ()),
        report=ReportConfig(k=k, bootstrap_resamples=1000, max_shown_samples=6),
    )
    run = RunFolder(recipe)
    for arm, tally in tallies.items():
        _write_judged(run, arm, tally, num_samples, completion)
    for name, tally in (asked or {}).items():
        _write_judged(run, name, tally, 1, completion)
    if with_training:
        for objective in objectives:
            _write_training(run, objective)
    if with_scan:
        write_scan(run, rescanned=tuple(objective.arm for objective in objectives[:2]))
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
    summary = {
        "steps": 120,
        "examples": 1394,
        "tokens": 181_240,
        "skipped": {"longer than 200 tokens": 213},
        "seconds": 183.4,
        "peak_memory_mib": 2913.2,
        "final_loss": 0.91,
        "alarms": objective.alarms(rows, num_steps=0),
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


SCORES = (
    "mean_nll",
    "zlib_ratio",
    "min_k_prob_20",
    "min_k_plus_plus_20",
    "min_k_prob_10",
    "min_k_prob_30",
    "min_k_plus_plus_10",
    "min_k_plus_plus_30",
)
CODE = """    if not items:
        return []
    pivot, *rest = items
    smaller = [item for item in rest if item < pivot]
    larger = [item for item in rest if item >= pivot]
    return quicksort(smaller) + [pivot] + quicksort(larger)
"""


def write_scan(run: RunFolder, *, rescanned: tuple[str, ...] = (), num_examples: int = 3, **changes: Any) -> None:
    """Write `scan/` and `rescan/ARM/` with made-up numbers; `changes` replace keys of the summary."""
    summary = scan_summary() | changes
    rng = random.Random(0)
    scales = {"training data": 0.9, "control set": 1.3}
    series = {name: [rng.gammavariate(3, scale) for _ in range(500)] for name, scale in scales.items()}
    if "control" not in summary["subsets"]:
        del series["control set"]
    label = "Min-20% Prob (nats a token)"
    densities = {"score": "min_k_prob_20", "label": label, "series": series}
    with run.stage("scan", {"scan": run.recipe.scan}).work() as folder:
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))
        (folder / "densities.json").write_bytes(msgspec.json.encode(densities))
        lines = [msgspec.json.encode(shown_example(index)) for index in range(num_examples)]
        (folder / "most_memorized.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    identities = {}
    for index, arm in enumerate(rescanned):
        again = {
            "arm": arm,
            "score": "min_k_prob_20",
            "num_examples": 600,
            "median_before": 2.4,
            "median_after": 1.2 + 0.5 * index,
            "share_below_threshold": 0.61 - 0.2 * index,
        } | after_training(index)
        values = [rng.gammavariate(3, 0.45 + 0.2 * index) for _ in range(500)]
        with run.stage(f"rescan/{arm}", {"scan": run.record("scan").identity}).work() as folder:
            (folder / "summary.json").write_bytes(msgspec.json.encode(again))
            (folder / "densities.json").write_bytes(
                msgspec.json.encode(densities | {"series": {f"training data after {arm}": values}})
            )
        identities[arm] = run.record(f"rescan/{arm}").identity
    if len(rescanned) > 1:
        differences = [
            {"arm": arm, "name": name, "difference": {"value": -0.08, "ci95": [-0.11, -0.05]}}
            for arm in rescanned[1:]
            for name in ("min_k_prob_20", "ez_mia")
        ]
        arms = {"reference": rescanned[0], "identities": identities, "differences": differences}
        (run.path / "rescan" / "arms.json").write_bytes(msgspec.json.encode(arms))


def after_training(index: int) -> dict[str, Any]:
    """The part of a rescan's summary about what was memorized; less for a later arm."""

    def of(name: str, before: float | None, after: float, found: float | None) -> dict[str, Any]:
        reason = "" if found is not None else "it takes 99 examples that were not trained on: there are 60"
        return {
            "name": name,
            "num_trained": 240 if name != "ez_mia" else 221,
            "num_others": 240 if name != "ez_mia" else 236,
            "auroc": {"value": after, "ci95": [after - 0.05, after + 0.05]},
            "before": None if before is None else {"value": before, "ci95": [before - 0.05, before + 0.05]},
            "rise": None
            if before is None
            else {"value": after - before, "ci95": [after - before - 0.03, after - before + 0.03]},
            "true_positives": {
                "value": found,
                "ci95": [None, None] if found is None else [found / 2, 2 * found],
                "reason": reason,
            },
        }

    def words(before: float, after: float) -> dict[str, Any]:
        return {"before": before, "after": after, "ci95": [after - before - 0.02, after - before + 0.02]}

    less = 0.08 * index
    return {
        "others": "control",
        "num_others": 252,
        "membership": {
            "num_pairs": 240,
            "num_groups": {"train": 80, "control": 90},
            "scores": [
                of("mean_nll", 0.51, 0.62 - less, 0.05),
                of("min_k_prob_20", 0.52, 0.66 - less, 0.031),
                of("base_ratio", None, 0.81 - less, 0.17),
                of("ez_mia", None, 0.78 - less, None if index else 0.09),
            ],
        },
        "word_for_word": {
            "train": {
                "num_examples": 600,
                "extraction_strength": words(0.12, 0.3 - less),
                "exact_memorization": words(0.6, 0.7),
            },
            "control": {
                "num_examples": 252,
                "extraction_strength": words(0.11, 0.13),
                "exact_memorization": words(0.59, 0.62),
            },
        },
    }


def scan_summary() -> dict[str, Any]:
    """`scan/summary.json` of a clear barrier."""
    medians = dict(zip(SCORES, (0.93, 0.0213, 2.4, -1.31, 1.05, 0.0247, 2.71, -1.12), strict=True))
    subset = {"num_examples": 813, "num_scored": 600, "num_tokens": 48_112}
    aurocs = (0.664, 0.641, 0.702, 0.688, 0.655, 0.548, 0.697, 0.671)
    extraction = {
        "num_examples": 214,
        "num_extracted": 12,
        "share": 12 / 214,
        "ci95": [0.032, 0.095],
        "median_matched": 7.0,
        "num_too_short": 386,
        "prefix_tokens": 8,
        "suffix_tokens": 24,
        "within": [[1, 0.021], [10, 0.058], [100, 0.097], [1000, 0.144]],
    }
    return {
        "score": "min_k_prob_20",
        "region": "response",
        "subsets": {
            "train": {**subset, "medians": medians},
            "control": {
                **subset,
                "num_examples": 260,
                "num_scored": 252,
                "medians": {k: 1.3 * v for k, v in medians.items()},
            },
        },
        "skipped": {"train": {"longer than 200 tokens": 213}, "control": {"longer than 200 tokens": 8}},
        "comparison": {
            "num_pairs": 251,
            "num_unmatched": {"train": 349, "control": 1},
            "num_groups": {"train": 88, "control": 41},
            "length": {"value": 0.503, "ci95": [0.45, 0.556]},
            "num_blind_pairs": 251,
            "blind": {"value": 0.573, "ci95": [0.523, 0.622]},
            "blind_features": "Which words occur, and which pairs of neighbors, in a logistic regression.",
            "scores": [
                {
                    "name": name,
                    "auroc": {"value": value, "ci95": [value - 0.046, value + 0.045]},
                    "above_blind": {"value": value - 0.573, "ci95": [value - 0.573 - 0.061, value - 0.573 + 0.06]},
                    "beats_blind": value > 0.634,
                }
                for name, value in zip(SCORES, aurocs, strict=True)
            ],
        },
        "barrier": {
            "threshold": 1.17,
            "share": 0.232,
            "ci95": [0.173, 0.296],
            "num_examples": 251,
            "expected_share": 0.05,
            "num_memorized": 58,
            "num_train": 600,
            "num_train_memorized": 139,
            "traits": [
                trait("duplicates", "has a copy in the data", 48, 0.345, 0.118, (2.1, 3.9)),
                trait(
                    "file",
                    "repository/vendored/quite/a/long/path/to/algorithms_sorting_reference.py",
                    31,
                    0.223,
                    0.07,
                    (2.2, 4.6),
                ),
                trait("length", "up to 40 tokens", 40, 0.288, 0.25, (0.9, 1.5)),
            ],
        },
        "extraction": {
            "train": extraction,
            "control": {
                **extraction,
                "num_examples": 90,
                "num_extracted": 0,
                "share": 0.0,
                "ci95": [0.0, 0.041],
                "within": [[1, 0.0001], [10, 0.0009], [100, 0.007], [1000, 0.04]],
            },
        },
        "verdict": {
            "barrier": "yes",
            "headline": "Yes: 23.2% of the training data is more predictable than 95% of the control set; "
            "chance gives 5%.",
            "sentences": [
                "How big: of 251 training examples, 58 or 23.2% (17.3% to 29.6%) are more predictable than 95% of "
                "control examples of similar length; 5% would be by chance.",
                "How sure: a training example is more predictable than a control example with a chance of 0.70 "
                "(0.66 to 0.75), where 0.5 is no difference.",
                "What this does not show: that an example was in the model's training data.",
            ],
            "advice": "ib",
            "remedy": "Train with the bottleneck (`objective: ib`) beside plain fine-tuning (`ft`), and keep what the "
            "benchmark shows to be better.",
        },
    }


def trait(
    kind: str, name: str, number: int, of_memorized: float, of_all: float, ci95: tuple[float, float]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "num_memorized": number,
        "share_of_memorized": of_memorized,
        "share_of_all": of_all,
        "ratio": of_memorized / of_all,
        "ci95": ci95,
    }


def shown_example(index: int, code: str = CODE) -> dict[str, Any]:
    """A row of `scan/most_memorized.jsonl`, the surer the smaller `index` is."""
    rng = random.Random(index)
    prompt = re.findall(r"\s*\w+|\s*\W", 'def quicksort(items):\n    """Sort the items, the least one first."""\n')
    response = re.findall(r"\s*\w+|\s*\W", code)
    return {
        "id": f"functions/quicksort-{index}",
        "subset": "train",
        "score": 0.02 + 0.05 * index,
        "file": f"sorting/quick_{index}.py",
        "tokens": prompt + response,
        "num_prompt_tokens": len(prompt),
        "log_probs": [-rng.expovariate(1 / (0.08 + 0.1 * index)) for _ in response],
        "matched": 24 - 9 * index if index < 3 else None,
    }
