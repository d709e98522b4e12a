"""How strong the bottleneck is at each step of a training run: warm-up, replaced share, controller."""

from __future__ import annotations

from typing import Any

from ibft.objectives.ib import ramp, replaced_share
from ibft.run.objectives import IBObjective
from ibft.training.controller import KLController

__all__ = ["Strength"]


class Strength:
    """The weights of the bottleneck's terms, step by step; plain numbers, the same on every process.

    Args:
        settings: the objective.
    """

    def __init__(self, settings: IBObjective) -> None:
        self._settings = settings
        self._step, self._num_steps = 0, 0
        self._controller: KLController | None = None
        self._controller_state: dict[str, Any] | None = None
        self._kl_sum = self._num_tokens = 0.0

    def move_to(self, step: int, num_steps: int) -> None:
        """Say which optimizer step this is, from 0, and of how many; 0 of 0 outside of training."""
        self._step, self._num_steps = step, num_steps
        settings = self._settings
        if settings.form == "controlled" and self._controller is None:
            self._controller = KLController(
                settings.alpha,
                settings.kl_target,
                settings.kl_gain_p,
                settings.kl_gain_i,
                warmup_steps=round(settings.warmup_share * num_steps),
            )
            if self._controller_state is not None:
                self._controller.load_state_dict(self._controller_state)

    @property
    def alpha(self) -> float:
        """The KL's weight."""
        if self._controller is not None:
            return self._controller.alpha
        return self._settings.alpha * ramp(self._step, self._num_steps, self._settings.warmup_share)

    @property
    def ce_weight(self) -> float:
        """The weight of the cross-entropy through the bottleneck; the controller leaves it alone."""
        alpha = self.alpha if self._controller is None else self._settings.alpha
        return alpha * self._settings.ce_share

    @property
    def target(self) -> float | None:
        """The controller's set point, nats a token; None without a controller, or before its first KL."""
        return None if self._controller is None else self._controller.target

    @property
    def replaced(self) -> float:
        """`in_path`'s share of h; 0 in other forms, and outside of training."""
        if self._settings.form != "in_path" or self._num_steps == 0:
            return 0.0
        return replaced_share(self._step, self._num_steps, self._settings.replaced, self._settings.warmup_share)

    @property
    def needs_kl(self) -> bool:
        """Whether `observe` has a use for the KL."""
        return self._settings.form == "controlled"

    def observe(self, kl_sum: float, num_tokens: float) -> None:
        """Add one forward of a training step: its KL in nats, summed over its labelled tokens on all processes."""
        self._kl_sum, self._num_tokens = self._kl_sum + kl_sum, self._num_tokens + num_tokens

    def end_step(self) -> None:
        """The optimizer step is made: the controller takes in its KL."""
        if self._controller is not None and self._num_tokens > 0:
            self._controller.update(self._kl_sum / self._num_tokens)
        self._kl_sum = self._num_tokens = 0.0

    def state_dict(self) -> dict[str, Any] | None:
        """The controller's state; None without one."""
        return None if self._controller is None else self._controller.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a saved state, at the next `move_to`."""
        self._controller, self._controller_state = None, state
