"""What is `auto` in a recipe: what it stands for on this machine, or stood for where the run was made.

A command that loads the model calls `resolve`: the recipe that it records and the identities of its results have what
was computed, so that another machine, where `auto` stands for something else, refuses to continue. Any other command
(judge, report, export) takes over what is recorded, and loads no PyTorch for it.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ibft.data.training import is_conversational
from ibft.models.loading import load_stop_ids, load_tokenizer, resolve_device, resolve_dtype, uses_gpu
from ibft.run.processes import num_processes
from ibft.run.recipe import Recipe
from ibft.run.sections import ModelConfig
from ibft.text.choice import choose_template

if TYPE_CHECKING:
    import torch

__all__ = ["as_recorded", "resolve", "resolve_template"]

Config = TypeVar("Config", ModelConfig, ModelConfig | None)


def resolve(recipe: Recipe) -> Recipe:
    """Return the recipe with what it stands for on this machine in the place of each `auto` that changes results.

    Raises:
        UserError: the device does not exist here, or `prompt.template: auto` needs a tokenizer or data that cannot be
            loaded.
    """
    template = resolve_template(recipe)
    return _with(recipe, template, _with_dtype(recipe.model), _with_dtype(recipe.scan.reference))


def resolve_template(recipe: Recipe) -> str:
    """Return the recipe's prompt template, or what `auto` stands for; no device is looked for.

    Raises:
        UserError: the tokenizer or the data cannot be loaded.
    """
    if recipe.prompt.template != "auto":
        return recipe.prompt.template
    tokenizer, stop_ids = load_tokenizer(recipe.model), load_stop_ids(recipe.model)
    return choose_template(tokenizer, stop_ids, is_conversation=is_conversational(recipe.data))


def _with_dtype(config: Config) -> Config:
    # Without PyTorch nothing is computed here: a server answers.
    if config is None or config.dtype != "auto" or importlib.util.find_spec("torch") is None:
        return config
    dtype = str(resolve_dtype(config, _device(config))).removeprefix("torch.")
    return msgspec.structs.replace(config, dtype=dtype)


def _device(config: ModelConfig) -> torch.device:
    """Return the device that a model will be on."""
    # Untried: trying a GPU takes memory on it, and the launcher's processes have not taken one each yet.
    if num_processes() > 1 and uses_gpu(config):
        import torch

        return torch.device("cuda")
    return resolve_device(config)


def as_recorded(recipe: Recipe, recorded: Recipe) -> Recipe:
    """Return the recipe with what `recorded`, the run's own, has in the place of each `auto` that changes results."""
    template = (recorded if recipe.prompt.template == "auto" else recipe).prompt.template
    reference = _with_dtype_of(recipe.scan.reference, recorded.scan.reference)
    return _with(recipe, template, _with_dtype_of(recipe.model, recorded.model), reference)


def _with_dtype_of(config: Config, recorded: ModelConfig | None) -> Config:
    if config is None or recorded is None or config.dtype != "auto":
        return config
    return msgspec.structs.replace(config, dtype=recorded.dtype)


def _with(recipe: Recipe, template: str, model: ModelConfig, reference: ModelConfig | None) -> Recipe:
    prompt = msgspec.structs.replace(recipe.prompt, template=template)
    scan = msgspec.structs.replace(recipe.scan, reference=reference)
    return msgspec.structs.replace(recipe, prompt=prompt, model=model, scan=scan)
