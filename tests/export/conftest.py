"""A LoRA on the tiny model with random weights, and a run folder that holds one, judged and reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.metrics import Metrics, summarize
from ibft.artifacts.rows import Problem, Result
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, GenerateConfig, ModelConfig, ProblemsConfig, ReportConfig, TrainConfig
from ibft.run.sections import LoraConfig as LoraSection
from ibft.stages.report import report
from ibft.statistics.pass_at_k import Count

MakeAdapter = Callable[..., Path]


@pytest.fixture
def make_adapter(tiny_model_folder: Path, tmp_path: Path) -> MakeAdapter:
    def make(folder: Path = tmp_path / "adapter", **changes: Any) -> Path:
        torch.manual_seed(1)
        settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM"}
        base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
        model = get_peft_model(base, LoraConfig(**(settings | changes)))
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.1)
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def run(tiny_model_folder: Path, tmp_path: Path, make_adapter: MakeAdapter) -> RunFolder:
    """`ft` and `ib` are trained, and with the base model judged and reported."""
    write_rows(tmp_path / "problems.jsonl", [Problem(task_id=f"t/{i}", prompt="", tests="pass") for i in range(12)])
    recipe = Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train="owner/pairs@main"),
        objective=(FTObjective(), IBObjective(layer=2)),
        train=TrainConfig(max_steps=3, lora=LoraSection(rank=4, alpha=8.0)),
        problems=ProblemsConfig(source=str(tmp_path / "problems.jsonl")),
        generate=GenerateConfig(num_samples=4),
        report=ReportConfig(k=(1, 2), bootstrap_resamples=500),
    )
    run = RunFolder(recipe)
    for objective in recipe.objective:
        write_training(run, objective.arm, make_adapter)
    for arm, tally in {"base": [0] * 12, "ft": [4, 2, 0] * 4, "ib": [4, 4, 0] * 4}.items():
        write_judged(run, arm, tally)
    report(recipe, run)
    return run


def write_training(run: RunFolder, arm: str, make_adapter: MakeAdapter) -> None:
    recipe = run.recipe
    objective = next(one for one in recipe.objective if one.arm == arm)
    inputs = {"model": recipe.model, "prompt": recipe.prompt, "train": recipe.train, "objective": objective}
    inputs["data"] = {key: getattr(recipe.data, key) for key in ("train", "split", "max_tokens", "max_examples")}
    alarm = {"kind": "collapse", "first_step": 2, "last_step": 3, "message": "The code is closed."}
    summary = {
        "steps": 3,
        "processes": 2,
        "examples": 1234,
        "tokens": 56789,
        "skipped": {"longer than 2048 tokens": 7},
        "batching": "sorted",
        "alarms": [alarm] if arm == "ib" else [],
    }
    with run.stage(f"train/{arm}", {**inputs, "seed": recipe.seed}).work() as folder:
        make_adapter(folder / "adapter")
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))


def write_judged(run: RunFolder, arm: str, tally: list[int]) -> None:
    recipe, number = run.recipe, run.recipe.generate.num_samples
    results = [
        Result(task_id=f"t/{i}", completion="", result="", index=j, passed=j < correct, status="failed")
        for i, correct in enumerate(tally)
        for j in range(number)
    ]
    counts = [Count(number, correct) for correct in tally]
    metrics = Metrics(
        num_problems=len(tally),
        num_samples=len(results),
        metrics=summarize(counts, recipe.report.k, num_resamples=500, seed=0),
        statuses={},
        problems="humaneval",
        sandbox="process",
        tool_versions={},
        k=recipe.report.k,
        seed=0,
        bootstrap_resamples=500,
    )
    upstream = None if arm == "base" else run.record(f"train/{arm}").identity
    with run.stage(f"generate/{arm}", {"train": upstream, "arm": arm}).work():
        pass
    with run.stage(f"judge/{arm}", {"generate": run.record(f"generate/{arm}").identity}).work() as folder:
        write_rows(folder / "results.jsonl", results)
        (folder / "metrics.json").write_bytes(metrics.to_json())
