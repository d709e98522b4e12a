"""Executed evaluation while training: right figures, at the right step, and a training that is bit for bit the same."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
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
from ibft.evaluation.judge import BackgroundJudge
from ibft.execution.examiner import Examiner
from ibft.execution.outcome import Job
from ibft.execution.pool import Pool
from ibft.run.sections import GenerateConfig, PromptConfig

Make = Callable[..., Any]
SHORT = GenerateConfig(num_samples=1, temperature=0.0, max_new_tokens=24)
SAMPLED = GenerateConfig(num_samples=2, temperature=0.7, max_new_tokens=12)


def state_of(trainer: Any) -> dict[str, torch.Tensor]:
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    if getattr(trainer, "_bottleneck", None) is not None:
        weights["noise"] = trainer._bottleneck.generator.get_state()
    return weights | {"torch": torch.get_rng_state()}


def logged(trainer: Any) -> dict[int, dict[str, float]]:
    return {entry["step"]: entry for entry in trainer.state.log_history if "eval_pass@1" in entry}


def rows_of(trainer: Any) -> list[EvaluatedAnswer]:
    return list(read_rows(Path(trainer.args.output_dir) / "evaluations.jsonl", EvaluatedAnswer))


def evaluated(trainer: Any, problems: list[Problem], **settings: Any) -> Any:
    trainer.add_callback(ExecutedEvaluation(trainer, problems, **({"sampling": SHORT} | settings)))
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        ({"plain": True}, SHORT),
        ({}, SAMPLED),
        ({"form": "in_path"}, SHORT),
        ({"form": "controlled", "kl_target": 3.0, "gradient_accumulation_steps": 2}, SAMPLED),
        ({"gradient_checkpointing": True}, SHORT),
        ({"plain": True, "full": True, "neftune_noise_alpha": 5}, SAMPLED),
    ],
    ids=["ft", "ib", "in_path", "controlled", "checkpointing", "full"],
)
def test_training_is_bit_for_bit_as_without(
    make_trainer: Make, problems: list[Problem], settings: dict[str, Any], sampling: GenerateConfig
) -> None:
    outcomes: list[Any] = []
    for is_evaluated in (False, True):
        random.seed(1)
        np.random.seed(1)
        trainer = make_trainer(**settings)
        if is_evaluated:
            trainer.add_callback(ExecutedEvaluation(trainer, problems, every=2, sampling=sampling))
        trainer.train()
        losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        modes = {name: module.training for name, module in trainer.model.named_modules()}
        config = trainer.model.config.to_dict()
        outcomes.append((state_of(trainer), losses, modes, config, random.random(), np.random.random()))
    (before, *rest_before), (after, *rest_after) = outcomes
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert rest_after == rest_before
    assert list(logged(trainer)) == [2, 4, 6]


def test_pass_at_1_rises_as_the_answers_are_learned(make_trainer: Make, problems: list[Problem]) -> None:
    trainer = evaluated(make_trainer(plain=True, full=True, max_steps=12, learning_rate=3e-3), problems, every=1)
    figures = logged(trainer)
    assert list(figures) == list(range(1, 13))
    assert figures[1]["eval_pass@1"] == 0.0
    assert (figures[1]["eval_pass@1_low"], figures[1]["eval_pass@1_high"]) == (0.0, pytest.approx(0.6576, abs=1e-4))
    assert figures[12]["eval_pass@1"] == 1.0
    assert figures[12]["eval_pass@1_low"] == pytest.approx(0.3424, abs=1e-4)  # Wilson's, of two problems
    assert figures[12]["eval_programs"] == 1.0
    first, *_, last = rows_of(trainer)
    assert (first.step, first.task_id, first.status == "passed") == (1, "t/0", False)
    assert (last.step, last.task_id, last.status, last.completion) == (12, "t/1", "passed", "    return a + 1\n")


def test_once_per_epoch_and_at_the_end(make_trainer: Make, problems: list[Problem]) -> None:
    trainer = evaluated(make_trainer(max_steps=7), problems)  # three steps in an epoch
    assert list(logged(trainer)) == [3, 6, 7]


class Seen(TrainerCallback):
    """What a callback that reports metrics is given, and at which step training was."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.rows = trainer, list[tuple[int, int, bool]]()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "eval_pass@1" in logs:
            self.rows.append((state.global_step, self.trainer.state.global_step, "loss" in logs))


