"""Stop a training run before a loss that is NaN, infinite or exploding spoils its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from ibft.data.tokens import TokenizedExample
from ibft.errors import UserError
from ibft.training.batching import split_batch

__all__ = ["StopAtDivergence"]

EXPLOSION = 100.0
"""A loss explodes above this many times the lowest loss so far, plus ten times that of uniform guessing."""


class StopAtDivergence:
    """Mixed into a Trainer: stops at a loss or gradient that is NaN or infinite, or a loss that explodes.

    It stops before the optimizer uses the loss, so the last checkpoint stays good. (The Trainer's own filter replaces
    a loss that is not finite in the log, and continues.)
    """

    examples: Sequence[TokenizedExample] = ()
    """The training data, so that the message can name the batch's examples."""

    _forwards: list[dict[str, Any]]
    _batch_step = -1
    _lowest = math.inf

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Tensor:
        """Train on one forward's batch.

        Raises:
            UserError: the loss is NaN, infinite or exploding.
        """
        step: int = self.state.global_step  # type: ignore[attr-defined]
        if step != self._batch_step:
            self._batch_step, self._forwards = step, []
        # Looked at only if the run must stop: reading a batch would wait for the GPU.
        self._forwards.append(dict(inputs))
        loss: Tensor = super().training_step(model, inputs, *arguments, **keywords)  # type: ignore[misc]
        value = float(loss)
        self._lowest = min(self._lowest, value)
        # Far beyond what a token can cost a model that guesses, and beyond a penalty that starts large and falls.
        vocab_size = self.model.config.get_text_config().vocab_size  # type: ignore[attr-defined]
        self._check("loss", value, 10 * math.log(vocab_size) + EXPLOSION * max(self._lowest, 0.0))
        return loss

    def _get_grad_norm(self, *arguments: Any, **keywords: Any) -> Any:
        """Check the gradient norm, which the Trainer asks for just before each optimizer step."""
        norm = super()._get_grad_norm(*arguments, **keywords)  # type: ignore[misc]
        if norm is not None and not self._will_be_skipped(float(norm)):
            self._check("gradient", float(norm), math.inf)
        return norm

    def _will_be_skipped(self, norm: float) -> bool:
        """Decide whether the step will be left out, and tried again with a smaller scale of the loss (float16)."""
        scaler = self.accelerator.scaler  # type: ignore[attr-defined]
        # A scale below 1 has been halved 16 times: then it is not the scale.
        return scaler is not None and not math.isfinite(norm) and scaler.get_scale() >= 1

    def _check(self, what: str, value: float, limit: float) -> None:
        """Stop if the value of any process is bad."""
        is_bad = not math.isfinite(value) or value > limit
        # All processes stop at once: one that continued alone would wait for the others for good.
        state = torch.tensor([[float(is_bad), value]], device=self.accelerator.device)  # type: ignore[attr-defined]
        states = self.accelerator.gather(state)  # type: ignore[attr-defined]
        if not bool(states[:, 0].any()):
            return
        batch = [input_ids for inputs in self._forwards for input_ids in split_batch(inputs)] if is_bad else []
        ids = gather_object([example.id for example in self.examples if example.input_ids in batch])
        worst = float(states[states[:, 0] > 0][0, 1])
        after = f", after {self._lowest:.3g} at best" if math.isfinite(worst) else ""
        raise UserError(
            f"train: the {what} is {worst:.6g} at step {self._batch_step + 1}{after} (examples {', '.join(ids)}). "
            "Lower train.learning_rate, or the bottleneck's objective.alpha; or leave these examples out."
        )
