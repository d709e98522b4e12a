"""Load the base model and its tokenizer: from the hub, a folder, or a GGUF file inside an installed package."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ibft import progress
from ibft.artifacts.training import train_again
from ibft.errors import UserError
from ibft.models.packaged import dequantized
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.run.sections import PACKAGE, ModelConfig
from ibft.text.limits import ModelLimits

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "context_length",
    "has_gpu",
    "limits_of",
    "load_adapted",
    "load_arm",
    "load_config",
    "load_model",
    "load_stop_ids",
    "load_tokenizer",
    "resolve_device",
    "resolve_dtype",
    "resolve_model_path",
    "uses_gpu",
    "weights_folder",
]


def has_gpu() -> bool:
    """Decide whether PyTorch sees a GPU (CUDA or ROCm). False where PyTorch is not installed."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def uses_gpu(config: ModelConfig) -> bool:
    """Return True if `model.device` means a GPU on this machine."""
    return config.device.startswith("cuda") or (config.device == "auto" and has_gpu())


def resolve_device(config: ModelConfig) -> torch.device:
    """Return the device for `model.device`; `auto` takes a GPU if there is one.

    Raises:
        UserError: the device does not exist here.
    """
    import torch

    name = ("cuda" if has_gpu() else "cpu") if config.device == "auto" else config.device
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # a device that does not exist here has a name, too
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"model.device is {config.device!r}: not usable here ({reason}). Use auto or cpu.") from None
    return device


def resolve_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """Return the dtype for `model.dtype`; see `ModelConfig`.

    Raises:
        UserError: float16 is asked for on a CPU.
    """
    import torch

    if config.dtype == "float16" and device.type == "cpu":
        raise UserError(
            "model.dtype is float16, and the model is on a CPU, which does not train in it. Use float32 or bfloat16."
        )
    if config.dtype != "auto":
        dtype: torch.dtype = getattr(torch, config.dtype)
        return dtype
    if device.type == "cuda":
        # Without `including_emulation=False`, older GPUs (V100, T4) say yes, and are slower in it than in float32.
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    # On CPUs without AVX512-BF16 or AMX, bfloat16 is emulated and slower than float32.
    return torch.bfloat16 if _cpu_computes_in_bfloat16() else torch.float32


def _cpu_computes_in_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_model_path(config: ModelConfig) -> str:
    """Return the hub id or folder to load: for `package:NAME`, the folder of its GGUF file's dequantized weights.

    Raises:
        UserError: the package is not installed or holds no GGUF file, or the folder does not exist.
    """
    if config.name.startswith(PACKAGE):
        return str(dequantized(config.name.removeprefix(PACKAGE)))
    looks_like_path = config.name.startswith((".", "/", "~")) or config.name.count("/") > 1
    if looks_like_path and config.folder is None:
        raise UserError(f"model.name: {config.name} is not a folder. Give a hub id, a folder, or {PACKAGE}NAME.")
    return str(config.folder or config.name)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer, with a padding token.

    Raises:
        UserError: it cannot be loaded, or has neither a padding nor an end token.
    """
    from transformers import AutoTokenizer

    tokenizer = _from_pretrained(AutoTokenizer, config)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                f"model.name: the tokenizer of {config.name} has neither a padding nor an end token. "
                "Set pad_token in its tokenizer_config.json."
            )
        # Padding is masked everywhere, so its value never counts.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(config: ModelConfig, *, dtype: torch.dtype | None = None, place: bool = True) -> PreTrainedModel:
    """Load the base model, in evaluation mode.

    Args:
        config: which model, and how its weights are held.
        dtype: of the weights; None is `model.dtype`.
        place: move it to its device. Quantized weights are always made there.

    Raises:
        UserError: it cannot be loaded; says why and what to do.
    """
    from transformers import AutoModelForCausalLM

    device = resolve_device(config)
    dtype = dtype or resolve_dtype(config, device)
    resolve_model_path(config)  # first, since dequantizing shows progress of its own
    arguments = _attention_arguments(config) | _quantization_arguments(config, device, dtype)
    with progress.task("Loading the model", total=None):
        model = _from_pretrained(AutoModelForCausalLM, config, dtype=dtype, **arguments)
        return (model.to(device) if place and config.quantization == "none" else model).eval()


def weights_folder(recipe: Recipe, run: RunFolder, arm: str) -> Path:
    """Return where a trained arm's weights are: its adapter, or the whole model."""
    return run.path / "train" / arm / ("model" if recipe.train.lora is None else "adapter")


