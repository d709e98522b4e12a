"""The one place where a training step meets the model: its forward, wherever a trainer asks it for a loss.

What an objective needs is made inside the model's own forward: the base model's states, the hidden states of tapped
layers, the loss of each labelled token. Wrappers gather parameters and track gradients only between its start and its
end. Outside, ZeRO-3 sees an empty weight, FSDP2 fails when the root reshards, and DDP marks parameters ready twice.

Shapes: B sequences, T positions, N labelled positions, H hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import is_triton_available
from trl.trainer.utils import FusedCausalLMOutput

from ibft.models.projection import IGNORED, Projection, cross_entropy, labelled_states, token_losses
from ibft.objectives.base import Objective, Tokens
from ibft.objectives.bottleneck.terms import Terms
from ibft.objectives.ft import FTObjective
from ibft.training.bottleneck import Bottleneck
from ibft.training.compression import COLUMN

__all__ = ["LossForward", "LossOutput"]


@dataclass
class LossOutput(FusedCausalLMOutput):  # type: ignore[misc]
    """TRL's output, in which `log_probs` are minus the objective's losses, and the objective's further outputs.

    sums: what is logged, summed over labelled tokens; None where the loss is the cross-entropy.
    terms: the bottleneck's, averaged over the tapped layers; None without one.
    """

    sums: dict[str, Tensor] | None = None
    terms: Terms | None = None


@dataclass(eq=False)
class LossForward:
    """Replaces the model's forward where a trainer asks for its loss; any other call goes to TRL's.

    TRL's trainer sums the negatives of the log-probabilities and divides by the labelled tokens of the whole optimizer
    step. The objective's losses are handed to it in their place, so that TRL's normalization, accumulation,
    distribution and metrics hold for every objective as they are.

    Args:
        base: the causal language model, after `SFTTrainer.__init__`.
        adapter: the PEFT model around it, for objectives that need the base model.
        objective: says what is needed.
        bottleneck: the objective's, or None.
        labelled_only: project only positions that predict a labelled token, on every device. TRL does so where it has
            Triton (CUDA, XPU); elsewhere it projects every position, in tiles of 4,096 positions times 32,768 tokens
            with several copies of each, and masks the result. Forward and backward on a CPU, one thread, 3,800
            labelled positions of SmolLM2-135M, float32: 22 s and 3.9 GiB with TRL's function, 9 s and 0.1 GiB here.
            Loss and gradients are TRL's to rounding; False is for those that must be TRL's bit for bit.
    """

    base: PreTrainedModel
    adapter: PeftModel | None
    objective: Objective
    bottleneck: Bottleneck | None
    labelled_only: bool

    def __post_init__(self) -> None:
        self._trl_forward = self.base.forward
        self._output: LossOutput | None = None
        functools.update_wrapper(self, self.base.forward)  # `generate` checks its arguments against the signature
        self.base.forward = self

    def take(self) -> LossOutput:
        """Return the output of the latest call for a loss, and forget it."""
        # TRL's trainer discards the fields that it does not know, so ours asks here. The tensors are those that were
        # returned, on which FSDP has put its hooks.
        output, self._output = self._output, None
        assert output is not None, "TRL did not call the model for its loss"
        return output

    @contextmanager
    def without_objective(self) -> Iterator[None]:
        """Score with the plain cross-entropy, past the bottleneck: nothing of it is tapped, drawn or replaced."""
        kept = self.objective, self.bottleneck, self.labelled_only
        if self.bottleneck is not None:
            self.bottleneck.pass_by()
        self.objective, self.bottleneck, self.labelled_only = FTObjective(), None, True
        try:
            yield
        finally:
            self.objective, self.bottleneck, self.labelled_only = kept

    def remove(self) -> None:
        """Give the model TRL's forward back."""
        self.base.forward = self._trl_forward

    def __call__(
        self,
        *arguments: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        **keywords: Any,
    ) -> Any:
        """Run the model, and score its labelled tokens if `fused_lm_head` asks for it."""
        weights_BT = keywords.pop(COLUMN, None)
        if not fused_lm_head:
            if self.bottleneck is not None:
                self.bottleneck.pass_by()
            return self._trl_forward(*arguments, labels=labels, shift_labels=shift_labels, **keywords)
        next_labels = shift_labels
        if next_labels is None:
            assert labels is not None, "TRL asks for a loss and gives no labels"
            next_labels = labels[:, 1:]
        base_hidden_NH = self._base_states(arguments, keywords, next_labels) if self.objective.needs_base else None
        if self.bottleneck is not None:
            self.bottleneck.begin(next_labels, is_training=self.base.training)
        if self.objective.needs or (self.labelled_only and not self._has_triton()):
            output = self._scored(arguments, keywords, next_labels, base_hidden_NH)
        else:
            output = self._weighed(
                self._trl_forward(*arguments, fused_lm_head=True, labels=labels, shift_labels=shift_labels, **keywords)
            )
        if self.bottleneck is not None:
            output.terms = self.bottleneck.end(next_labels, weights_BT, Projection.of(self.base))
        self._output = output
        return output

    def _has_triton(self) -> bool:
        """Decide whether TRL's own forward projects labelled positions alone, on the device of `lm_head`."""
        return self.base.get_output_embeddings().weight.device.type in ("cuda", "xpu") and is_triton_available()

    def _scored(
        self,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        next_labels: Tensor,
        base_hidden_NH: Tensor | None,
    ) -> LossOutput:
        """Have TRL's forward run the backbone and score no position, and score the labelled ones here.

        N may be 0.
        """
        mask, objective = next_labels != IGNORED, self.objective
        states: list[Tensor] = []

        def keep(_backbone: nn.Module, _arguments: Any, output: Any) -> None:
            states.append(labelled_states(output.last_hidden_state, mask))
            output.last_hidden_state = output.last_hidden_state[:, :0]

        with self.base.base_model.register_forward_hook(keep):
            # TRL's forward rather than the backbone alone: its output also has what else the model computes, such as
            # the load-balancing loss of a mixture of experts.
            output = self._trl_forward(*arguments, fused_lm_head=True, shift_labels=next_labels[:, :0], **keywords)
        projection = Projection.of(self.base)
        device = next(projection.lm_head.parameters()).device
        mask = mask.to(device)

        def of_logits(logits_nV: Tensor, targets_n: Tensor, base_nV: Tensor | None) -> Tensor:
            return objective.loss(Tokens(logits_nV, targets_n, base_nV))

        losses = token_losses(
            states[0].to(device),
            next_labels.to(device)[mask],
            projection,
            of_logits if objective.needs else cross_entropy,  # whose gradient has a closed form
            None if base_hidden_NH is None else base_hidden_NH.to(device),
        )
        loss_N = losses.loss if objective.needs else objective.loss(Tokens.scored(losses.loss))
        num_items = keywords.get("num_items_in_batch")
        output.loss = output.loss + loss_N.sum() / (mask.sum().clamp(min=1) if num_items is None else num_items)
        output.label_mask = mask
        for name, values in (("log_probs", -loss_N), ("entropy", losses.entropy), ("is_top1", losses.is_top1)):
            setattr(output, name, _scattered(values, mask))
        return LossOutput(**output, sums=self._sums(loss_N, -losses.log_prob))

    def _weighed(self, output: FusedCausalLMOutput) -> LossOutput:
        """Return TRL's output, with the objective's losses made from its log-probabilities."""
        if self.objective.is_cross_entropy:
            return LossOutput(**output)
        ce_N = -output.log_probs[output.label_mask]
        loss_N = self.objective.loss(Tokens.scored(ce_N))
        output.log_probs = _scattered(-loss_N, output.label_mask)
        return LossOutput(**output, sums=self._sums(loss_N, ce_N))

    def _sums(self, loss_N: Tensor, ce_N: Tensor) -> dict[str, Tensor] | None:
        if self.objective.is_cross_entropy:
            return None  # TRL logs its mean as the loss
        loss_N, ce_N = loss_N.detach(), ce_N.detach()
        return {"ce": ce_N.sum()} | self.objective.sums(loss_N, ce_N)

    def _base_states(self, arguments: tuple[Any, ...], keywords: dict[str, Any], next_labels: Tensor) -> Tensor:
        """Return the base model's final states (N, H) where a labelled token is predicted: adapter and dropout off."""
        # It draws nothing from the random generators, so the trained model's dropout is as it would be without it.
        keywords = {name: value for name, value in keywords.items() if name != "num_items_in_batch"}
        assert self.adapter is not None
        # Module by module: `eval()` and `train()` would also switch what was in evaluation before.
        training = [module for module in self.base.modules() if module.training]
        try:
            for module in training:
                module.training = False
            with torch.no_grad(), self.adapter.disable_adapter():
                states = self.base.base_model(*arguments, **keywords | {"use_cache": False}).last_hidden_state
        finally:
            for module in training:
                module.training = True
        return labelled_states(states, next_labels != IGNORED)


def _scattered(values_N: Tensor, mask: Tensor) -> Tensor:
    """Put the values at the labelled positions, 0 elsewhere; connected to the model even where none is labelled."""
    return values_N.new_zeros(mask.shape).masked_scatter(mask, values_N)
