"""Trainers on the tiny model: float32 on the CPU, a few steps, LoRA dropout on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ibft import IBConfig, IBTrainer

MakeTrainer = Callable[..., Any]


@pytest.fixture
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture
def pairs() -> Dataset:
    """Prompt and completion as text, of different lengths."""
    return Dataset.from_list(
        [
            {"prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" + "    # more\n" * (i % 3)}
            for i in range(12)
        ]
    )


def lora(**changes: Any) -> LoraConfig:
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.2,
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "task_type": "CAUSAL_LM",
    }
    return LoraConfig(**(settings | changes))


@pytest.fixture
def short_run(tmp_path: Path) -> dict[str, Any]:
    """TRL's arguments of a few logged steps on the CPU, without checkpoints."""
    return {
        "output_dir": str(tmp_path / "out"),
        "max_steps": 4,
        "per_device_train_batch_size": 3,
        "learning_rate": 1e-2,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


@pytest.fixture
def make_trainer(
    tiny_model_folder: Path, tokenizer: PreTrainedTokenizerBase, pairs: Dataset, short_run: dict[str, Any]
) -> MakeTrainer:
    """`make(alpha=…)` is an IBTrainer, `make(plain=True)` TRL's own with the same arguments."""

    def make(
        *,
        plain: bool = False,
        dataset: Dataset | None = None,
        peft_config: LoraConfig | None = None,
        full: bool = False,
        trainer_arguments: dict[str, Any] | None = None,
        **changes: Any,
    ) -> SFTTrainer:
        bottleneck = {"alpha": 0.1, "layer": 2}
        if changes.get("form") != "entropy":
            bottleneck["bottleneck_dim"] = 16
        arguments = SFTConfig(**(short_run | changes)) if plain else IBConfig(**(short_run | bottleneck | changes))
        return (SFTTrainer if plain else IBTrainer)(
            AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32),
            arguments,
            train_dataset=pairs if dataset is None else dataset,
            processing_class=tokenizer,
            peft_config=None if full else (peft_config or lora()),
            **(trainer_arguments or {}),
        )

    return make


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")  # TRL sends none where this is set
