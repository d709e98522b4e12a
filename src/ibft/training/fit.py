"""One arm's training run: the trainer made from the recipe, run or resumed, and its adapter saved."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase
from transformers.integrations import TensorBoardCallback, get_available_reporting_integrations
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig

from ibft import progress
from ibft.artifacts.training import RoutedExperts
from ibft.data.tokens import TokenizedExample
from ibft.errors import UserError
from ibft.models.allocator import returning_freed_memory
from ibft.models.loading import resolve_device
from ibft.models.processes import decide
from ibft.objectives.base import Objective
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.training.adapter import check_adapter, lora_config, put_dropout, routed_experts, say_experts
from ibft.training.batching import Batching, SortsByLength, choose_batching
from ibft.training.callbacks import (
    AlarmBell,
    CheckpointKeeper,
    LogWriter,
    ProgressBar,
    last_complete_checkpoint,
)
from ibft.training.compression import COLUMN
from ibft.training.config import ObjectiveConfig
from ibft.training.divergence import StopAtDivergence
from ibft.training.memory import peak_memory_mib, reset_peak_memory
from ibft.training.optimizer import check_optimizer
from ibft.training.trainer import ObjectiveTrainer
from ibft.training.validation import StopEarly, evaluation_arguments, held_out_dataset
from ibft.training.weights import load_base, mixed_precision, save_weights, train_in_float32

__all__ = ["FitResult", "fit"]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` measured, in the units of `TrainingSummary`; `seconds` count this attempt alone."""

    steps: int
    seconds: float
    peak_memory_mib: float
    trainable_parameters: int
    batching: Batching
    final_loss: float | None
    best_step: int | None
    best_loss: float | None
    kept_step: int
    is_early: bool
    routed_experts: RoutedExperts | None


class StageTrainer(StopAtDivergence, SortsByLength, ObjectiveTrainer):
    """The trainer of every arm."""

    labelled_only = True


def fit(
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    folder: Path,
    weights: Sequence[float] | None = None,
    extend: Callable[[StageTrainer, ExitStack], None] | None = None,
    *,
    validation: Sequence[TokenizedExample] = (),
) -> FitResult:
    """Train, resuming from the last complete checkpoint in `folder`, and save the adapter or model there.

    `weights` are the examples' compression weights, for an adaptive bottleneck. `extend` adds callbacks to the trainer,
    which the stack closes. `validation` is held out.

    Raises:
        UserError: see `ibft.stages.train.train`.
    """
    start = time.monotonic()
    device = resolve_device(recipe.model)
    reset_peak_memory(device)
    is_returning = recipe.train.gradient_checkpointing and device.type == "cpu"
    with _explained(folder), ExitStack() as stack, returning_freed_memory(is_returning):
        trainer = make_trainer(recipe, objective, tokenizer, examples, folder, weights, validation)
        experts = None
        if recipe.train.lora is not None:
            experts = routed_experts(trainer.model)
            say_experts(trainer.model, recipe.train.lora.dropout)
        _add_callbacks(trainer, recipe, objective, folder, stack)
        if extend is not None:  # behind the log's writer, which is then open
            extend(trainer, stack)
        # Before `remove_bottleneck`, whose heads count as trained.
        trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        checkpoint = decide(lambda: last_complete_checkpoint(folder / "checkpoints"))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.remove_bottleneck()
        if callable(to_final := getattr(trainer.optimizer, "eval", None)):
            to_final()  # the weights of a schedule-free optimizer are those to keep only in evaluation mode
        save_weights(trainer, recipe, folder)
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return FitResult(
        steps=state.global_step,
        seconds=time.monotonic() - start,
        peak_memory_mib=peak_memory_mib(device),
        trainable_parameters=trainable,
        batching=trainer.batching,
        final_loss=losses[-1] if losses else None,
        best_step=state.best_global_step,
        best_loss=None if state.best_global_step is None else state.best_metric,
        kept_step=_kept_step(trainer, recipe, objective, folder),
        is_early=state.global_step < state.max_steps,
        routed_experts=experts,
    )


def _kept_step(trainer: StageTrainer, recipe: Recipe, objective: Objective, folder: Path) -> int:
    state = trainer.state
    kept_step = trainer.loaded_step or state.global_step
    if recipe.train.keep == "best" and state.best_global_step not in (None, 0, kept_step):
        progress.warn(
            f"Training {objective.arm}",
            f"the checkpoint of the best step, {state.best_global_step}, is gone from {folder / 'checkpoints'}: the "
            f"weights are those of step {kept_step}.",
        )
    return kept_step


