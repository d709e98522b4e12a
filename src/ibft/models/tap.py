"""Read one layer's hidden state out of a running model, without asking it to return all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ibft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HiddenStateTap", "decoder_layers", "final_norm"]


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder's blocks in order, whatever the architecture calls them.

    Raises:
        UserError: the model has no list of `num_hidden_layers` blocks.
    """
    num_layers = model.config.get_text_config().num_hidden_layers
    decoder = model.get_decoder() or model
    # Outer modules come first, so a list of experts inside a layer is never taken for the layers.
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise UserError(
        f"model: {type(model).__name__} has no list of its {num_layers} layers, so the bottleneck cannot read one. "
        "Use a decoder-only transformer such as Llama, Qwen or DeepSeek."
    )


def final_norm(model: PreTrainedModel) -> nn.Module:
    """Return the norm between the last layer and `lm_head`, whatever the architecture calls it.

    Raises:
        UserError: the decoder itself has no norm.
    """
    decoder = model.get_decoder() or model
    children: list[nn.Module] = list(decoder.children())
    for module in reversed(children):
        # PEFT wraps a norm that is trained whole (`modules_to_save`), under a name of its own.
        kind = type(getattr(module, "original_module", module))
        if "norm" in kind.__name__.lower():
            return module
    raise UserError(
        f"model: {type(model).__name__} has no norm before its lm_head, which this form of the bottleneck needs. "
        "Use form: paper, or another model."
    )


class HiddenStateTap:
    """Holds the input of one layer: layer k's input is `hidden_states[k]`, the raw residual stream, (B, T, H).

    The tensor is kept as it is, so gradients flow through it. With `replace`, the layer reads `replace(h)` instead,
    from `arm` to `disarm`; `replace` must give the same each time.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._armed = False
        self._hidden: Tensor | None = None
        self._replace: Callable[[Tensor], Tensor] | None = None
        self._handle = layer.register_forward_pre_hook(self._capture, with_kwargs=True)

    def arm(self, replace: Callable[[Tensor], Tensor] | None = None) -> None:
        """Take the layer's next input."""
        self._armed, self._hidden, self._replace = True, None, replace

    def disarm(self) -> None:
        """Let the layer's inputs pass."""
        self._armed, self._hidden, self._replace = False, None, None

    def take(self) -> Tensor:
        """Return the captured hidden state and forget it."""
        hidden, self._hidden, self._armed = self._hidden, None, False
        assert hidden is not None, "the tapped layer did not run"
        return hidden

    def remove(self) -> None:
        """Take the hook off the layer."""
        self._handle.remove()

    def _capture(
        self, _layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        # The first run alone: gradient checkpointing runs the layer again in the backward, and that recomputed tensor
        # belongs to no graph. (is_grad_enabled() does not tell
        # them apart: reentrant checkpointing makes the first run without gradients.)
        if self._armed:
            self._hidden, self._armed = hidden, False
        # In every run: the recomputation must see the same input as the first one.
        if self._replace is None:
            return None
        replaced = self._replace(hidden)
        return ((replaced, *arguments[1:]), keywords) if arguments else ((), {**keywords, "hidden_states": replaced})
