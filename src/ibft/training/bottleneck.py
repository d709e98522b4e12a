"""The bottleneck beside a model that is trained: its heads, its taps on the layers, its noise, its weights over time.

How h is compressed is the form's (`ibft.objectives.bottleneck.forms`); here is what a form needs PyTorch for.

Shapes: B sequences, T positions, N labelled positions, H hidden size, D bottleneck dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibft.errors import UserError
from ibft.models.projection import IGNORED, Projection, TokenLosses, token_losses
from ibft.models.tap import HiddenStateTap, decoder_layers, final_norm
from ibft.objectives.bottleneck.form import Form
from ibft.objectives.bottleneck.terms import Terms
from ibft.training.head import VariationalHead
from ibft.training.sharding import load_whole_state, whole_state

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HEAD_NAME", "Bottleneck", "TappedLayer"]

HEAD_NAME = "ibft_bottleneck"
HEAD_FILE = "bottleneck.pt"


class TappedLayer:
    """One layer in one forward, as a form sees it: `ibft.objectives.bottleneck.terms.TappedLayer`."""

    def __init__(
        self,
        hidden_BTH: Tensor,
        next_labels: Tensor,
        head: VariationalHead | None,
        score: Callable[[Tensor, Tensor], TokenLosses],
        generator: torch.Generator,
        noise_ND: Tensor | None,
        weights_BT: Tensor | None,
    ) -> None:
        self.hidden_BTH, self._head = hidden_BTH, head
        self._score, self._generator, self._noise_ND, self._weights_BT = score, generator, noise_ND, weights_BT
        labels = next_labels.to(hidden_BTH.device)
        self._mask = labels != IGNORED
        self._targets_N = labels[self._mask]

    @property
    def head(self) -> VariationalHead:
        """The layer's head; forms without one do not ask."""
        assert self._head is not None
        return self._head

    @cached_property
    def hidden_NH(self) -> Tensor:
        """The states of the positions that predict a labelled token."""
        return self.labelled(self.hidden_BTH)

    @cached_property
    def weights_N(self) -> Tensor | None:
        """The weight of each labelled token's KL, which stands at the token's own place; None is 1."""
        return None if self._weights_BT is None else self._weights_BT[:, 1:].to(self._mask.device)[self._mask]

    def labelled(self, values_BTX: Tensor) -> Tensor:
        """The rows (N, X) of the positions that predict a labelled token."""
        rows: Tensor = values_BTX[:, : self._mask.shape[1]][self._mask]
        return rows

    def noise(self, kl_ND: Tensor) -> Tensor:
        """The noise that the forward has used, or else new."""
        if self._noise_ND is not None:
            return self._noise_ND
        return torch.randn(kl_ND.shape, generator=self._generator, device=kl_ND.device)

    def draw(self, count: int) -> Tensor:
        """Indices of `count` of the N positions."""
        order = torch.randperm(len(self._targets_N), generator=self._generator, device=self._generator.device)
        return order[:count]

    def predict(self, decoded_MH: Tensor, chosen: slice | Tensor) -> TokenLosses:
        """Score decoded states of the chosen positions."""
        return self._score(decoded_MH, self._targets_N[chosen])


