"""Trainers of the objectives that IB-FT is compared with: TRL's SFTTrainer with another loss a token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from ibft.errors import UserError
from ibft.models.projection import IGNORED, Projection, TokenLoss, TokenLosses, token_losses
from ibft.objectives.asft import asft
from ibft.objectives.dft import dft
from ibft.objectives.eaft import eaft
from ibft.objectives.ft_kl import ft_kl
from ibft.objectives.gem import gem
from ibft.objectives.stm import stm
from ibft.run.objectives import NEEDS_BASE, ASFTObjective, EAFTObjective, FTKLObjective, GEMObjective, STMObjective
from ibft.training.gauges import per_token, record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["DFTTrainer", "RivalObjective", "RivalTrainer"]

RivalObjective = FTKLObjective | ASFTObjective | EAFTObjective | GEMObjective | STMObjective
"""The objectives whose loss needs the logits, or the base model's."""


class _GaugedTrainer(SFTTrainer):  # type: ignore[misc]
    """Logs what its forward sums over labelled tokens as means a token, on the scale of `loss`."""

    _sums: dict[str, Tensor]
    _num_labelled: Tensor

    def _take(self, sums: dict[str, Tensor], num_labelled: Tensor) -> None:
        """Called by each forward, with scalars."""
        self._sums, self._num_labelled = sums, num_labelled

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's loss of one batch; a scalar, with the outputs if asked for."""
        result = super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        # The log averages over the forwards of a step: each counts as often as there are.
        num_steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
        scale = per_token(self, self._num_labelled, num_items_in_batch) * num_steps
        record(self, {name: total * scale for name, total in self._sums.items()})
        return result


class DFTTrainer(_GaugedTrainer):
    """TRL's SFTTrainer, for `loss_type="dft"`: takes what it takes, and logs the cross-entropy as `ce` beside it."""

    _name = "DFT"  # in the model card

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.model.register_forward_hook(self._observe)

    def _observe(self, _model: nn.Module, _arguments: Any, output: Any) -> None:
        if isinstance(output, FusedCausalLMOutput):
            self._take({"ce": -output.log_probs.detach().sum()}, output.label_mask.sum())


class RivalTrainer(_GaugedTrainer):
    """Fine-tune with a rival objective; takes what `trl.SFTTrainer` takes.

    TRL's forward returns each token's log-probability; its trainer sums their negatives and divides by the number of
    labelled tokens of the whole optimizer step. Here the forward returns minus the objective's loss of each token in
    their place, so that TRL's normalization, accumulation, distribution and metrics hold for it as they are.

    `ft_kl`, `asft` and `stm` compare with the base model: the same weights with the adapter off and no dropout, in the
    same forward, without gradient, drawing nothing from the random generators.

    Logged beside TRL's metrics, each a mean over labelled tokens: `ce`, the cross-entropy; `ft_kl/kl` or `asft/kl`,
    KL(base || model) in nats (not with a weight of 0); `stm/kept`, the share of tokens with a loss above 0.

    Args:
        model: as for `SFTTrainer`.
        args: as for `SFTTrainer`.
        *arguments: as for `SFTTrainer`.
        objective: the recipe's.
        **keywords: as for `SFTTrainer`.

    Raises:
        UserError: the objective needs the base model and there is no adapter to switch off, or one that trains
            `lm_head`; the model is a mixture of experts with a loss of its own; or `args` ask for another loss.
    """

    _name = "Rival"  # in the model card

    def __init__(
        self, model: Any, args: Any = None, *arguments: Any, objective: RivalObjective, **keywords: Any
    ) -> None:
        super().__init__(model, args, *arguments, **keywords)
        name = objective.__struct_config__.tag
        if self.compute_loss_func is not None or self.label_smoother is not None or self.args.loss_type != "nll":
            raise UserError(
                f"objective: {name} is a loss of its own. Leave out compute_loss_func, label_smoothing_factor and "
                "loss_type."
            )
        if self.aux_loss_enabled:
            raise UserError(
                f"objective: {name} leaves out the load-balancing loss of a mixture of experts. Set "
                "router_aux_loss_coef to 0, or use ft."
            )
        adapter = self.model if isinstance(self.model, PeftModel) else None
        base: PreTrainedModel = self.model if adapter is None else adapter.get_base_model()
        if isinstance(objective, NEEDS_BASE):
            if adapter is None or adapter.active_peft_config.is_prompt_learning:
                raise UserError(
                    f"objective: {name} compares with the base model, which is the model with its LoRA adapter off: "
                    "there is no such adapter. Train one, or use ft, ib, dft, eaft, gem or neftune, which need no base."
                )
            if any(parameter.requires_grad for parameter in Projection.of(base).lm_head.parameters()):
                raise UserError(
                    f"objective: {name} reads the base model's logits through lm_head, which the adapter trains. Leave "
                    "lm_head out of it."
                )
        _RivalForward(base, adapter, objective, self._take)


