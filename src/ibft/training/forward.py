"""The bottleneck's terms, computed inside the model's own forward and carried out on its output.

Inside, because wrappers (DDP, FSDP, ZeRO-3) gather parameters and track gradients only between the start and
the end of the wrapped model's forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trl.trainer.utils import FusedCausalLMOutput

from ibft.bottleneck.module import VariationalHead
from ibft.bottleneck.tap import HiddenStateTap, decoder_layers, final_norm
from ibft.bottleneck.terms import Terms, average_terms, entropy_terms, replacement, variational_terms
from ibft.models.projection import Projection
from ibft.run.objectives import IBObjective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["BottleneckForward", "BottleneckOutput", "OutputCapture"]


@dataclass
class BottleneckOutput(FusedCausalLMOutput):  # type: ignore[misc]
    """TRL's output with the bottleneck's terms, averaged over the tapped layers."""

    terms: Terms | None = None


class BottleneckForward:
    """Hooks that compute the bottleneck's terms in every forward of TRL's loss; any other forward is left alone.

    Args:
        model: the model the trainer calls (PeftModel or plain).
        base: the causal language model in it.
        layers: indices of the tapped layers: layer k's input is the hidden state h.
        heads: one variational head a layer; none for `form: entropy`.
        settings: the objective.
        generator: draws all that is random here, on the device of the heads; the global one is never drawn from, so
            that dropout falls as it does without the bottleneck.
    """

    replaced: float = 0.0
    """`in_path`: the share of h that the next training forward replaces; set by the trainer."""

    weights_BT: Tensor | None = None
    """`adaptive`: the weight of each token's KL in the next forward; set by the trainer."""

    def __init__(
        self,
        model: nn.Module,
        base: PreTrainedModel,
        layers: tuple[int, ...],
        heads: nn.ModuleList,
        settings: IBObjective,
        generator: torch.Generator,
    ) -> None:
        blocks = decoder_layers(base)
        self._taps = [HiddenStateTap(blocks[layer]) for layer in layers]
        self._heads, self._settings, self._generator = heads, settings, generator
        self._base = base
        # An identity where the norm is not applied: then a model without one can be trained, too.
        self._final_norm = nn.Identity() if settings.form in ("paper", "entropy") else final_norm(base)
        self._noise: list[Tensor | None] = [None] * len(layers)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]

    def remove(self) -> None:
        """Take every hook off the model."""
        for tap in self._taps:
            tap.remove()
        for handle in self._handles:
            handle.remove()

    def _before(self, model: nn.Module, _arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if not _is_loss_forward(keywords):
            for tap in self._taps:
                tap.disarm()
            return
        # In evaluation nothing is replaced: what is judged is the model that will be exported.
        is_in_path = self._settings.form == "in_path" and model.training and self.replaced > 0
        for index, tap in enumerate(self._taps):
            self._noise[index] = None
            tap.arm(self._replacer(index, keywords["labels"]) if is_in_path else None)

    def _replacer(self, index: int, labels_BT: Tensor) -> Any:
        """How tap `index` replaces its hidden state in this forward, with noise that is drawn now."""
        device = self._generator.device
        predicts_BT = F.pad(labels_BT[:, 1:] != -100, (0, 1)).to(device)
        shape = (int(predicts_BT.sum()), self._settings.bottleneck_dim)
        noise_ND = torch.randn(shape, generator=self._generator, device=device)
        self._noise[index] = noise_ND
        head, share = self._head(index), self.replaced

        def replace(hidden_BTH: Tensor) -> Tensor:
            return replacement(hidden_BTH, predicts_BT.to(hidden_BTH.device), head, noise_ND, share)

        return replace

    def _after(self, _model: nn.Module, _arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        if not _is_loss_forward(keywords):
            return None
        # alpha = 0: gauges only. Without gradients the head stays as it is and takes no share of the clipping norm.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._settings.alpha > 0):
            terms = average_terms([self._terms(index, keywords["labels"]) for index in range(len(self._taps))])
        return BottleneckOutput(**output, terms=terms)

    def _terms(self, index: int, labels_BT: Tensor) -> Terms:
        hidden_BTH = self._taps[index].take().to(self._generator.device)
        if self._settings.form == "entropy":
            return entropy_terms(hidden_BTH, labels_BT, self._settings, self._generator)
        return variational_terms(
            hidden_BTH,
            labels_BT,
            self._head(index),
            Projection.of(self._base),
            self._final_norm,
            self._settings,
            self._generator,
            self._noise[index],
            self.weights_BT,
        )

    def _head(self, index: int) -> VariationalHead:
        head = self._heads[index]
        assert isinstance(head, VariationalHead)
        return head


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