class Bottleneck:
    """What an objective with a bottleneck adds to a trainer.

    Args:
        model: the model that the trainer calls (PeftModel or plain): the heads become its module `HEAD_NAME`.
        base: the causal language model in it.
        form: the objective's.
        seed: random seed of the heads' weights.
        process_index: of this process, which draws noise of its own.

    Raises:
        UserError: a layer is out of range, or the form needs a norm that the model does not have.
    """

    def __init__(self, model: nn.Module, base: PreTrainedModel, form: Form, seed: int, process_index: int) -> None:
        self.form, self.schedule = form, form.schedule()
        settings, blocks = form.settings, decoder_layers(base)
        layers = settings.layer_indices(len(blocks))
        device = next(blocks[layers[0]].parameters()).device
        # Generators of our own: drawing from the global one would shift dropout and data order against SFTTrainer.
        self.generator = torch.Generator(device).manual_seed(seed + 1 + process_index)
        self._noise_file = f"bottleneck_noise_{process_index}.pt"
        weights = torch.Generator().manual_seed(seed)
        hidden_size = base.config.get_text_config().hidden_size
        clamps = (settings.logvar_min, settings.logvar_max)
        self.heads = nn.ModuleList(
            VariationalHead(hidden_size, settings.bottleneck_dim, *clamps, weights)
            for _ in (layers if form.has_head else ())
        ).to(device)
        # A head that is not trained must not look as if it were: DDP waits for every parameter's gradient.
        self.heads.requires_grad_(settings.alpha > 0)
        model.add_module(HEAD_NAME, self.heads)
        # An identity where the norm is not applied: then a model without one can be trained, too.
        self._final_norm = final_norm(base) if form.applies_final_norm else nn.Identity()
        self._taps = [HiddenStateTap(blocks[layer]) for layer in layers]
        self._noise: list[Tensor | None] = [None] * len(layers)
        self.replaced = 0.0

    def remove(self) -> None:
        """Take every hook off the model."""
        for tap in self._taps:
            tap.remove()

    def pass_by(self) -> None:
        """Leave the next forward alone."""
        for tap in self._taps:
            tap.disarm()

    def begin(self, next_labels: Tensor, is_training: bool) -> None:
        """Tap the forward that comes now.

        Args:
            next_labels: the label that each position predicts.
            is_training: in evaluation nothing is replaced: what is judged is the model that will be exported.
        """
        self.replaced = self.schedule.replaced if is_training else 0.0
        for index, tap in enumerate(self._taps):
            self._noise[index] = None
            tap.arm(self._replacer(index, next_labels) if self.replaced > 0 else None)

    def _replacer(self, index: int, next_labels: Tensor) -> Callable[[Tensor], Tensor]:
        """How tap `index` replaces its hidden state in this forward, with noise that is drawn now."""
        device, head, share = self.generator.device, self._head(index), self.replaced
        assert head is not None, "a form that replaces h has a head that decodes it"
        mask = (next_labels != IGNORED).to(device)
        shape = (int(mask.sum()), self.form.settings.bottleneck_dim)
        noise_ND = torch.randn(shape, generator=self.generator, device=device)
        self._noise[index] = noise_ND

        def replace(hidden_BTH: Tensor) -> Tensor:
            predicts_BT = F.pad(mask, (0, hidden_BTH.shape[1] - mask.shape[1])).to(hidden_BTH.device)
            return self.form.replace(hidden_BTH, predicts_BT, head, noise_ND, share)

        return replace

    def end(self, next_labels: Tensor, weights_BT: Tensor | None, projection: Projection) -> Terms:
        """The terms of the forward that was tapped: the mean over the layers, each term for itself."""

        def score(decoded_MH: Tensor, targets_M: Tensor) -> TokenLosses:
            dtype = next((parameter.dtype for parameter in self._final_norm.parameters()), decoded_MH.dtype)
            return token_losses(self._final_norm(decoded_MH.to(dtype)), targets_M, projection)

        # alpha = 0: gauges only. Without gradients the head stays as it is and takes no share of the clipping norm.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.form.settings.alpha > 0):
            layers = [
                self.form.terms(
                    TappedLayer(
                        tap.take().to(self.generator.device),
                        next_labels,
                        self._head(index),
                        score,
                        self.generator,
                        self._noise[index],
                        weights_BT,
                    )
                )
                for index, tap in enumerate(self._taps)
            ]
            return Terms(*(torch.stack(values).mean(dim=0) for values in zip(*layers, strict=True)))

    def _head(self, index: int) -> VariationalHead | None:
        head = self.heads[index] if self.form.has_head else None
        assert head is None or isinstance(head, VariationalHead)
        return head

    def save(self, checkpoint: Path, is_main_process: bool) -> None:
        """Save heads and controller. Where weights are sharded, every process must call it."""
        checkpoint.mkdir(parents=True, exist_ok=True)
        heads = whole_state(self.heads)
        if is_main_process:
            torch.save({"heads": heads, "controller": self.schedule.state_dict()}, checkpoint / HEAD_FILE)

    def save_noise(self, checkpoint: str) -> None:
        """Save the noise's generator; each process its own."""
        torch.save(self.generator.get_state(), Path(checkpoint) / self._noise_file)

    def load_heads(self, checkpoint: str) -> None:
        """Restore the heads.

        Raises:
            UserError: the checkpoint has none, or one of another shape.
        """
        try:
            load_whole_state(self.heads, _read(checkpoint, HEAD_FILE)["heads"])
        except RuntimeError:
            raise UserError(
                f"{checkpoint}: its bottleneck has another shape. Resume with the layers and the bottleneck_dim it was "
                "trained with."
            ) from None

    def load_state(self, checkpoint: str) -> None:
        """Restore the noise's generator and the controller.

        Raises:
            UserError: the checkpoint has none.
        """
        self.schedule.load_state_dict(_read(checkpoint, HEAD_FILE)["controller"])
        self.generator.set_state(_read(checkpoint, self._noise_file))


def _read(checkpoint: str, name: str) -> Any:
    path = Path(checkpoint) / name
    if not path.is_file():
        raise UserError(
            f"{checkpoint}: holds no bottleneck, so this trainer cannot resume from it. Start from another one."
        )
    return torch.load(path, map_location="cpu", weights_only=True)
