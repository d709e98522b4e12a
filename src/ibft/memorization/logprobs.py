"""Response log-probabilities of many examples: batches by token budget, longest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ibft.data.tokenize import TokenizedExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["batches_by_tokens", "response_log_probs"]


def batches_by_tokens(examples: Sequence[TokenizedExample], batch_tokens: int) -> Iterator[list[TokenizedExample]]:
    """Split examples into batches of at most `batch_tokens` tokens, padding included; at least one example each.

    Sorted by length, longest first: little padding, and a batch that does not fit in memory fails at the start.
    """
    batch: list[TokenizedExample] = []
    for example in sorted(examples, key=lambda example: -len(example.input_ids)):
        if batch and len(batch[0].input_ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def response_log_probs(
    model: PreTrainedModel, batch: Sequence[TokenizedExample], pad_token_id: int
) -> list[list[float]]:
    """Log-probability (nats) of each token after the prompt, end token included, for every example of a batch.

    Padding stands on the right and is masked, so an example's values do not depend on its neighbours.
    """
    import torch

    longest = max(len(example.input_ids) for example in batch)
    shape = (len(batch), longest)
    ids_BT = torch.full(shape, pad_token_id, dtype=torch.long)
    mask_BT = torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(batch):
        ids_BT[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        mask_BT[row, : len(example.input_ids)] = 1
    ids_BT, mask_BT = ids_BT.to(model.device), mask_BT.to(model.device)
    with torch.inference_mode():
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        return [
            _gather(logits_BTV[row], ids_BT[row], example.prompt_length, len(example.input_ids))
            for row, example in enumerate(batch)
        ]


def _gather(logits_TV: torch.Tensor, ids_T: torch.Tensor, start: int, end: int) -> list[float]:
    import torch

    # Token t is predicted at position t - 1. In float32, row by row, so that no second B x T x V tensor exists.
    logits = logits_TV[start - 1 : end - 1].float()
    chosen = logits.gather(-1, ids_T[start:end, None]).squeeze(-1)
    return list((chosen - torch.logsumexp(logits, dim=-1)).tolist())
