"""Bases with planted memory as folders that transformers loads, made once and kept in the cache folder.

bases/<digest>/    config.json, model.safetensors, the tokenizer's files, and base.json: what it was made from
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ibft.artifacts.json_lines import error_reason, pretty_json, write_atomically
from ibft.errors import UserError
from ibft.lab.pretrain import PretrainConfig, new_model, train_on
from ibft.lab.tokenizer import make_tokenizer
from ibft.run.digests import cache_folder
from ibft.worlds.planted import PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.pretraining import check_room

__all__ = ["BASE_FORMAT", "base_folder", "copy_base", "general_folder", "load_base"]

BASE_FORMAT = 1
"""Raised when pretraining makes another model of the same settings."""


def base_folder(world: PlantedConfig, config: PretrainConfig) -> Path:
    """Return the folder of a world's base, pretrained now if the cache does not have it.

    The general phase is shared by all plants of a world; the key has everything that it reads, and the versions of
    torch and transformers.

    Raises:
        UserError: more is planted than pretraining has texts, or the cache folder cannot be written.
    """
    settings = {"world": msgspec.to_builtins(world), "pretrain": msgspec.to_builtins(config)}
    return _kept(settings, functools.partial(_pretrained, world, config))


def general_folder(world: PlantedConfig, config: PretrainConfig) -> Path:
    """Return the folder of a base before its second phase: the same for all plants of a world.

    Raises:
        UserError: as `base_folder`.
    """
    made = make_planted_world(world)
    return _kept(_general_settings(made, config), functools.partial(_general, made, config))


def load_base(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Load a base in float32, in evaluation mode, with its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def copy_base(base: Path, folder: Path) -> None:
    """Copy a base to a folder that does not exist yet.

    Raises:
        UserError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already. Name another place, or remove it first.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
            copied = shutil.copytree(base, Path(partial) / folder.name)
            os.rename(copied, folder)  # complete or not there
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error_reason(error)}). Name another place.") from None


def _pretrained(
    world_config: PlantedConfig, config: PretrainConfig
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    world = make_planted_world(world_config)
    check_room(world, config.planted_steps * config.batch_size)  # before minutes are spent
    model = LlamaForCausalLM.from_pretrained(general_folder(world_config, config), dtype=torch.float32)
    tokenizer = make_tokenizer(world.library)
    train_on(model, tokenizer, world, config, "planted")
    return model, tokenizer


def _general(world: PlantedWorld, config: PretrainConfig) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = make_tokenizer(world.library)
    model = new_model(config, tokenizer)
    train_on(model, tokenizer, world, config, "general")
    return model, tokenizer


def _general_settings(world: PlantedWorld, config: PretrainConfig) -> dict[str, Any]:
    """Return all that the general phase depends on."""
    names = ("seed", "library_seed", "num_operations", "num_phrasings", "general_depths")
    # Nothing, unless general chains are as deep as those of the data: so all plants of a world share this phase.
    avoided = sorted(keys for keys in world.compositions if len(keys) in world.config.general_depths)
    settings = {name: getattr(world.config, name) for name in names}
    return {
        "world": {"mark_place": world.mark_place, "avoided": avoided, **settings},
        "pretrain": {**msgspec.to_builtins(config), "planted_steps": 0},
    }


def _kept(settings: dict[str, Any], make: Callable[[], tuple[LlamaForCausalLM, PreTrainedTokenizerFast]]) -> Path:
    """Return the cache's folder for these settings, made where there is none."""
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    record = pretty_json({"format": BASE_FORMAT, **settings, "versions": versions})
    folder = cache_folder() / "bases" / hashlib.sha256(record).hexdigest()[:16]
    if (folder / "base.json").is_file():
        return folder
    model, tokenizer = make()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Complete or not there, also where two processes make the same base.
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_atomically(partial / "base.json", record)
        partial.chmod(0o755)
        try:
            os.rename(partial, folder)
        except OSError:
            shutil.rmtree(partial)  # another process was first
            if not (folder / "base.json").is_file():
                raise
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error_reason(error)}). Set IBFT_CACHE to another place."
        ) from None
    return folder
