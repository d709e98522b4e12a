"""`ibft scale`: go back part of the way from the fine-tuned to the base model, after training.

WiSE-FT (Wortsman et al., arXiv 2109.01903) interpolates the weights, (1 - lambda) * base + lambda * fine-tuned. With
LoRA the fine-tuned weights are base + (lora_alpha / r) * B A, so lambda * lora_alpha is the interpolation, exactly.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from ibft.artifacts.json_lines import error_reason, write_atomically
from ibft.errors import UserError
from ibft.models.folder import copy_files, new_folder

__all__ = ["scale_adapter"]

_WEIGHTS = "adapter_model.safetensors"
_INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Others (PiSSA, OLoRA, CorDA, LoftQ, ...) train on a changed base, or PEFT changes it again where it loads them."""
_FIELDS_THAT_ADD_MORE = ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "arrow_config")


def scale_adapter(adapter: Path, factor: float, out: Path) -> None:
    """Write the LoRA in `adapter` to the new folder `out`, its update times `factor`.

    The weights are copied as they are; `lora_alpha` and `alpha_pattern` in adapter_config.json are multiplied, and
    README.md, where there is one, says so.

    Args:
        adapter: a folder in PEFT's format.
        factor: lambda, from 0 (the base model) over 1 (as trained) up; above 1 it extrapolates.
        out: must not exist.

    Raises:
        UserError: `factor` is negative or not finite, the formula does not hold for `adapter`, or `out` exists or
            cannot be written.
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise UserError(f"--lambda {factor}: give a finite number from 0 (the base model) up; 1 changes nothing.")
    config = _read_config(adapter)
    _refuse_what_is_not_scaled(adapter, config)
    config["lora_alpha"] = _times(config["lora_alpha"], factor)
    if config.get("alpha_pattern"):
        config["alpha_pattern"] = {name: _times(alpha, factor) for name, alpha in config["alpha_pattern"].items()}
    with new_folder(out) as folder:
        copy_files(adapter, folder)
        write_atomically(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True))
        card = folder / "README.md"
        if card.exists():
            write_atomically(card, _with_note(card.read_text(encoding="utf-8"), factor))


def _read_config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error_reason(error)}). Give a PEFT adapter's folder, such as "
            "runs/NAME/train/ARM/adapter."
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or "lora_alpha" not in config:
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise UserError(f"{path}: peft_type is {kind}: only a LoRA can be scaled by its lora_alpha.")
    return config


def _refuse_what_is_not_scaled(adapter: Path, config: dict[str, Any]) -> None:
    """Refuse an adapter that changes more than (lora_alpha / r) * B A: the rest would stay as trained."""
    unscaled = {name: config[name] for name in _FIELDS_THAT_ADD_MORE if config.get(name)}
    if config.get("bias", "none") != "none":
        unscaled["bias"] = config["bias"]
    if config.get("init_lora_weights", True) not in _INITS_THAT_KEEP_THE_BASE:
        unscaled["init_lora_weights"] = config["init_lora_weights"]
    for name, value in unscaled.items():
        raise UserError(
            f"{adapter}: {name} is {value}, which lora_alpha does not scale: base and fine-tuned model cannot be "
            "interpolated this way. Merge the adapter, and interpolate the weights."
        )
    others = [name for name in _tensor_names(adapter / _WEIGHTS) if not re.search(r"\.lora_(embedding_)?[AB]\b", name)]
    if others:
        raise UserError(
            f"{adapter}: {others[0]} is not part of a LoRA's product, and lora_alpha does not scale it: base and "
            "fine-tuned model cannot be interpolated this way. Merge the adapter, and interpolate the weights."
        )


def _tensor_names(path: Path) -> list[str]:
    """Return the names in a safetensors file: eight bytes of length, then that many bytes of JSON."""
    # Not by the package safetensors: it comes with the extra `train`, which `ibft scale` does without.
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}). Save the adapter as safetensors.") from None
    except (ValueError, struct.error, OverflowError, MemoryError):
        raise UserError(f"{path}: not a safetensors file. Save the adapter again.") from None
    return [name for name in header if name != "__metadata__"]


def _times(alpha: float, factor: float) -> float:
    """Multiply; a whole number stays one."""
    product = alpha * factor
    # PEFT declares lora_alpha an int.
    return int(product) if product == int(product) else product


def _with_note(card: str, factor: float) -> str:
    """Return the card with a sentence below its title, or at its top where it has no title."""
    note = (
        f"> Scaled after training by `ibft scale`: the weights are base + {factor:g} × (what this card describes − "
        "base) (WiSE-FT, arXiv 2109.01903). Scores in this card were not measured with these weights.\n"
    )
    header = re.match(r"---\n.*?\n---\n", card, re.DOTALL)
    start = header.end() if header else 0
    title = re.compile(r"^# .*\n", re.MULTILINE).search(card, start)
    place = title.end() if title else start
    return f"{card[:place]}\n{note}{card[place:]}"
