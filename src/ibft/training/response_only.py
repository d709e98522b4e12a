"""Only positions that predict a labelled token are projected onto the vocabulary, on every device.

TRL does this where it has Triton (CUDA, XPU). Elsewhere it projects every position, in tiles of 4,096 positions times
32,768 tokens with several copies of each, and masks the result. Forward and backward on a CPU, one thread, 3,800
labelled positions of SmolLM2-135M, float32: 22 s and 3.9 GiB with TRL's function, 9 s and 0.1 GiB with `token_losses`.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers.utils import is_triton_available

from ibft.models.projection import IGNORED, Projection, token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["project_labelled_only"]


def project_labelled_only(model: PreTrainedModel) -> None:
    """Wrap the loss forward that `SFTTrainer` gave the model, so that it scores labelled positions alone.

    TRL's forward runs the backbone, and gets no position to score; the states (N, H) of those that predict a label are
    scored by `token_losses`. The outputs are TRL's: log-probabilities, entropies and hits of (B, T - 1), 0 where there
    is no label. So are loss and gradients, to rounding. N may be 0. Left alone: a forward without labels, and one where
    TRL scores labelled positions alone.

    Hooks on the model (the bottleneck's) see the call as it was made; of hooks on the backbone, those that were there
    before see every position.

    Args:
        model: the causal language model, unwrapped, after `SFTTrainer.__init__`.
    """
    trl_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` reads the signature
    def forward(
        self: PreTrainedModel, *arguments: Any, fused_lm_head: bool = False, labels: Any = None, **keywords: Any
    ) -> Any:
        if not fused_lm_head:
            if labels is not None:
                keywords["labels"] = labels
            return trl_forward(*arguments, **keywords)
        if labels is None or _projects_labelled_only(self):
            return trl_forward(*arguments, fused_lm_head=True, labels=labels, **keywords)
        targets_BT = labels[:, 1:]
        states = _States(targets_BT != IGNORED)
        handle = self.base_model.register_forward_hook(states)
        try:
            output = trl_forward(*arguments, fused_lm_head=True, shift_labels=targets_BT[:, :0], **keywords)
        finally:
            handle.remove()
        return _scored(output, states, targets_BT, Projection.of(self), keywords.get("num_items_in_batch"))

    model.forward = types.MethodType(forward, model)


def _projects_labelled_only(model: PreTrainedModel) -> bool:
    """Whether TRL's forward does so itself on the device of `lm_head`."""
    return model.get_output_embeddings().weight.device.type in ("cuda", "xpu") and is_triton_available()


class _States:
    """A hook on the backbone: keeps the states of the masked positions, and hands on none."""

    def __init__(self, mask_BT: Tensor) -> None:
        self.mask_BT = mask_BT
        self.hidden_NH: Tensor

    def __call__(self, _backbone: nn.Module, _arguments: Any, output: Any) -> Any:
        hidden_BTH = output.last_hidden_state
        self.hidden_NH = hidden_BTH[:, :-1][self.mask_BT.to(hidden_BTH.device)]
        output.last_hidden_state = hidden_BTH[:, :0]
        return output


def _scored(output: Any, states: _States, targets_BT: Tensor, projection: Projection, num_items: Any) -> Any:
    """TRL's output, which holds no position, with all of them."""
    device = next(projection.lm_head.parameters()).device
    mask_BT = states.mask_BT.to(device)
    losses = token_losses(states.hidden_NH.to(device), targets_BT.to(device)[mask_BT], projection)
    output.loss = output.loss + losses.loss.sum() / (mask_BT.sum().clamp(min=1) if num_items is None else num_items)
    output.label_mask = mask_BT
    for name, values in (("log_probs", -losses.loss), ("entropy", losses.entropy), ("is_top1", losses.is_top1)):
        # Scattered, not indexed: connected to the model even where no token is labelled.
        setattr(output, name, values.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values))
    return output
