"""One arm's training run: the trainer made from the recipe, run or resumed, and its adapter saved."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from ibft.data.tokenize import TokenizedExample
from ibft.errors import UserError
from ibft.models import load_model, resolve_device, resolve_model_path
from ibft.recipe import IBObjective, LoraConfig, ModelConfig, Objective, Recipe
from ibft.training.callbacks import (
    CheckpointKeeper,
    LogWriter,
    ProgressBar,
    StopAtNonFinite,
    last_complete_checkpoint,
)
from ibft.training.memory import peak_memory_mib, reset_peak_memory
from ibft.training.trainer import IBConfig, IBTrainer

__all__ = ["FitResult", "fit"]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` measured; the units are those of `TrainingSummary`. `seconds` are of this attempt alone."""

    steps: int
    seconds: float
    peak_memory_mib: float
    trainable_parameters: int
    final_loss: float | None


class _FTTrainer(StopAtNonFinite, SFTTrainer):  # type: ignore[misc]
    """Plain fine-tuning."""


class _IBTrainer(StopAtNonFinite, IBTrainer):
    """Fine-tuning with the bottleneck."""


def fit(
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    folder: Path,
) -> FitResult:
    """Train, resuming from the last complete checkpoint in `folder`, and save the adapter to `folder/adapter`.

    Raises:
        UserError: see `ibft.training.stage.train`.
    """
    start = time.monotonic()
    device = resolve_device(recipe.model)
    reset_peak_memory(device)
    with (
        _explained(folder),
        LogWriter(folder / "log.jsonl") as log,
        ProgressBar(f"Training {objective.arm}") as bar,
    ):
        trainer = make_trainer(recipe, objective, tokenizer, examples, folder)
        trainer.remove_callback(PrinterCallback)
        for callback in (log, bar, CheckpointKeeper()):
            trainer.add_callback(callback)
        trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        checkpoint = last_complete_checkpoint(folder / "checkpoints")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if isinstance(trainer, IBTrainer):
            trainer.remove_bottleneck()
        _save_adapter(trainer.model, folder / "adapter")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return FitResult(
        steps=trainer.state.global_step,
        seconds=time.monotonic() - start,
        peak_memory_mib=peak_memory_mib(device),
        trainable_parameters=trainable,
        final_loss=losses[-1] if losses else None,
    )


def make_trainer(
    recipe: Recipe,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    folder: Path,
) -> SFTTrainer:
    """The trainer of an objective: the arms differ in the loss alone, never in data, order, seed or budget."""
    model = load_model(recipe.model)
    arguments = common_arguments(recipe, folder / "checkpoints")
    shared = {
        "train_dataset": datasets.Dataset.from_dict(
            {
                "input_ids": [example.input_ids for example in examples],
                "labels": [example.labels for example in examples],
            }
        ),
        "processing_class": tokenizer,
        "peft_config": _lora(recipe.train.lora, recipe.model, model),
    }
    trainer: Any
    if isinstance(objective, IBObjective):
        ib_arguments = IBConfig(
            **arguments,
            alpha=objective.alpha,
            beta=objective.beta,
            layer=objective.layer,
            bottleneck_dim=objective.bottleneck_dim,
            logvar_min=objective.logvar_min,
            logvar_max=objective.logvar_max,
            form=objective.form,
        )
        trainer = _IBTrainer(model, _one_gpu(ib_arguments), **shared)
    else:
        trainer = _FTTrainer(model, _one_gpu(SFTConfig(**arguments)), **shared)
    trainer.examples = examples
    return trainer


def common_arguments(recipe: Recipe, output_dir: Path) -> dict[str, Any]:
    """TRL's arguments from the recipe's `train` section, the same for every objective."""
    config = recipe.train
    return {
        "output_dir": str(output_dir),
        "seed": recipe.seed,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of all steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "gradient_checkpointing": config.gradient_checkpointing,
        # The weights' own dtype decides: autocast on top would only cast again.
        "bf16": False,
        "use_cpu": resolve_device(recipe.model).type == "cpu",
        # Nothing is cut: examples over the limit were left out, and counted, before.
        "max_length": None,
        "logging_steps": config.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
    }


def _one_gpu(arguments: SFTConfig) -> SFTConfig:
    """Keep to the first of several visible GPUs: without a launcher, TRL refuses to run on all of them."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _lora(config: LoraConfig, model_config: ModelConfig, model: PreTrainedModel) -> peft.LoraConfig:
    targets = list(config.target_modules)
    if "lm_head" in targets:
        raise UserError("train.lora.target_modules: lm_head cannot be adapted: the loss reads its weight. Remove it.")
    if targets != ["all-linear"]:
        names = [name for name, _ in model.named_modules()]
        for target in targets:
            if not any(name == target or name.endswith(f".{target}") for name in names):
                known = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if _is_linear(m)})
                raise UserError(
                    f"train.lora.target_modules: {target!r} matches no module of {model_config.name}. "
                    f"It has: {', '.join(known)}; or use [all-linear]."
                )
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        base_model_name_or_path=_published_name(model_config),
        revision=model_config.revision,
    )


def _is_linear(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_embedding = isinstance(module, torch.nn.Embedding)
    return isinstance(weight, torch.Tensor) and weight.dim() == 2 and not is_embedding


def _published_name(config: ModelConfig) -> str:
    """What the adapter calls its base model: the recipe's hub id or folder, the cache folder of a packaged model."""
    return resolve_model_path(config) if config.name.startswith("package:") else config.name


def _save_adapter(model: peft.PeftModel, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # from an attempt that was cut off here
    model.save_pretrained(folder)


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
            raise UserError(f"{folder}: the disk is full. Free space, then run again: training goes on.") from None
        raise
