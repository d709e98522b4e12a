"""Which weights are trained, and how they are loaded and saved: an adapter, on a quantized base or not, or all."""

from __future__ import annotations

import shutil
from pathlib import Path

import peft
import torch
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from ibft.errors import UserError
from ibft.models.loading import load_model, resolve_device, resolve_dtype, resolve_model_path
from ibft.run.processes import is_main_process
from ibft.run.recipe import Recipe
from ibft.run.sections import PACKAGE, LoraConfig, ModelConfig

__all__ = ["load_base", "lora_config", "save_weights", "trains_in_autocast"]


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


def trains_in_autocast(recipe: Recipe) -> bool:
    """Decide whether products run in bfloat16 though the weights are float32: full fine-tuning with that dtype."""
    dtype = resolve_dtype(recipe.model, resolve_device(recipe.model))
    return recipe.train.lora is None and dtype == torch.bfloat16


def lora_config(config: LoraConfig | None, model_config: ModelConfig, model: PreTrainedModel) -> peft.LoraConfig | None:
    """Return PEFT's settings of the adapter; None for full fine-tuning.

    Raises:
        UserError: a target module does not exist in the model, or is `lm_head`.
    """
    if config is None:
        return None
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
        # What others can load: the recipe's hub id or folder. For a packaged model that is the cache folder.
        base_model_name_or_path=(
            resolve_model_path(model_config) if model_config.name.startswith(PACKAGE) else model_config.name
        ),
        revision=model_config.revision,
    )


def _is_linear(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_embedding = isinstance(module, torch.nn.Embedding)
    return isinstance(weight, torch.Tensor) and weight.dim() == 2 and not is_embedding


def save_weights(trainer: SFTTrainer, recipe: Recipe, folder: Path) -> None:
    """Save what was trained: `folder/adapter`, a PEFT adapter, or `folder/model`, a whole model in `model.dtype`.

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
        trainer.processing_class.save_pretrained(target)
    model.save_pretrained(target, state_dict=weights)