def load_arm(recipe: Recipe, run: RunFolder, arm: str) -> PreTrainedModel:
    """Load the base model; with an arm's adapter merged into its weights; or the whole trained model.

    Raises:
        UserError: as `load_model`, or the adapter cannot be loaded.
    """
    if arm == BASE_ARM:
        return load_model(recipe.model)
    folder = weights_folder(recipe, run, arm)
    if recipe.train.lora is None:
        return load_model(msgspec.structs.replace(recipe.model, name=str(folder), revision=None))
    return load_adapted(recipe.model, folder)


def load_adapted(config: ModelConfig, folder: Path) -> PreTrainedModel:
    """Load the base model with the adapter of a folder, merged into its weights unless these are quantized.

    Raises:
        UserError: as `load_model`, or the adapter cannot be loaded.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    model = load_model(config)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
        # Merged it is faster, and the same function. Quantized weights would be rounded again, to another one.
        return (adapted.merge_and_unload() if config.quantization == "none" else adapted).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded ({error}). {train_again(folder.parent)}") from None


def _quantization_arguments(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for `model.quantization`; none for `none`.

    4 bits as in QLoRA (arXiv 2305.14314): NF4, double quantization, products in `dtype` (bfloat16 there).

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if config.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model.quantization is {config.quantization}: the package bitsandbytes is not installed. "
            "Run `pip install bitsandbytes`, or set it to none."
        )
    import torch
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_8bit=config.quantization == "8bit",
        load_in_4bit=config.quantization == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    # `cuda` alone would be the first GPU in every process.
    place = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device
    return {"quantization_config": quantization, "device_map": {"": place}}


def _attention_arguments(config: ModelConfig) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for `model.attention`; none for `auto`.

    Raises:
        UserError: flash attention is asked for and cannot be used here.
    """
    from transformers.utils import is_flash_attn_2_available

    if config.attention == "auto":
        return {}
    if config.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise UserError(
            "model.attention is flash_attention_2, and the package flash-attn is not usable here: it needs a GPU. "
            "Install it, or use sdpa."
        )
    return {"attn_implementation": config.attention}


def load_config(config: ModelConfig) -> PretrainedConfig:
    """Load the language model's configuration; no weights are read."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, config).get_text_config()


def context_length(config: PretrainedConfig) -> int | None:
    """Return how many tokens a model can read; None if its configuration sets no limit.

    Where positions are scaled (`rope_parameters`), it is the scaled length, if that is longer.
    """
    config = config.get_text_config()
    positions: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if positions is None or not rope.get("original_max_position_embeddings"):
        return positions
    return max(positions, int(rope["original_max_position_embeddings"] * (rope.get("factor") or 1)))


def limits_of(config: PretrainedConfig) -> ModelLimits:
    """Return the limits that a model's configuration names."""
    positions = context_length(config)
    return ModelLimits(config.get_text_config().vocab_size, math.inf if positions is None else positions)


def load_stop_ids(config: ModelConfig) -> frozenset[int]:
    """Return the tokens that end the model's own generation; no weights are read."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(resolve_model_path(config), revision=config.revision)
    except OSError:  # not every model has one
        generation = GenerationConfig.from_model_config(load_config(config))
    ids = generation.eos_token_id
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def _from_pretrained(auto_class: Any, config: ModelConfig, **arguments: Any) -> Any:
    from safetensors import SafetensorError

    path = resolve_model_path(config)
    # What a wrong name, a damaged file, missing code or a broken network raise in one library or another.
    try:
        return auto_class.from_pretrained(
            path, revision=config.revision, trust_remote_code=config.trust_remote_code, **arguments
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"model.name: {config.name} cannot be loaded ({reason}). Check the name, the network "
            "(or give a local folder), and HF_TOKEN for gated models."
        ) from None
