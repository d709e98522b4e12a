"""One model's forward passes: examples in, statistics of each scored token out, in batches that fit its memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from ibft import progress
from ibft.errors import UserError
from ibft.models.loading import limits_of
from ibft.scoring.token_stats import PendingStats, batches_by_tokens, begin_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ibft.scoring.encoder import ScanExample

__all__ = ["Forward"]


class Forward:
    """Runs batches of examples through a model.

    Args:
        model: a causal language model, also one with an adapter that is not merged.
        tokenizer: the model's; it has the token for padding.
        batch_tokens: tokens of one forward pass, padding included; None chooses by device and width.

    Attributes:
        batch_tokens: lowered where the GPU's memory did not suffice.
        runs_beside: whether the device computes while this process does something else.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_tokens: int | None = None
    ) -> None:
        # An adapter that is not merged (over quantized weights) wraps the model, whose layers it has replaced inside.
        self._model: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
        # Some tokenizers have no padding, and some models no embedding for it; no token attends to padding anyway.
        self._pad_id = min(tokenizer.pad_token_id or 0, limits_of(self._model.config).num_embeddings - 1)
        self.batch_tokens = batch_tokens or _batch_tokens(self._model)
        self.runs_beside = self._model.device.type != "cpu"

    def begin(self, examples: Sequence[ScanExample]) -> Iterator[tuple[list[ScanExample], PendingStats]]:
        """Begin one batch of the examples after the other, the longest first.

        A batch that is too large for the GPU's memory is halved, and no later one is larger than its half.

        Raises:
            UserError: the memory does not suffice for one example.
        """
        batches = deque(batches_by_tokens(examples, self.batch_tokens))
        while batches:
            batch = batches.popleft()
            try:
                pending = begin_batch(self._model, batch, self._pad_id)
            except torch.OutOfMemoryError:
                pending = None
            # Not in the handler: there the error's traceback still holds the memory that the batch had taken.
            if pending is not None:
                yield batch, pending
            else:
                self._lower_batch_tokens(batch)
                rest = [example for others in (batch, *batches) for example in others]
                batches = deque(batches_by_tokens(rest, self.batch_tokens))

    def _lower_batch_tokens(self, batch: Sequence[ScanExample]) -> None:
        longest = len(batch[0].input_ids)
        if len(batch) == 1:
            raise UserError(
                f"scan: the GPU's memory does not suffice for one example of {longest} tokens. Lower "
                "data.max_tokens, or set model.quantization."
            )
        torch.cuda.empty_cache()
        self.batch_tokens = min(self.batch_tokens, longest * (len(batch) - len(batch) // 2))
        progress.warn(
            "scan: the GPU's memory does not suffice", f"It continues with scan.batch_tokens: {self.batch_tokens}."
        )


def _batch_tokens(model: PreTrainedModel) -> int:
    """Return as many as keep the device busy."""
    if model.device.type == "cpu":
        return 1024  # more overflow its caches
    # 2^26 activations per layer: 16,384 tokens of a 7B model, more of narrower ones.
    return min(max(2**26 // int(model.config.get_text_config().hidden_size), 4096), 65_536)