class HeldBack:
    """Lets no verdict out before it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let_go, judge = threading.Event(), BackgroundJudge._outcomes

        def outcomes(background: BackgroundJudge, answers: Any) -> Any:
            assert self.let_go.wait(60)
            return judge(background, answers)

        monkeypatch.setattr(BackgroundJudge, "_outcomes", outcomes)


def test_training_does_not_wait_and_the_log_has_the_step_of_the_weights(
    make_trainer: Make, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldBack(monkeypatch)
    trainer = make_trainer(plain=True, full=True, learning_rate=3e-3, max_steps=12)
    trainer.add_callback(seen := Seen(trainer))

    class LetGo(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 12:  # had training waited for step 10, this would never come
                held.let_go.set()

    trainer.add_callback(LetGo())
    evaluated(trainer, problems, every=5)
    assert [step for step, _, _ in seen.rows] == [5, 10]
    assert all(now == 12 and not has_loss for _, now, has_loss in seen.rows)
    losses = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == list(range(1, 13))  # a log that was due is not lost to the one that came late


def test_a_failure_of_the_sandbox_is_not_a_failure_of_the_model(
    make_trainer: Make, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    examine = Examiner.examine

    def broken(self: Examiner, job: Job, *rest: Any) -> Any:
        if job.sample is not None and job.problem.task_id == "t/1":
            return job.unfinished("infrastructure_error", "not judged: no more processes")
        return examine(self, job, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Examiner, "examine", broken)
        trainer = evaluated(make_trainer(plain=True, full=True, learning_rate=3e-3, max_steps=12), problems, every=12)
    figures = logged(trainer)[12]
    assert math.isnan(figures["eval_pass@1"])
    assert math.isnan(figures["eval_pass@1_low"])
    assert (figures["eval_unjudged"], figures["eval_programs"]) == (1.0, 1.0)
    assert [row.result for row in rows_of(trainer)] == ["passed", "not judged: no more processes"]


def test_a_pool_that_fails_later_does_not_end_training(
    make_trainer: Make, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Pool.run

    def fails(self: Pool, jobs: Any) -> Any:
        jobs = list(jobs)
        if any(job.sample is not None for _, job in jobs):
            raise OSError("no more threads")
        return run(self, jobs)

    monkeypatch.setattr(Pool, "run", fails)
    trainer = evaluated(make_trainer(), problems, every=6)
    assert trainer.state.global_step == 6
    assert math.isnan(logged(trainer)[6]["eval_pass@1"])
    assert {row.result for row in rows_of(trainer)} == {"not judged: no more threads"}


def test_a_sandbox_that_fails_is_refused_before_the_first_step(
    make_trainer: Make, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Examiner, job: Job, *rest: Any) -> Any:
        return job.unfinished("infrastructure_error", "not judged: no processes")

    monkeypatch.setattr(Examiner, "examine", broken)
    trainer = make_trainer()
    with pytest.raises(UserError, match=r"sandbox fails before training begins \(not judged: no processes\)"):
        evaluated(trainer, problems)
    assert trainer.state.global_step == 0


def test_what_cannot_be_asked_or_judged_is_refused_before_the_first_step(
    make_trainer: Make, problems: list[Problem]
) -> None:
    long = msgspec.structs.replace(problems[0], prompt="x" * 2000)
    with pytest.raises(UserError, match="there is no room for an answer"):
        evaluated(make_trainer(), [long])
    wrong = msgspec.structs.replace(problems[0], canonical_solution="    return 7\n")
    with pytest.raises(UserError, match="none of the 1 problems has a reference that passes here"):
        evaluated(make_trainer(), [wrong])
    with pytest.raises(UserError, match="every is 0"):
        ExecutedEvaluation(make_trainer(), problems, every=0)


def test_problems_whose_reference_fails_count_in_no_figure(make_trainer: Make, problems: list[Problem]) -> None:
    wrong = msgspec.structs.replace(problems[0], task_id="t/wrong", canonical_solution="    return 7\n")
    trainer = make_trainer(plain=True, full=True, learning_rate=3e-3, max_steps=12)
    evaluated(trainer, [*problems, wrong], every=12)
    assert logged(trainer)[12]["eval_pass@1"] == 1.0
    assert rows_of(trainer)[-1].status == "excluded"


class Fails(TrainerCallback):  # type: ignore[misc]
    """Raises at step 2; has seen what the sandbox has on disk."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.found: list[Path] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.found = list(self._scratch.glob("ibft-judge-*"))
        if state.global_step == 2:
            raise ValueError("the training fails")


