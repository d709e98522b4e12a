"""Held-out loss: the trained tokens' cross-entropy for every objective and form, and training as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from ibft.objectives.base import Objective
from ibft.objectives.bottleneck.forms import FORMS
from ibft.objectives.registry import OBJECTIVES
from ibft.training.config import ObjectiveConfig
from ibft.training.trainer import ObjectiveTrainer

from .conftest import lora

Make = Callable[..., ObjectiveTrainer]


def arms() -> list[Objective]:
    """Every objective, and every form of the bottleneck with a penalty that outweighs the cross-entropy."""
    objectives = [kind() for name, kind in OBJECTIVES.items() if name != "ib"]
    ib = OBJECTIVES["ib"]
    for form in FORMS:
        sizes = {} if form == "entropy" else {"bottleneck_dim": 16}
        target = {"kl_target": 3.0} if form == "controlled" else {}
        objectives.append(ib(arm=form, form=form, alpha=3.0, layer=2, warmup=1.0, **sizes, **target))
    return objectives


ARMS = arms()


@pytest.fixture
def make(
    tiny_model_folder: Path, tokenizer: PreTrainedTokenizerBase, pairs: Dataset, short_run: dict[str, Any]
) -> Make:
    def make(objective: Objective, held_out: Dataset | None = None, **changes: Any) -> ObjectiveTrainer:
        arguments = (
            short_run | {"per_device_eval_batch_size": 2} | objective.trl_arguments(1) | {"max_length": None} | changes
        )
        return ObjectiveTrainer(
            AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32),
            ObjectiveConfig(**arguments),
            objective=objective,
            train_dataset=pairs.select(range(9)),
            eval_dataset=held_out or pairs.select(range(7, 12)),
            processing_class=tokenizer,
            peft_config=lora(),
        )

    return make


def cross_entropy(trainer: ObjectiveTrainer) -> float:
    """Of the held-out tokens as the exported model predicts them: one example at a time, float64, no hooks."""
    trainer.remove_bottleneck()
    model = trainer.model.double().eval()
    total, count = 0.0, 0
    for example in trainer.eval_dataset:
        batch = trainer.data_collator([example])
        logits = model(input_ids=batch["input_ids"]).logits
        labels = batch["labels"][:, 1:].flatten()
        total += F.cross_entropy(logits[0, :-1], labels, reduction="sum", ignore_index=-100).item()
        count += int((labels != -100).sum())
    return total / count


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("objective", ARMS, ids=lambda objective: objective.arm)
def test_the_loss_is_the_exported_models_cross_entropy(make: Make, objective: Objective, batching: str) -> None:
    trainer = make(objective, max_steps=3, padding_free=batching == "packed")
    trainer.train()
    found = trainer.evaluate()["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == found
    assert found == pytest.approx(cross_entropy(trainer), rel=1e-5)


@pytest.mark.parametrize("objective", ARMS, ids=lambda objective: objective.arm)
def test_evaluating_changes_no_bit_of_training(make: Make, objective: Objective) -> None:
    found = []
    for changes in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        trainer = make(objective, max_steps=4, gradient_accumulation_steps=2, **changes)
        trainer.train()
        assert len([entry for entry in trainer.state.log_history if "eval_loss" in entry]) == (4 if changes else 0)
        rows = [
            {name: value for name, value in entry.items() if name not in ("num_tokens", "train_loss")}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        weights = {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}
        bottleneck = trainer._bottleneck
        noise = torch.empty(0) if bottleneck is None else bottleneck.generator.get_state()
        controller = None if bottleneck is None else bottleneck.schedule.state_dict()
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        found.append((rows, weights, noise, controller, states))
    plain, evaluated = found
    assert plain[0] == evaluated[0]
    assert all(torch.equal(value, evaluated[1][name]) for name, value in plain[1].items())
    assert torch.equal(plain[2], evaluated[2])
    assert plain[3:] == evaluated[3:]


@pytest.mark.parametrize("objective", [ARMS[0], ARMS[-1]], ids=lambda objective: objective.arm)
def test_without_its_bottleneck_a_trainer_evaluates_as_trl_does(make: Make, objective: Objective) -> None:
    trainer = make(objective, max_steps=2)
    trainer.train()
    trainer.remove_bottleneck()
    trainer.remove_bottleneck()
    found, predicted = trainer.evaluate(), trainer.predict(trainer.eval_dataset).metrics
    plain = SFTTrainer(
        trainer.model.merge_and_unload(),
        SFTConfig(trainer.args.output_dir, bf16=False, use_cpu=True, report_to="none", per_device_eval_batch_size=2),
        train_dataset=trainer.eval_dataset,
        eval_dataset=trainer.eval_dataset,
        processing_class=trainer.processing_class,
    )
    assert found["eval_loss"] == predicted["test_loss"] == pytest.approx(plain.evaluate()["eval_loss"], rel=1e-5)


def test_evaluating_restores_what_was_in_training(make: Make) -> None:
    trainer = make(ARMS[0])
    trainer.model.train()
    trainer.model.get_base_model().model.layers[1].eval()
    before = [module.training for module in trainer.model.modules()]
    trainer.evaluate()
    assert [module.training for module in trainer.model.modules()] == before
    assert trainer.objective is trainer._forward.objective


@pytest.mark.parametrize("objective", ARMS, ids=lambda objective: objective.arm)
def test_early_stopping_ends_behind_the_lowest_cross_entropy(make: Make, objective: Objective, tmp_path: Path) -> None:
    """Held-out answers that training unlearns: of all evaluations the lowest is the best, and its weights are left."""
    other = [{"prompt": f"def g{i}(b):\n", "completion": f"    print(b, {i})\n    return b\n"} for i in range(5)]
    trainer = make(
        objective,
        Dataset.from_list(other),
        max_steps=60,
        learning_rate=0.03,
        lr_scheduler_type="constant",
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
    )
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
    trainer.train()
    values = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    best = min(values, key=lambda step: values[step])
    assert trainer.state.global_step < 60
    assert trainer.state.best_global_step == best == trainer.state.global_step - 4
    assert trainer.evaluate()["eval_loss"] == values[best]
    assert cross_entropy(trainer) == pytest.approx(values[best], rel=1e-5)


class Pretended(TrainerCallback):  # type: ignore[misc]
    """Replaces the loss of each step's evaluation."""

    def __init__(self, losses: dict[int, float]) -> None:
        self._losses = losses

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        metrics["eval_loss"] = self._losses.get(state.global_step, metrics["eval_loss"])


