"""The bottleneck's terms, computed inside the model's own forward and carried out on its output.

Inside, because wrappers (DDP, FSDP, ZeRO-3) gather parameters and track gradients only between the start and
the end of the wrapped model's forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

from ibft.bottleneck.losses import cross_entropy_sum, kl_to_standard_normal, labelled_positions
from ibft.bottleneck.module import Posterior, VariationalHead
from ibft.bottleneck.tap import HiddenStateTap

__all__ = ["BottleneckForward", "BottleneckOutput", "OutputCapture"]


@dataclass
class BottleneckOutput(FusedCausalLMOutput):  # type: ignore[misc]
    """TRL's output with the bottleneck's terms, each a float32 scalar.

    `kl` is the mean over positions and dimensions, in nats; `ce_bottleneck_sum` is summed over labelled tokens,
    in nats; `hidden_std` is the standard deviation of the tapped hidden state over all its entries.
    """

    kl: Tensor | None = None
    ce_bottleneck_sum: Tensor | None = None
    hidden_std: Tensor | None = None


class BottleneckForward:
    """Hooks that run the side head in every forward of TRL's loss; any other forward is left alone.

    Args:
        model: the model the trainer calls (PeftModel or plain).
        layer: the module whose input is the hidden state h.
        lm_head: the model's output projection, applied to h_bar without the final norm.
        head: the variational head.
        noise: generator of the code's noise, on the head's device; the global one is never drawn from, so that
            dropout falls as it does without the bottleneck.
        with_gradient: False computes the terms as gauges only.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        lm_head: nn.Module,
        head: VariationalHead,
        noise: torch.Generator,
        with_gradient: bool,
    ) -> None:
        self._lm_head, self._head, self._noise = lm_head, head, noise
        self._with_gradient = with_gradient
        self._tap = HiddenStateTap(layer)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]

    def remove(self) -> None:
        """Take every hook off the model."""
        self._tap.remove()
        for handle in self._handles:
            handle.remove()

    def _before(self, _model: nn.Module, _arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if _is_loss_forward(keywords):
            self._tap.arm()

    def _after(self, _model: nn.Module, _arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        if not _is_loss_forward(keywords):
            return None
        hidden_BTH = self._tap.take().to(self._noise.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._with_gradient):
            kl, ce_sum = self._terms(hidden_BTH, keywords["labels"])
        return BottleneckOutput(
            **output, kl=kl, ce_bottleneck_sum=ce_sum, hidden_std=hidden_BTH.detach().float().std(correction=0)
        )

    def _terms(self, hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self._head.encode(hidden_BTH)
        kl = kl_to_standard_normal(posterior.mean, posterior.logvar).mean()
        # Only labelled positions are decoded: the others' noise and reconstruction would reach no loss.
        mean_ND, targets_N = labelled_positions(posterior.mean, labels_BT)
        logvar_ND, _ = labelled_positions(posterior.logvar, labels_BT)
        noise_ND = torch.randn(mean_ND.shape, generator=self._noise, device=mean_ND.device)
        reconstruction_NH = self._head.decode(Posterior(mean_ND, logvar_ND), noise_ND)
        return kl, cross_entropy_sum(reconstruction_NH, targets_N, self._lm_head)


def _is_loss_forward(keywords: dict[str, Any]) -> bool:
    """Whether this is the forward from which TRL takes its loss (it also calls the model for logits alone)."""
    return bool(keywords.get("fused_lm_head")) and keywords.get("labels") is not None


class OutputCapture:
    """Stands in for the model in TRL's `compute_loss`, which discards the output: calls it and keeps that output."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.output: BottleneckOutput | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the model."""
        output = self._model(*arguments, **keywords)
        if isinstance(output, BottleneckOutput):
            self.output = output
        return output
