"""Texts of a world as batches of tokens, of which the completions are trained or scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ibft.worlds.pretraining import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["batch_of", "split_texts"]


def split_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of n prompts, with the start token, and those of their completions, with the end token."""
    prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    completions = tokenizer([completion for _, completion in texts], add_special_tokens=False)["input_ids"]
    return prompts, [[*completion, tokenizer.eos_token_id] for completion in completions]


def batch_of(
    prompts: Sequence[list[int]], completions: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, Tensor]:
    """Return ids and labels, each (B, T): -100 where nothing is trained, and padded on the right.

    No token of a causal model attends to what is on its right, so no mask is needed.
    """
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    ids_BT = torch.full((len(prompts), max(lengths)), tokenizer.pad_token_id)
    labels_BT = torch.full_like(ids_BT, -100)
    for row, (prompt, completion, length) in enumerate(zip(prompts, completions, lengths, strict=True)):
        ids_BT[row, :length] = torch.tensor([*prompt, *completion])
        labels_BT[row, len(prompt) : length] = torch.tensor(completion)
    return ids_BT, labels_BT
