"""The exact chance that a model writes one given answer: Pass@k of tasks with one answer, without sampling noise.

Shapes: B texts of a batch, T tokens of the longest, N tokens of all their answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ibft.lab.batches import batches_of, completion_logits
from ibft.worlds.pretraining import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["exact_probabilities"]

_BATCH = 128


def exact_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    temperature: float = 0.8,
    given: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Return the chance that sampling writes exactly each text's completion and then ends, (n,).

    The mean of p is a lower bound of Pass@1, which counts other programs that compute the same, and the mean of p^10
    one of Pass@10^(10).

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: the model's.
        texts: n prompts with their completions.
        temperature: of the sampling, above 0.
        given: what of each completion is written already: the chance is that of the rest.
    """
    if not texts:  # the tokenizer takes no empty list
        return np.empty(0)
    if given is not None:
        texts = [(prompt + begun, text.removeprefix(begun)) for (prompt, text), begun in zip(texts, given, strict=True)]
    values = []
    with torch.inference_mode():
        for ids_BT, labels_BT in batches_of(texts, tokenizer, _BATCH):
            raw_NV, targets_N, rows_N = completion_logits(model, ids_BT, labels_BT)
            logits_NV = raw_NV.float() / temperature
            log_p_N = -torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none").double()
            sums_B = torch.zeros(len(ids_BT), dtype=torch.float64, device=model.device).index_add(0, rows_N, log_p_N)
            values.append(sums_B.exp().cpu().numpy())
    return np.concatenate(values)
