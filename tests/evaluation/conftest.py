"""Trainers on the tiny model, and two problems whose answers it can learn by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from ibft import IBConfig, IBTrainer
from ibft.artifacts.rows import Problem
from ibft.run.sections import GenerateConfig

SHORT = GenerateConfig(num_samples=1, temperature=0.0, max_new_tokens=24)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry where this is set
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))  # no verdict of another test


def make_problem(number: int) -> Problem:
    return Problem(
        task_id=f"t/{number}",
        prompt=f"def f{number}(a):\n",
        tests=f"assert f{number}(1) == {number + 1}",
        entry_point=f"f{number}",
        canonical_solution=f"    return a + {number}\n",
    )


@pytest.fixture
def problems() -> list[Problem]:
    return [make_problem(number) for number in range(2)]


@pytest.fixture
def make_trainer(tiny_model_folder: Path, tmp_path: Path, problems: list[Problem]) -> Callable[..., Any]:
    """`make()` is an IBTrainer, `make(plain=True)` TRL's own, of six steps on the problems' own solutions."""

    def make(*, plain: bool = False, full: bool = False, **changes: Any) -> SFTTrainer:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 6,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "bf16": False,
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "gradient_checkpointing": False,
        }
        if not plain:
            settings |= {"alpha": 0.5, "layer": 2, "bottleneck_dim": 16}
        rows = [{"prompt": one.prompt, "completion": one.canonical_solution} for one in problems] * 3
        return (SFTTrainer if plain else IBTrainer)(
            AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32),
            (SFTConfig if plain else IBConfig)(**(settings | changes)),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(tiny_model_folder),
            peft_config=None
            if full
            else LoraConfig(r=4, lora_dropout=0.2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        )

    return make
