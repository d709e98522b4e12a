"""How each example's compression weight (`ibft.objectives.bottleneck.adaptive`) reaches the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ibft.errors import UserError

__all__ = ["COLUMN", "WeightedCollator"]

COLUMN = "compression_weight"
"""The data set's column, and the batch's entry."""


class WeightedCollator:
    """Wraps TRL's collator: turns the column of weights, one per example, into one per token, (B, T), 0 on padding.

    Args:
        collator: makes the batch from examples without the column.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate.

        Raises:
            UserError: an example has no weight.
        """
        if any(COLUMN not in example for example in examples):
            raise UserError(f"adaptive is on: each example needs a number in the column {COLUMN}.")
        weights = [float(example[COLUMN]) for example in examples]
        batch = self._collator([{k: v for k, v in example.items() if k != COLUMN} for example in examples])
        lengths = [len(example["input_ids"]) for example in examples]
        per_token_BT = torch.zeros(batch["input_ids"].shape)
        if len(batch["input_ids"]) == len(examples):
            for row, (weight, length) in enumerate(zip(weights, lengths, strict=True)):
                per_token_BT[row, :length] = weight
        else:  # padding-free: one row holds all examples, end to end
            flat = torch.cat([torch.full((n,), weight) for weight, n in zip(weights, lengths, strict=True)])
            per_token_BT[0, : len(flat)] = flat
        return {**batch, COLUMN: per_token_BT}
