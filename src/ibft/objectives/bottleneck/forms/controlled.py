"""`controlled`: as `corrected`, and a controller moves the KL's weight so that the KL stays at a set point."""

from __future__ import annotations

import math
from typing import Any

from ibft.objectives.bottleneck.form import NO_HEAD
from ibft.objectives.bottleneck.forms.corrected import Corrected
from ibft.objectives.bottleneck.schedule import Schedule

__all__ = ["Controlled", "KLController"]

RANGE = 1e4
"""How far the weight may move from its start, up and down: a KL that cannot be held must not end in inf."""


class KLController:
    """PI control of log(alpha) on the error log(KL / set point), after ControlVAE (arXiv 2004.05988).

    Its velocity form: log alpha += gain_p * (e - e_before) + gain_i * e. Deviation from ControlVAE: errors and weight
    are logarithms, so one pair of gains serves every model, layer and set point.

    During the warm-up the set point moves from the KL of the first step to its end value, geometrically.

    Args:
        alpha: the weight to start from.
        target: the set point at the end of the warm-up, nats per token.
        gain_p: proportional gain.
        gain_i: integral gain, per step.
        warmup_steps: optimizer steps of the warm-up.
    """

    def __init__(self, alpha: float, target: float, gain_p: float, gain_i: float, warmup_steps: int) -> None:
        self.alpha = self._start_alpha = alpha
        self._end_target, self._gain_p, self._gain_i, self._warmup_steps = target, gain_p, gain_i, warmup_steps
        self._num_steps, self._error = 0, 0.0
        self._first_kl: float | None = None

    @property
    def target(self) -> float | None:
        """The set point at this step, nats per token; None before the first KL is known, from which it moves."""
        if self._warmup_steps == 0:
            return self._end_target
        return None if self._first_kl is None else self._moving_target(self._first_kl)

    def _moving_target(self, first_kl: float) -> float:
        # A jump would make the KL the whole update, as in the `paper` form.
        share = min(1.0, self._num_steps / self._warmup_steps) if self._warmup_steps else 1.0
        return math.exp((1 - share) * math.log(first_kl) + share * math.log(self._end_target))

    def update(self, kl_per_token: float) -> None:
        """Take in the KL of the step that has just been made (nats per token, over all processes), and move alpha.

        A KL that is not finite, or that is 0 since the step had no labelled token, is ignored.
        """
        if not (math.isfinite(kl_per_token) and kl_per_token > 0):
            return
        if self._first_kl is None:
            self._first_kl = kl_per_token
            self._error = math.log(kl_per_token / self._moving_target(kl_per_token))
        self._num_steps += 1
        error = math.log(kl_per_token / self._moving_target(self._first_kl))
        # The velocity form: at its limit the weight stays without winding up.
        change = self._gain_p * (error - self._error) + self._gain_i * error
        self._error = error
        self.alpha = min(max(self.alpha * math.exp(change), self._start_alpha / RANGE), self._start_alpha * RANGE)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as plain numbers."""
        return {
            "alpha": self.alpha,
            "num_steps": self._num_steps,
            "first_kl": self._first_kl,
            "error": self._error,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state."""
        self.alpha, self._num_steps = state["alpha"], state["num_steps"]
        self._first_kl, self._error = state["first_kl"], state["error"]


class ControlledSchedule(Schedule):
    """The controller's weight of the KL, which it moves once per optimizer step; the other CE's weight stays."""

    needs_kl = True

    _controller: KLController | None = None
    _state: dict[str, Any] | None = None
    _kl_sum = _num_tokens = 0.0

    def move_to(self, step: int, num_steps: int) -> None:
        """Set the step."""
        super().move_to(step, num_steps)
        # Not earlier: its warm-up depends on num_steps.
        if self._controller is None:
            settings = self.settings
            warmup_steps = round(settings.warmup_share * num_steps)
            self._controller = KLController(
                settings.alpha, settings.kl_target, settings.kl_gain_p, settings.kl_gain_i, warmup_steps
            )
            if self._state is not None:
                self._controller.load_state_dict(self._state)

    @property
    def alpha(self) -> float:
        """The KL's weight."""
        return self.settings.alpha if self._controller is None else self._controller.alpha

    @property
    def ce_weight(self) -> float:
        """The weight of the cross-entropy through the bottleneck, which the controller leaves alone."""
        return self.settings.alpha * self.settings.ce_share

    @property
    def target(self) -> float | None:  # type: ignore[override]
        """The set point, nats per token; None before the first KL."""
        return None if self._controller is None else self._controller.target

    def observe(self, kl_sum: float, num_tokens: float) -> None:
        """Add one forward of a training step."""
        self._kl_sum, self._num_tokens = self._kl_sum + kl_sum, self._num_tokens + num_tokens

    def end_step(self) -> None:
        """Finish the optimizer step: the controller takes in its KL."""
        if self._controller is not None and self._num_tokens > 0:
            self._controller.update(self._kl_sum / self._num_tokens)
        self._kl_sum = self._num_tokens = 0.0

    def state_dict(self) -> dict[str, Any] | None:
        """Return the controller's state; None before the first step."""
        return None if self._controller is None else self._controller.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Resume from a saved state, at the next `move_to`."""
        self._controller, self._state = None, state


class Controlled(Corrected):
    """As `corrected`; a PI controller moves the KL's weight so that the KL stays at `kl_target`."""

    name = "controlled"
    place = 2
    reads = "as `corrected`"
    compresses = "as `corrected`, held at `kl_target` nats per token"
    differs = "a PI controller moves the KL's weight; the weight of the second CE stays alpha × beta, beta 1"
    uses = Corrected.uses | {"kl_target", "kl_gain_p", "kl_gain_i"}
    default_beta = 1.0  # its KL needs no small weight beside it to stay open
    # Then, with gains of 5 and 0.3, the KL was within 10% of a set point of 30 in 97% of 120 steps (docs/method.md).
    default_warmup = 0.25
    overload_remedy = "a larger kl_target, or a longer warmup"
    closed_remedy = f"a larger kl_target, free_bits, or {NO_HEAD}"
    weak_remedy = f"a smaller kl_target, or {NO_HEAD}"

    def schedule(self) -> Schedule:
        """Make the controller."""
        return ControlledSchedule(self.settings)

    def schedule_gauges(self, schedule: Schedule, replaced: float) -> dict[str, float]:
        """Add `ib/kl_target`, once there is a set point."""
        target = {} if schedule.target is None else {"ib/kl_target": schedule.target}
        return super().schedule_gauges(schedule, replaced) | target
