"""The controller of `form: controlled`: it moves the KL's weight so that the KL stays at a set point."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["KLController"]

RANGE = 1e4
"""How far the weight may move from where it started, up and down: a KL that cannot be held must not end in inf."""


class KLController:
    """PI control of log(alpha) on the error log(KL / set point), after ControlVAE (arXiv 2004.05988).

    Its velocity form: log alpha += gain_p * (e - e_before) + gain_i * e. Deviations from ControlVAE: errors and
    weight are logarithms, so one pair of gains serves every model, layer and set point; and where the weight is at
    its limit it stays there without winding up.

    During the warm-up the set point moves from the KL of the first step to its end value, geometrically: a jump
    would make the KL the whole update, as in the `paper` form.

    Args:
        alpha: the weight to start from.
        target: the set point at the end of the warm-up, nats a token.
        gain_p: proportional gain.
        gain_i: integral gain, a step.
        warmup_steps: optimizer steps of the warm-up.
    """

    def __init__(self, alpha: float, target: float, gain_p: float, gain_i: float, warmup_steps: int) -> None:
        self.alpha = alpha
        self._start_alpha = alpha
        self._end_target = target
        self._gain_p, self._gain_i = gain_p, gain_i
        self._warmup_steps = warmup_steps
        self._num_steps = 0
        self._first_kl: float | None = None
        self._error = 0.0

    @property
    def target(self) -> float | None:
        """The set point at this step, nats a token; None before the first KL is known, from which it moves."""
        if self._warmup_steps == 0:
            return self._end_target
        return None if self._first_kl is None else self._moving_target(self._first_kl)

    def _moving_target(self, first_kl: float) -> float:
        share = min(1.0, self._num_steps / self._warmup_steps) if self._warmup_steps else 1.0
        return math.exp((1 - share) * math.log(first_kl) + share * math.log(self._end_target))

    def update(self, kl_per_token: float) -> None:
        """Take in the KL of the step that has just been made (nats a token, over all processes), and move alpha.

        A KL that is not finite, or of a step without labelled tokens (0), is passed over.
        """
        if not (math.isfinite(kl_per_token) and kl_per_token > 0):
            return
        if self._first_kl is None:
            self._first_kl = kl_per_token
            self._error = math.log(kl_per_token / self._moving_target(kl_per_token))
        self._num_steps += 1
        error = math.log(kl_per_token / self._moving_target(self._first_kl))
        change = self._gain_p * (error - self._error) + self._gain_i * error
        self._error = error
        self.alpha = min(max(self.alpha * math.exp(change), self._start_alpha / RANGE), self._start_alpha * RANGE)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain numbers."""
        return {
            "alpha": self.alpha,
            "num_steps": self._num_steps,
            "first_kl": self._first_kl,
            "error": self._error,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.alpha, self._num_steps = state["alpha"], state["num_steps"]
        self._first_kl, self._error = state["first_kl"], state["error"]
