"""Which weights are trained, and how they are loaded and saved: an adapter, on a quantized base or not, or all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from ibft.models.loading import load_model, resolve_device, resolve_dtype
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.sections import ModelConfig

__all__ = ["load_base", "mixed_precision", "save_weights", "train_in_float32"]


def load_base(recipe: Recipe, arguments: SFTConfig) -> PreTrainedModel:
    """Load the base model as training needs it, not yet on its device: the Trainer moves it, or shards it.

    Args:
        recipe: names the model.
        arguments: have to be alive: with DeepSpeed ZeRO-3, transformers looks for them when it reads the weights, and
            then keeps a share in each process.
    """
    # Full fine-tuning holds float32 weights, whatever `model.dtype`: in bfloat16 a weight has three digits, and most
    # updates of a small learning rate would be rounded away.
    return load_model(recipe.model, dtype=torch.float32 if recipe.train.lora is None else None, place=False)


def mixed_precision(recipe: Recipe) -> dict[str, bool]:
    """Return TRL's arguments for products in fewer bits than the trained weights have.

    In bfloat16 that is for full fine-tuning: with an adapter the weights' own dtype decides, and autocast on top would
    only cast again. In float16 it is always so, since a loss that is scaled needs trained weights in float32.
    """
    dtype = resolve_dtype(recipe.model, resolve_device(recipe.model))
    return {"bf16": recipe.train.lora is None and dtype == torch.bfloat16, "fp16": dtype == torch.float16}


def train_in_float32(model: nn.Module) -> None:
    """Hold what is trained in float32: a gradient in float16 or bfloat16 cannot be unscaled."""
    # PEFT does so for LoRA's matrices, but not for modules that are trained whole, and TRL has adapters of a quantized
    # base in bfloat16.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def save_weights(trainer: SFTTrainer, recipe: Recipe, folder: Path) -> None:
    """Save what was trained: `folder/adapter`, a PEFT adapter, or `folder/model`, a whole model in `model.dtype`.

    Either comes with the tokenizer and its chat template, as they were in training.

    Every process must call it; the main process writes.
    """
    # Before the other processes return: it gathers sharded weights (FSDP, ZeRO-3).
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not is_main_process():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    target = folder / ("adapter" if recipe.train.lora is not None else "model")
    shutil.rmtree(target, ignore_errors=True)  # from an attempt that was cut off here
    if recipe.train.lora is None:
        dtype = resolve_dtype(recipe.model, resolve_device(recipe.model))
        tied = model.all_tied_weights_keys  # a second name of another weight; gathered or cast, it would be a copy
        weights = {
            name: weight.to(dtype) if weight.is_floating_point() else weight
            for name, weight in weights.items()
            if name not in tied
        }
        model.config.dtype = dtype
    model.save_pretrained(target, state_dict=weights)
    trainer.processing_class.save_pretrained(target)
    if recipe.train.lora is not None:
        _name_base(target / "adapter_config.json", recipe.model)


def _name_base(path: Path, config: ModelConfig) -> None:
    """Put the base model's name into an adapter's settings: a hub id, or a name without a path of this machine."""
    # Not before PEFT has saved: it looks at the base's configuration, and would ask the hub for it by that name.
    settings = json.loads(path.read_bytes())
    settings["base_model_name_or_path"] = config.name_elsewhere
    path.write_text(json.dumps(settings, indent=2, sort_keys=True))
