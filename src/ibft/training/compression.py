"""How each example's compression weight (`ibft.objectives.bottleneck.adaptive`) reaches the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ibft.errors import UserError

__all__ = ["COLUMN", "collate_weighted"]

COLUMN = "compression_weight"
"""The data set's column, and the batch's entry."""


def collate_weighted(
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]], examples: list[dict[str, Any]]
) -> dict[str, Any]:
    """Collate examples, and turn their column of weights into one weight per token, (B, T), 0 on padding.

    Args:
        collator: makes the batch from examples without the column; TRL's.
        examples: with the column.

    Raises:
        UserError: an example has no weight.
    """
    if any(COLUMN not in example for example in examples):
        raise UserError(f"adaptive is on: each example needs a number in the column {COLUMN}.")
    batch = collator([{k: v for k, v in example.items() if k != COLUMN} for example in examples])
    weights = torch.tensor([float(example[COLUMN]) for example in examples])
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    num_rows, num_positions = batch["input_ids"].shape
    if num_rows < len(examples):  # padding-free: one row holds all examples, end to end
        weights_N = weights.repeat_interleave(lengths)
        per_token_BT = F.pad(weights_N, (0, num_positions - len(weights_N)))[None]
    else:
        per_token_BT = weights[:, None].where(torch.arange(num_positions) < lengths[:, None], 0.0)
    return {**batch, COLUMN: per_token_BT}
