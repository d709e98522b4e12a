"""The bottleneck beside a model that is trained: its heads, its taps on the layers, its noise, its weights over time.

A form decides how h is compressed (`ibft.objectives.bottleneck.forms`); here is what a form needs PyTorch for.

Shapes: B sequences, T positions, N labelled positions, H hidden size, D bottleneck dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ibft.errors import UserError
from ibft.models.projection import IGNORED, Projection, TokenLosses, labelled_states, token_losses
from ibft.models.tap import HiddenStateTap, decoder_layers, final_norm
from ibft.objectives.bottleneck.form import Form
from ibft.objectives.bottleneck.terms import Terms
from ibft.training.head import VariationalHead
from ibft.training.sharding import load_whole_state, whole_state

__all__ = ["HEAD_NAME", "Bottleneck", "TappedLayer"]

HEAD_NAME = "ibft_bottleneck"
HEAD_FILE = "bottleneck.pt"


@dataclass(frozen=True, eq=False)
class TappedLayer:
    """One layer in one forward, as a form sees it: `ibft.objectives.bottleneck.terms.TappedLayer`.

    labels: the label that each position predicts, (B, T - 1) or (B, T).
    get_head: the layer's head; fails for a form without one.
    score: decoded states and their targets to token losses.
    noise_ND: the noise that the forward has used; None if it used none.
    weights_BT: the weight of each token's KL, at the token's own position; None is 1.
    """

    hidden_BTH: Tensor
    labels: Tensor
    get_head: Callable[[], VariationalHead]
    score: Callable[[Tensor, Tensor], TokenLosses]
    generator: torch.Generator
    noise_ND: Tensor | None
    weights_BT: Tensor | None

    @property
    def head(self) -> VariationalHead:
        """The layer's head."""
        return self.get_head()

    @cached_property
    def _mask(self) -> Tensor:
        return self.labels != IGNORED

    @cached_property
    def hidden_NH(self) -> Tensor:
        """The states of the positions that predict a labelled token."""
        return self.labelled(self.hidden_BTH)

    @cached_property
    def weights_N(self) -> Tensor | None:
        """The weight of each labelled token's KL; None is 1."""
        # Labels are shifted by one position, weights are not.
        return None if self.weights_BT is None else self.weights_BT[:, 1:].to(self._mask.device)[self._mask]

    @cached_property
    def _targets_N(self) -> Tensor:
        return self.labels[self._mask]

    def labelled(self, values_BTX: Tensor) -> Tensor:
        """Return the rows (N, X) of the positions that predict a labelled token."""
        return labelled_states(values_BTX, self._mask)

    def noise(self, kl_ND: Tensor) -> Tensor:
        """Return the noise that the forward has used, or draw it."""
        if self.noise_ND is not None:
            return self.noise_ND
        return torch.randn(kl_ND.shape, generator=self.generator, device=kl_ND.device)

    def draw(self, count: int) -> Tensor:
        """Draw indices of `count` of the N positions."""
        order = torch.randperm(len(self._targets_N), generator=self.generator, device=self.generator.device)
        return order[:count]

    def predict(self, decoded_MH: Tensor, chosen: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Score decoded states of the chosen positions."""
        losses = self.score(decoded_MH, self._targets_N[chosen])
        return losses.loss, losses.is_top1


class Bottleneck:
    """What an objective with a bottleneck adds to a trainer.

    Args:
        model: the model that the trainer calls (PeftModel or plain): the heads become its module `HEAD_NAME`.
        base: the causal language model in it.
        form: the objective's.
        seed: random seed of the heads' weights.
        process_index: of this process; each draws its own noise.

    Raises:
        UserError: a layer is out of range, or the form needs a norm that the model does not have.
    """

    def __init__(self, model: nn.Module, base: PreTrainedModel, form: Form, seed: int, process_index: int) -> None:
        self.form, self.schedule = form, form.schedule()
        settings, blocks = form.settings, decoder_layers(base)
        layers = settings.layer_indices(len(blocks))
        device = next(blocks[layers[0]].parameters()).device
        # Own generators: drawing from the global one would shift dropout and data order, and alpha = 0 would no longer
        # train as SFTTrainer does, bit for bit.
        self.generator = torch.Generator(device).manual_seed(seed + 1 + process_index)
        self._noise_file = f"bottleneck_noise_{process_index}.pt"
        weights = torch.Generator().manual_seed(seed)
        hidden_size = base.config.get_text_config().hidden_size
        clamps = (settings.logvar_min, settings.logvar_max)
        self.heads = nn.ModuleList(
            VariationalHead(hidden_size, settings.bottleneck_dim, *clamps, weights)
            for _ in (layers if form.has_head else ())
        ).to(device)
        # DDP waits for the gradient of every parameter that requires one.
        self.heads.requires_grad_(settings.alpha > 0)
        # On the outer model, after PEFT has wrapped it: inside, `all-linear` would put adapters on the heads. Here the
        # optimizer finds them, and a saved adapter does not hold them.
        model.add_module(HEAD_NAME, self.heads)
        # Not looked for where it is not applied: a model without a final norm can be trained, too.
        self._final_norm = final_norm(base) if form.applies_final_norm else nn.Identity()
        self._taps = [HiddenStateTap(blocks[layer]) for layer in layers]
        self._noise: list[Tensor | None] = [None] * len(layers)
        self.replaced = 0.0

    def remove(self) -> None:
        """Take every hook off the model."""
        for tap in self._taps:
            tap.remove()

    def pass_by(self) -> None:
        """Let the next forward pass without a tap."""
        for tap in self._taps:
            tap.disarm()

    def begin(self, next_labels: Tensor, is_training: bool) -> None:
        """Tap the forward that comes now.

        Args:
            next_labels: the label that each position predicts.
            is_training: whether a form may replace h.
        """
        # Evaluation judges the model that will be exported, which has no bottleneck.
        self.replaced = self.schedule.replaced if is_training else 0.0
        for index, tap in enumerate(self._taps):
            self._noise[index] = None
            tap.arm(self._replacer(index, next_labels) if self.replaced > 0 else None)

    def _replacer(self, index: int, next_labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function by which tap `index` replaces its hidden state in this forward."""
        device, head, share = self.generator.device, self._head(index), self.replaced
        mask = (next_labels != IGNORED).to(device)
        shape = (int(mask.sum()), self.form.settings.bottleneck_dim)
        # Drawn here, once: gradient checkpointing runs `replace` again, and must get the same values. The terms use the
        # same noise.
        noise_ND = torch.randn(shape, generator=self.generator, device=device)
        self._noise[index] = noise_ND

        def replace(hidden_BTH: Tensor) -> Tensor:
            predicts_BT = F.pad(mask, (0, hidden_BTH.shape[1] - mask.shape[1])).to(hidden_BTH.device)
            return self.form.replace(hidden_BTH, predicts_BT, head, noise_ND, share)

        return replace

    def end(self, next_labels: Tensor, weights_BT: Tensor | None, projection: Projection) -> Terms:
        """Return the terms of the forward that was tapped, each averaged over the layers."""

        def score(decoded_MH: Tensor, targets_M: Tensor) -> TokenLosses:
            dtype = next((parameter.dtype for parameter in self._final_norm.parameters()), decoded_MH.dtype)
            return token_losses(self._final_norm(decoded_MH.to(dtype)), targets_M, projection)

        labels = next_labels.to(self.generator.device)
        # alpha = 0: gauges only. Without gradients the head stays as it is and takes no share of the clipping norm.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.form.settings.alpha > 0):
            layers = [
                self.form.terms(
                    TappedLayer(
                        tap.take().to(self.generator.device),
                        labels,
                        partial(self._head, index),
                        score,
                        self.generator,
                        self._noise[index],
                        weights_BT,
                    )
                )
                for index, tap in enumerate(self._taps)
            ]
            return Terms(*(torch.stack(values).mean(dim=0) for values in zip(*layers, strict=True)))

    def _head(self, index: int) -> VariationalHead:
        head = self.heads[index]
        assert isinstance(head, VariationalHead)
        return head

    def save(self, checkpoint: Path, is_main_process: bool) -> None:
        """Save heads and controller. Where weights are sharded, every process must call it."""
        checkpoint.mkdir(parents=True, exist_ok=True)
        heads = whole_state(self.heads)
        if is_main_process:
            torch.save({"heads": heads, "controller": self.schedule.state_dict()}, checkpoint / HEAD_FILE)

    def save_noise(self, checkpoint: str) -> None:
        """Save the noise's generator; each process saves its own."""
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
