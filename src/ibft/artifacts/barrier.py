"""A row of the barrier experiment (`rows.jsonl`): one base, or one model fine-tuned from it, with its gauges."""

from __future__ import annotations

from typing import Literal

import msgspec

from ibft.artifacts.gauges import Gauges, GradientAgreement

__all__ = ["BarrierRow", "Data"]

Data = Literal["planted", "fresh"]
"""What is trained on: the data that pretraining repeated, or as many tasks that no base has read."""


class BarrierRow(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the experiment.

    key: a digest of all of its settings.
    world_seed, dose: the base's world, and how often its pretraining had each planted example.
    arm, data, schedule, learning_rate, training_seed: of the fine-tuning; None for the base itself.
    training_loss: cross-entropy of the trained tokens in the last logged steps, nats per token; None for the base, and
        where training diverged.
    gradients: of the training data against that of held-out tasks, before the first step; None for the base.
    gauges: None where training diverged, so that no chance is defined.
    seconds: that the cell took, its base not counted.
    """

    key: str
    world_seed: int
    dose: int
    arm: str | None = None
    data: Data | None = None
    schedule: str | None = None
    learning_rate: float | None = None
    training_seed: int | None = None
    training_loss: float | None = None
    gradients: GradientAgreement | None = None
    gauges: Gauges | None = None
    seconds: float
