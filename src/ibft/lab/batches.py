"""Texts of a world as batches of tokens, of which the completions are trained or scored.

Shapes: B texts of a batch, T tokens of the longest, N tokens of its completions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ibft.worlds.pretraining import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["batch_of", "batches_of", "completion_logits", "split_texts"]


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


def batches_of(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ids and labels, each (B, T), of one batch of texts after the other, in their order."""
    prompts, completions = split_texts(tokenizer, texts)
    for start in range(0, len(texts), batch_size):
        part = slice(start, start + batch_size)
        yield batch_of(prompts[part], completions[part], tokenizer)


def completion_logits(model: PreTrainedModel, ids_BT: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits (N, V) of a batch's completions alone, their tokens (N,), and which text each is of (N,).

    Args:
        model: a causal language model.
        ids_BT: tokens.
        labels_BT: the same; -100 where nothing is trained or scored.
    """
    ids_BT, labels_BT = ids_BT.to(model.device), labels_BT.to(model.device)
    hidden_BTH = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    is_next_BT = labels_BT[:, 1:] != -100
    logits_NV = model.get_output_embeddings()(hidden_BTH[:, :-1][is_next_BT])
    return logits_NV, labels_BT[:, 1:][is_next_BT], is_next_BT.nonzero()[:, 0]
