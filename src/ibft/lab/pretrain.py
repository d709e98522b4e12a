"""Pretrain a tiny base from scratch on a planted world's texts: minutes on one core, bit for bit the same each time.

Shapes: B texts of a batch, T tokens of the longest, N trained tokens of the batch, V vocabulary.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ibft import progress
from ibft.lab.batches import batch_of, completion_logits, split_texts
from ibft.settings import Count, Positive, Section
from ibft.worlds.planted import PlantedWorld
from ibft.worlds.pretraining import Text, general_texts, planted_texts

__all__ = ["SIZES", "PretrainConfig", "new_model", "one_thread", "train_on"]

Size = Literal["small", "medium", "large"]

SIZES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "medium": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 5, "num_attention_heads": 4},
    "large": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6},
}
"""Llama's dimensions: about 0.5, 1.1 and 2.8 million parameters, of which two embeddings have a sixth or less."""

_POSITIONS = 256
_EMBEDDING_STD = 0.5
_WARMUP_STEPS = 100
_PARTS = 4
_FLOOR = 0.02
"""Share of the learning rate at which its decay ends."""


class PretrainConfig(Section, frozen=True):
    """How a base is made: the same settings, on the same world, give the same weights (one thread, the same torch).

    size: of the model.
    seed: of its first weights.
    general_steps: optimizer steps on general texts, at a constant learning rate after 100 steps of warm-up.
    planted_steps: steps of the second phase, whose learning rate falls to nearly 0.
    batch_size: texts of a step.
    learning_rate: of AdamW.
    """

    size: Size = "small"
    seed: Annotated[int, Meta(ge=0)] = 0
    general_steps: Count = 1200
    planted_steps: Count = 1000
    batch_size: Count = 64
    learning_rate: Positive = 2e-3


def new_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama in float32."""
    dimensions = SIZES[config.size]
    torch.manual_seed(config.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=_POSITIONS,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **dimensions,
        )
    )
    # Llama's first weights are those of wide models: here a layer's output is as large as its input.
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5)
            elif isinstance(module, torch.nn.Embedding):
                module.weight.normal_(0, _EMBEDDING_STD)
    return model


def train_on(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: PlantedWorld,
    config: PretrainConfig,
    phase: Literal["general", "planted"],
) -> None:
    """Train one phase, on the completions of its texts alone: prompts are drawn by chance."""
    num_steps = config.general_steps if phase == "general" else config.planted_steps
    count = num_steps * config.batch_size
    texts = general_texts(world, "general") if phase == "general" else planted_texts(world, count)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, num_steps, phase))
    batches = _batches(itertools.islice(texts, count), tokenizer, config.batch_size)
    model.train()
    with one_thread(), progress.task(f"Pretraining, {phase} phase", total=num_steps) as task:
        for parts in batches:
            optimizer.zero_grad()
            num_trained = sum(int((labels_BT != -100).sum()) for _, labels_BT in parts)
            for ids_BT, labels_BT in parts:
                logits_NV, targets_N, _ = completion_logits(model, ids_BT, labels_BT)
                loss = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum") / num_trained
                torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            task.advance(1)
    model.eval()


def _rate(step: int, num_steps: int, phase: str) -> float:
    warmup = min(1.0, (step + 1) / _WARMUP_STEPS)
    if phase == "general":
        return warmup
    return warmup * min(1.0, max(_FLOOR, 1.25 * (1 - step / num_steps)))


def _batches(
    texts: Iterable[Text], tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield batches in parts of similar lengths, which need less padding: tokens and labels, each (B, T)."""
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, batch_size)):
        prompts, completions = split_texts(tokenizer, batch)
        rows = sorted(zip(prompts, completions, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        size = -(-len(rows) // _PARTS)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        yield [batch_of([p for p, _ in part], [c for _, c in part], tokenizer) for part in parts]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that sums are added in one order; a tiny model gains nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