class StopAtSave(TrainerCallback):  # type: ignore[misc]
    """Ends training behind the first checkpoint."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = True


BEST = {
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": False,
}


def has_weights_of(trainer: ObjectiveTrainer, checkpoint: Path) -> bool:
    saved = load_file(checkpoint / "adapter_model.safetensors")
    found = {name.replace(".default", ""): value for name, value in trainer.model.state_dict().items()}
    return all(torch.equal(found[name], value) for name, value in saved.items())


def test_of_a_best_step_that_was_not_saved_the_best_checkpoint_is_loaded(make: Make, tmp_path: Path) -> None:
    """As SFTTrainer does: steps 2 and 4 are saved, and step 3 has the lowest loss."""
    trainer = make(ARMS[0], max_steps=4, eval_steps=1, save_steps=2, **BEST)
    trainer.add_callback(Pretended({1: 9.0, 2: 1.0, 3: 0.9, 4: 8.0}))
    trainer.train()
    assert trainer.state.best_global_step == 3
    assert has_weights_of(trainer, tmp_path / "out" / "checkpoint-2")
    assert not has_weights_of(trainer, tmp_path / "out" / "checkpoint-4")
    assert trainer.loaded_step == 2


def test_the_best_checkpoint_may_be_in_the_folder_that_was_resumed_from(make: Make, tmp_path: Path) -> None:
    changes = BEST | {"max_steps": 4, "eval_steps": 2, "save_steps": 2}
    first = make(ARMS[0], **changes, output_dir=str(tmp_path / "first"))
    first.add_callback(Pretended({2: 1.0}))
    first.add_callback(StopAtSave())
    first.train()
    trainer = make(ARMS[0], **changes)
    trainer.add_callback(Pretended({4: 9.0}))
    trainer.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-2"))
    assert trainer.state.global_step == 4
    assert has_weights_of(trainer, tmp_path / "first" / "checkpoint-2")
    assert not has_weights_of(trainer, tmp_path / "out" / "checkpoint-4")