def test_a_training_that_fails_leaves_no_sandbox(
    make_trainer: Make, problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trainer, fails = make_trainer(plain=True), Fails(tmp_path)

    def train() -> None:
        with ExecutedEvaluation(trainer, problems, every=1, sampling=SHORT) as evaluation:
            trainer.add_callback(evaluation)
            trainer.add_callback(fails)
            trainer.train()

    with pytest.raises(ValueError, match="the training fails"):
        train()
    assert fails.found
    assert not list(tmp_path.glob("ibft-judge-*"))


@pytest.mark.parametrize("end", ["raise SystemExit", "judge = None; print('forgotten', *folders())"])
def test_a_judge_that_nobody_closes_ends_by_itself(end: str, tmp_path: Path) -> None:
    code = f"""
import pathlib, tempfile
from ibft.artifacts.rows import Problem
from ibft.evaluation.judge import BackgroundJudge
from ibft.run.sections import JudgeConfig

def folders():
    return list(pathlib.Path(tempfile.gettempdir()).glob("ibft-judge-*"))

problem = Problem(
    task_id="t", prompt="def f():\\n", tests="assert f()", entry_point="f", canonical_solution="    return 1\\n"
)
judge = BackgroundJudge([problem], JudgeConfig(workers=1, cache=False))
print(len(folders()))
{end}
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() in (["1"], ["1", "forgotten"])
    assert not list(tmp_path.glob("ibft-judge-*"))


def test_sharded_weights_are_refused(make_trainer: Make, problems: list[Problem]) -> None:
    trainer = make_trainer()
    trainer.is_fsdp_enabled = True
    with pytest.raises(UserError, match=r"FSDP or DeepSpeed ZeRO-3 shards it\. Use DDP or ZeRO-2"):
        ExecutedEvaluation(trainer, problems)


def test_the_template_is_the_one_that_is_given(make_trainer: Make, problems: list[Problem]) -> None:
    """The tiny model has a template, and no end of turn at which its generation stops: `auto` is `plain`."""
    asked = []
    for prompt in (None, PromptConfig(template="chat")):
        trainer = make_trainer(max_steps=1)
        evaluation = ExecutedEvaluation(trainer, problems, sampling=SHORT, prompt=prompt)
        trainer.add_callback(evaluation)
        trainer.train()
        asked.append(evaluation._asks[0].rendered.text)
    assert asked == ["def f0(a):\n", "<user>def f0(a):\n<assistant>"]


class Stop(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def answers_drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which a model was asked from now on."""
    steps: list[int] = []
    draw = ExecutedEvaluation._answers

    def counted(self: ExecutedEvaluation, step: int, weights: str) -> Any:
        steps.append(step)
        return draw(self, step, weights)

    monkeypatch.setattr(ExecutedEvaluation, "_answers", counted)
    return steps


def test_a_resumed_run_repeats_and_loses_no_evaluation(
    make_trainer: Make, problems: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    whole = evaluated(make_trainer(output_dir=str(tmp_path / "whole"), **settings), problems, every=2)

    cut = make_trainer(output_dir=str(tmp_path / "cut"), **settings)
    with monkeypatch.context() as patched:
        held = HeldBack(patched)  # nothing is judged: what was generated is all there is
        evaluation = ExecutedEvaluation(cut, problems, every=2, sampling=SHORT)
        cut.add_callback(evaluation)
        cut.add_callback(Stop(7))
        with pytest.raises(KeyboardInterrupt):
            cut.train()
        held.let_go.set()
        evaluation.close()
    assert not logged(cut)

    steps = answers_drawn(monkeypatch)
    resumed = make_trainer(output_dir=str(tmp_path / "cut"), **settings)
    resumed.add_callback(ExecutedEvaluation(resumed, problems, every=2, sampling=SHORT))
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    assert steps == [8]  # 2 and 4 lie before the checkpoint, 6 comes again with the same weights
    assert rows_of(resumed) == rows_of(whole)
    assert logged(resumed) == logged(whole)
    assert not (tmp_path / "cut" / "evaluations.partial.jsonl").exists()


def test_other_weights_or_settings_are_evaluated_again(
    make_trainer: Make, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = answers_drawn(monkeypatch)
    evaluated(make_trainer(), problems, every=3)
    before = evaluated(make_trainer(learning_rate=1e-3), problems, every=3)
    assert steps == [3, 6, 3, 6]
    again = evaluated(make_trainer(learning_rate=1e-3), problems, every=3)
    assert steps == [3, 6, 3, 6]  # the same training once more
    assert rows_of(again) == rows_of(before)
    other = evaluated(make_trainer(learning_rate=1e-3), problems[:1], every=6)
    assert steps == [3, 6, 3, 6, 6]
    assert [(row.step, row.task_id) for row in rows_of(other)] == [(6, "t/0")]