def _add_callbacks(trainer: StageTrainer, recipe: Recipe, objective: Objective, folder: Path, stack: ExitStack) -> None:
    trainer.remove_callback(PrinterCallback)
    if recipe.train.early_stopping is not None:
        trainer.add_callback(StopEarly(recipe.train.early_stopping))
    trainer.add_callback(CheckpointKeeper())
    if is_main_process():
        trainer.add_callback(LogWriter(folder / "log.jsonl", stack))
        trainer.add_callback(ProgressBar(f"Training {objective.arm}", stack))
        trainer.add_callback(AlarmBell(objective))
    for callback in trainer.callback_handler.callbacks:
        # TensorBoard's default folder is among the checkpoints, which are deleted at the end.
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder / "tensorboard")


def make_trainer(
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    folder: Path,
    weights: Sequence[float] | None = None,
    validation: Sequence[TokenizedExample] = (),
) -> StageTrainer:
    """Make the trainer of an objective: arms differ in the loss alone, never in data, order, seed or budget."""
    check_optimizer(recipe.train.optimizer, resolve_device(recipe.model))
    check_adapter(recipe.train.lora, recipe.model)
    arguments = common_arguments(recipe, folder / "checkpoints")
    model = load_base(recipe, SFTConfig(**arguments))
    lengths = [len(example.input_ids) for example in examples]
    config = recipe.train
    # On every process, since the trial of the model needs the weights of all where ZeRO-3 shards them; what the main
    # process found counts, or rounding could divide them.
    chosen = choose_batching(config.batching, model, lengths, config.batch_size, resolve_device(recipe.model))
    batching = decide(lambda: chosen)
    arguments["padding_free"] = batching == "packed"
    arguments["run_name"] = f"{recipe.name}-{objective.arm}"
    columns: dict[str, Any] = {
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    }
    if weights is not None:
        columns[COLUMN] = list(weights)
    if validation:
        arguments |= evaluation_arguments(config, len(examples))
    arguments["objective_settings"] = {"name": objective.name, **objective.settings()}
    # Transformers' noise depends on a row's length, and a packed row is a whole batch long.
    rows_per_batch = config.batch_size if batching == "packed" else 1
    trl_arguments = ObjectiveConfig(**arguments, **objective.trl_arguments(rows_per_batch))
    if trl_arguments.n_gpu > 1:
        trl_arguments._n_gpu = 1  # without a launcher, TRL refuses to run on several visible GPUs
    # Not among the arguments, which then ask for checkpoints at the very steps of the evaluations.
    trl_arguments.load_best_model_at_end = config.keep == "best"
    adapter = lora_config(config.lora, recipe.model, model)
    trainer = StageTrainer(
        model,
        trl_arguments,
        objective=objective,
        train_dataset=datasets.Dataset.from_dict(columns),
        eval_dataset=held_out_dataset(validation, is_weighed=weights is not None) if validation else None,
        processing_class=tokenizer,
        peft_config=adapter,
    )
    if config.lora is not None and adapter is not None and adapter.target_parameters:
        put_dropout(model, config.lora.dropout)
    if trl_arguments.fp16:
        train_in_float32(trainer.model)
    trainer.examples = examples
    trainer.batching = batching
    return trainer


def common_arguments(recipe: Recipe, output_dir: Path) -> dict[str, Any]:
    """Return TRL's arguments from the recipe's `train` section, the same for every objective.

    Raises:
        UserError: metrics are to be reported to what is not installed.
    """
    config = recipe.train
    available = get_available_reporting_integrations()
    for name in config.report_to:
        if name not in (*available, "all", "none"):
            raise UserError(
                f"train.report_to is {name}: its package is not installed (usable: {', '.join(available) or 'none'}). "
                "Install it, or leave it out: log.jsonl is written in any case."
            )
    return {
        "output_dir": str(output_dir),
        "seed": recipe.seed,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "optim": config.optimizer,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of all steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        **mixed_precision(recipe),
        "use_cpu": resolve_device(recipe.model).type == "cpu",
        # Every trained parameter is used in every forward, so DDP need not look for others.
        "ddp_find_unused_parameters": False,
        # Nothing is cut: examples over the limit were left out, and counted, before.
        "max_length": None,
        "logging_steps": config.log_every,
        "logging_first_step": True,
        # On, it would log another value where a loss is not finite.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
    }


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a full disk and full GPU memory into a sentence with the remedy."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "train: the GPU's memory is full. Lower train.batch_size (and raise train.gradient_accumulation), "
            "or set train.gradient_checkpointing: true."
        ) from None
    except (OSError, RuntimeError) as error:
        # torch.save and safetensors report a full disk as errors of their own.
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(folder).free < 2**20:
            raise UserError(f"{folder}: the disk is full. Free space, then run again: training resumes.") from None
        raise