def _token_loss(objective: RivalObjective) -> TokenLoss:
    if isinstance(objective, FTKLObjective):
        return partial(ft_kl, kl_weight=objective.kl_weight)
    if isinstance(objective, ASFTObjective):
        return partial(asft, kl_weight=objective.kl_weight)
    if isinstance(objective, EAFTObjective):
        return partial(eaft, top_k=objective.top_k)
    if isinstance(objective, GEMObjective):
        return partial(gem, beta=objective.beta)
    return partial(stm, max_perplexity=objective.max_perplexity)


def _sums(objective: RivalObjective, losses: TokenLosses) -> dict[str, Tensor]:
    """The gauges, summed over tokens; the KL is what the loss has beyond its first term."""
    loss_N, ce_N = losses.loss.detach(), -losses.log_prob
    sums = {"ce": ce_N.sum()}
    if isinstance(objective, FTKLObjective) and objective.kl_weight > 0:
        sums["ft_kl/kl"] = (loss_N - ce_N).sum() / objective.kl_weight
    if isinstance(objective, ASFTObjective) and objective.kl_weight > 0:
        sums["asft/kl"] = (loss_N - dft(ce_N)).sum() / objective.kl_weight
    if isinstance(objective, STMObjective):
        sums["stm/kept"] = (loss_N > 0).sum().float()
    return sums


class _RivalForward:
    """Stands in for the model's forward where TRL asks for its loss; any other call goes to TRL's.

    Inside the forward, because wrappers (DDP, FSDP, ZeRO-3) gather parameters and track gradients only there.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        adapter: PeftModel | None,
        objective: RivalObjective,
        take: Callable[[dict[str, Tensor], Tensor], None],
    ) -> None:
        functools.update_wrapper(self, base.forward)  # the signature, which `generate` checks its arguments against
        self._base, self._adapter, self._objective, self._take = base, adapter, objective, take
        self._trl_forward = base.forward
        base.forward = self

    def __call__(
        self,
        *arguments: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        **keywords: Any,
    ) -> Any:
        if not fused_lm_head:
            return self._trl_forward(*arguments, labels=labels, shift_labels=shift_labels, **keywords)
        keywords.pop("num_items_in_batch", None)
        keywords["use_cache"] = False
        if shift_labels is None:
            assert labels is not None
            shift_labels = labels[:, 1:]
        projection = Projection.of(self._base)
        device = next(projection.lm_head.parameters()).device
        targets = shift_labels.to(device)
        mask = targets != IGNORED
        base_hidden_NH = None
        if isinstance(self._objective, NEEDS_BASE):
            with self._as_base():
                base_hidden_NH = self._hidden(arguments, keywords, mask)
        losses = token_losses(
            self._hidden(arguments, keywords, mask),
            targets[mask],
            projection,
            _token_loss(self._objective),
            base_hidden_NH,
        )
        self._take(_sums(self._objective, losses), mask.sum())
        # Scattered, not indexed: connected to the model even where no token is labelled.
        loss, entropy, is_top1 = (
            values.new_zeros(mask.shape).masked_scatter(mask, values)
            for values in (losses.loss, losses.entropy, losses.is_top1)
        )
        return FusedCausalLMOutput(log_probs=-loss, entropy=entropy, is_top1=is_top1, label_mask=mask)

    def _hidden(self, arguments: tuple[Any, ...], keywords: dict[str, Any], mask: Tensor) -> Tensor:
        """The final hidden states of the positions that predict a labelled token, (N, H)."""
        hidden_BTH = self._base.base_model(*arguments, **keywords).last_hidden_state
        states: Tensor = hidden_BTH[:, : mask.shape[1]].to(mask.device)[mask]
        return states

    @contextmanager
    def _as_base(self) -> Iterator[None]:
        """Without adapter, dropout, checkpointing and gradient; all as it was afterwards, also after an error."""
        assert self._adapter is not None
        training = [module for module in self._base.modules() if module.training]
        try:
            for module in training:
                module.training = False
            with torch.no_grad(), self._adapter.disable_adapter():
                yield
        finally:
            for module in training:
                module.training = True
