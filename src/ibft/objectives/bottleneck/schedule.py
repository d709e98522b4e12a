"""How strong the bottleneck is at each step of a training run: plain numbers, the same on every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibft.objectives.ib import IBObjective

__all__ = ["Schedule", "ramp"]


def ramp(step: int, num_steps: int, share: float) -> float:
    """Rise from 0 to 1 over the first `share` of `num_steps` optimizer steps; `step` counts from 0."""
    return min(1.0, (step + 1) / (share * num_steps)) if share * num_steps >= 1 else 1.0


class Schedule:
    """The weights of the bottleneck's terms, step by step: alpha rises over the warm-up, then stays.

    Args:
        settings: the objective.
    """

    target: float | None = None
    """The set point of the KL, nats per token; None without a controller, or before its first KL."""

    replaced: float = 0.0
    """The share of h that the next training forward replaces; 0 outside of training."""

    needs_kl = False
    """Whether `observe` uses the KL."""

    def __init__(self, settings: IBObjective) -> None:
        self.settings = settings
        self.step, self.num_steps = 0, 0

    def move_to(self, step: int, num_steps: int) -> None:
        """Set the optimizer step, from 0, and how many there are; 0 of 0 outside of training."""
        self.step, self.num_steps = step, num_steps

    @property
    def alpha(self) -> float:
        """The KL's weight."""
        return self.settings.alpha * ramp(self.step, self.num_steps, self.settings.warmup_share)

    @property
    def ce_weight(self) -> float:
        """The weight of the cross-entropy through the bottleneck."""
        return self.alpha * self.settings.ce_share

    def observe(self, kl_sum: float, num_tokens: float) -> None:
        """Add one forward of a training step: its KL in nats, summed over its labelled tokens on all processes."""

    def end_step(self) -> None:
        """Finish the optimizer step."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs beside the step; None for nothing."""
        return None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Resume from a saved state, at the next `move_to`."""
