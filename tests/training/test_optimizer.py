"""`train.optimizer`: the names that transformers has, each tried before training, and none of them trained unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import Trainer
from transformers.training_args import OptimizerNames

from ibft.cli import main
from ibft.errors import UserError
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, EvaluateConfig, LoraConfig, TrainConfig
from ibft.training import fit
from ibft.training.optimizer import check_optimizer

from .test_weights import recipe_of, run_stage

CPU = torch.device("cpu")
USABLE = ("adamw_torch", "adamw_8bit", "adafactor", "lion_8bit", "paged_adamw_32bit", "ademamix", "sgd")


def test_the_default_is_that_of_transformers() -> None:
    from trl import SFTConfig

    assert SFTConfig("out", bf16=False).optim == TrainConfig().optimizer


@pytest.mark.parametrize("name", USABLE)
def test_names_that_run_here_are_taken(name: str) -> None:
    check_optimizer(name, CPU)


def test_a_typo_gets_a_suggestion_and_all_names() -> None:
    with pytest.raises(UserError, match=r"train\.optimizer is 'adamw_8bits'\. Did you mean adamw_8bit\?") as caught:
        check_optimizer("adamw_8bits", CPU)
    assert all(name.value in str(caught.value) for name in OptimizerNames)


@pytest.mark.parametrize("name", [name.value for name in OptimizerNames])
def test_every_name_runs_or_is_refused_in_one_sentence(name: str) -> None:
    message = None
    try:
        check_optimizer(name, CPU)
    except UserError as error:
        message = str(error)
    if message is None:
        return
    assert message.startswith(f"train.optimizer is {name}: it cannot be used here on cpu (")
    assert "\n" not in message
    assert name not in USABLE


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    with pytest.raises(
        UserError, match=r"lion_8bit: it cannot be used here on cpu \(You need to install `bitsandbytes"
    ):
        check_optimizer("lion_8bit", CPU)


def test_a_device_without_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    def fail(*_arguments: object) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(bitsandbytes.optim.AdamW, "update_step", fail)
    with pytest.raises(UserError, match=r"paged_adamw_8bit.*no kernel for this device.*adamw_torch_fused"):
        check_optimizer("paged_adamw_8bit", CPU)


class ScheduleFree(torch.optim.SGD):
    """Steps in training mode alone, as the optimizers of `schedulefree` do."""

    modes: ClassVar[list[str]] = []

    def train(self) -> None:
        self.modes.append("train")

    def step(self, closure: object = None) -> None:
        if self.modes != ["train"]:
            raise RuntimeError("Optimizer was not in train mode when step is called.")
        self.modes.append("step")


def test_a_schedule_free_optimizer_is_tried_in_its_training_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScheduleFree, "modes", [])
    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", lambda *_: (ScheduleFree, {"lr": 0.1}))
    check_optimizer("schedule_free_sgd", CPU)
    assert ScheduleFree.modes == ["train", "step"]


@pytest.mark.parametrize(
    ("key", "recipe"),
    [
        ("data.validation", {"data": DataConfig(validation="5%")}),
        ("train.evaluate_problems", {"train": TrainConfig(evaluate_problems=EvaluateConfig(source="held_out.jsonl"))}),
    ],
)
def test_a_schedule_free_optimizer_is_refused_where_training_is_evaluated(key: str, recipe: dict[str, Any]) -> None:
    train = recipe.get("train", TrainConfig())
    for name in ("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"):
        recipe["train"] = msgspec.structs.replace(train, optimizer=name)
        with pytest.raises(UserError, match=rf"train.optimizer is {name}, and {key} is set.* adamw_torch_fused$"):
            Recipe(name="run", **recipe)
    Recipe(name="run", train=TrainConfig(optimizer="schedule_free_adamw"))


@pytest.mark.parametrize("name", ["adamw_8bit", "adafactor", "lion_32bit"])
@pytest.mark.parametrize("objective", [FTObjective(), IBObjective(layer=2, bottleneck_dim=16)], ids=["ft", "ib"])
def test_it_trains_and_a_resumed_run_ends_with_the_same_adapter(
    name: str, objective: FTObjective, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, lora=LoraConfig(rank=16, dropout=0.1))
    recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, optimizer=name))
    seen: set[str] = set()
    step = fit.StageTrainer.training_step

    def stop_at_the_third(self: fit.StageTrainer, *arguments: object, **keywords: object) -> torch.Tensor:
        seen.add(type(self.optimizer.optimizer).__module__)
        if self.state.global_step == 2 and not recipe.output.endswith("whole"):
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(fit.StageTrainer, "training_step", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_stage(recipe, objective)
    monkeypatch.setattr(fit.StageTrainer, "training_step", step)
    _, resumed = run_stage(recipe, objective)
    recipe = msgspec.structs.replace(recipe, output=str(tmp_path / "whole"))
    _, whole = run_stage(recipe, objective)
    assert not any(module == "torch.optim.adamw" for module in seen)
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (resumed, whole)]
    assert adapters[0].keys() == adapters[1].keys()
    for key, weight in adapters[0].items():
        assert torch.equal(weight, adapters[1][key]), key
    assert any(weight.abs().max() > 0 for key, weight in adapters[0].items() if "lora_B" in key)


def test_a_command_is_refused_before_its_first_stage(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe_of(tiny_model_folder, tmp_path)
    recipe = {
        "name": "run",
        "output": str(tmp_path / "runs"),
        "model": {"name": str(tiny_model_folder), "device": "cpu"},
        "data": {"train": str(tmp_path / "data.jsonl")},
        "objective": "ft",
        "train": {"optimizer": "lomo"},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    result = CliRunner().invoke(main, ["train", str(tmp_path / "recipe.yaml")])
    assert result.exit_code == 2, result.output
    assert "train.optimizer is lomo" in result.output
    assert not (tmp_path / "runs" / "run" / "train").exists()
