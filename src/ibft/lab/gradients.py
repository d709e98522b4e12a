"""Does a step on some texts help on others? The cosine of their gradients, at a model's weights as they are.

Shapes: B texts of a batch, T tokens of the longest, N trained tokens of the batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ibft.artifacts.gauges import GradientAgreement
from ibft.lab.batches import batches_of, completion_logits
from ibft.worlds.pretraining import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["compare_gradients", "mean_gradient"]

_BATCH = 64


def compare_gradients(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], held_out: Sequence[Text]
) -> GradientAgreement:
    """Compare the gradient of some texts with that of held-out ones, over all weights of the model.

    Args:
        model: a causal language model, in evaluation mode; it is left as it is, gradients included.
        tokenizer: the model's.
        texts: prompts with their completions, such as the training data; at least one.
        held_out: others of the same kind; at least one.
    """
    ours = mean_gradient(model, tokenizer, texts)
    theirs = mean_gradient(model, tokenizer, held_out)
    norm, held_out_norm = _norm(ours), _norm(theirs)
    product = math.fsum(float((a.double() * b.double()).sum()) for a, b in zip(ours, theirs, strict=True))
    return GradientAgreement(
        cosine=product / (norm * held_out_norm) if norm and held_out_norm else None,
        norm=norm,
        held_out_norm=held_out_norm,
    )


def mean_gradient(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]
) -> tuple[Tensor, ...]:
    """Return the gradient of the mean cross-entropy per trained token, for each of the model's parameters in order."""
    parameters = list(model.parameters())
    totals = tuple(torch.zeros_like(parameter) for parameter in parameters)
    num_tokens = 0
    for ids_BT, labels_BT in batches_of(texts, tokenizer, _BATCH):
        logits_NV, targets_N, _ = completion_logits(model, ids_BT, labels_BT)
        num_tokens += len(targets_N)
        loss = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        # Not `backward`, which would add to the gradients of the parameters.
        for total, gradient in zip(totals, torch.autograd.grad(loss, parameters), strict=True):
            total += gradient
    return tuple(total / num_tokens for total in totals)


def _norm(gradient: Sequence[Tensor]) -> float:
    return math.sqrt(math.fsum(float(part.double().square().sum()) for part in gradient))
