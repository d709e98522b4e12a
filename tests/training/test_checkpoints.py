"""Checkpoints: a resumed run equals an uninterrupted one, and a half-written folder is never resumed from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from ibft.errors import UserError
from ibft.training.callbacks import CheckpointKeeper, last_complete_checkpoint


class StopAfter(TrainerCallback):
    """Ends the process's training at a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def state_of(trainer: Any) -> dict[str, torch.Tensor]:
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    return weights | {"noise": trainer._bottleneck.generator.get_state()}


def test_resumed_run_equals_the_uninterrupted_one(make_trainer: Any, tmp_path: Path) -> None:
    settings = {
        "alpha": 0.5,
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 6,
        "per_device_train_batch_size": 5,
    }
    whole = make_trainer(output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    interrupted = make_trainer(output_dir=str(tmp_path / "cut"), **settings)
    interrupted.add_callback(StopAfter(5))
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    torch.manual_seed(999)  # another process: nothing in memory carries over
    resumed = make_trainer(output_dir=str(tmp_path / "cut"), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    expected = state_of(whole)
    assert any(name.startswith("ibft_bottleneck") for name in expected)
    for name, value in state_of(resumed).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("missing", ["bottleneck.pt", "bottleneck_noise_0.pt"])
def test_checkpoint_without_the_head_is_refused(make_trainer: Any, tmp_path: Path, missing: str) -> None:
    make_trainer(save_strategy="steps", save_steps=2, max_steps=2).train()
    checkpoint = tmp_path / "out" / "checkpoint-2"
    (checkpoint / missing).unlink()
    with pytest.raises(UserError, match="holds no bottleneck"):
        make_trainer(max_steps=3).train(resume_from_checkpoint=str(checkpoint))


def test_head_of_another_shape_is_refused(make_trainer: Any, tmp_path: Path) -> None:
    make_trainer(save_strategy="steps", save_steps=2, max_steps=2).train()
    with pytest.raises(UserError, match="bottleneck_dim"):
        make_trainer(max_steps=3, bottleneck_dim=8).train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))


def test_keeper_marks_last_and_keeps_one(make_trainer: Any, tmp_path: Path) -> None:
    trainer = make_trainer(save_strategy="steps", save_steps=2, max_steps=5)
    trainer.add_callback(CheckpointKeeper())
    trainer.train()
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-4"]
    assert last_complete_checkpoint(tmp_path / "out") == tmp_path / "out" / "checkpoint-4"


def test_half_written_checkpoint_is_not_resumed_from(make_trainer: Any, tmp_path: Path) -> None:
    trainer = make_trainer(save_strategy="steps", save_steps=2, max_steps=5)
    trainer.add_callback(CheckpointKeeper())
    trainer.train()
    whole = tmp_path / "out" / "checkpoint-4"
    half = tmp_path / "out" / "checkpoint-10"  # later than 4 as a number, earlier as text
    shutil.copytree(whole, half)
    (half / "complete").unlink()
    assert last_complete_checkpoint(tmp_path / "out") == whole
    assert not half.exists()


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "missing") is None
