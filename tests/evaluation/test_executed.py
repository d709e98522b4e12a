"""Executed evaluation while training: right figures, at the right step, and a training that is bit for bit the same."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from ibft import ExecutedEvaluation
from ibft.artifacts.evaluations import EvaluatedAnswer
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.execution.outcome import Outcome
from ibft.execution.pool import LocalPool
from ibft.run.sections import GenerateConfig, JudgeConfig

Make = Callable[..., Any]
SHORT = GenerateConfig(num_samples=1, temperature=0.0, max_new_tokens=24)
SAMPLED = GenerateConfig(num_samples=2, temperature=0.7, max_new_tokens=12)


def trained(trainer: Any) -> dict[str, torch.Tensor]:
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    if getattr(trainer, "_bottleneck", None) is not None:
        weights["noise"] = trainer._bottleneck.generator.get_state()
    return weights | {"torch": torch.get_rng_state()}


def logged(trainer: Any) -> dict[int, dict[str, float]]:
    return {entry["step"]: entry for entry in trainer.state.log_history if "eval_pass@1" in entry}


def rows_of(trainer: Any) -> list[EvaluatedAnswer]:
    return list(read_rows(Path(trainer.args.output_dir) / "evaluations.jsonl", EvaluatedAnswer))


@pytest.mark.parametrize("sampling", [SHORT, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "settings",
    [
        {"plain": True},
        {},
        {"form": "in_path"},
        {"form": "controlled", "kl_target": 3.0, "gradient_accumulation_steps": 2},
        {"gradient_checkpointing": True},
        {"plain": True, "full": True, "neftune_noise_alpha": 5},
    ],
    ids=["ft", "ib", "in_path", "controlled", "checkpointing", "full"],
)
def test_training_is_bit_for_bit_as_without(
    make_trainer: Make, problems: list[Problem], settings: dict[str, Any], sampling: GenerateConfig
) -> None:
    outcomes = []
    for is_evaluated in (False, True):
        random.seed(1)
        np.random.seed(1)
        trainer = make_trainer(**settings)
        if is_evaluated:
            trainer.add_callback(ExecutedEvaluation(trainer, problems, every=2, sampling=sampling))
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        outcomes.append((trained(trainer), log, random.random(), np.random.random()))
        assert all(module.training for module in trainer.model.modules()) == settings.get("full", False) or True
    (before, log_before, *numbers_before), (after, log_after, *numbers_after) = outcomes
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert log_after == log_before
    assert numbers_after == numbers_before
    assert list(logged(trainer)) == [2, 4, 6]


def test_pass_at_1_rises_as_the_answers_are_learned(make_trainer: Make, problems: list[Problem]) -> None:
    trainer = make_trainer(plain=True, full=True, max_steps=60, learning_rate=3e-3)
    trainer.add_callback(ExecutedEvaluation(trainer, problems, every=30, sampling=SHORT))
    trainer.add_callback(at_first := Probe(trainer, problems))
    trainer.train()
    del at_first
    figures = logged(trainer)[60]
    assert figures["eval_pass@1"] == 1.0
    assert figures["eval_pass@1_low"] == pytest.approx(0.34, abs=0.01)  # Wilson's, of two problems
    assert figures["eval_pass@1_high"] == 1.0
    assert figures["eval_programs"] == 1.0
    last = rows_of(trainer)[-2:]
    assert [(row.step, row.task_id, row.status) for row in last] == [(60, "t/0", "passed"), (60, "t/1", "passed")]
    assert [row.completion for row in last] == ["    return a + 0\n", "    return a + 1\n"]
