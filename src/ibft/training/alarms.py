"""The alarms of one arm: `metrics.alarms` with what the arm's objective says."""

from __future__ import annotations

from collections.abc import Sequence

from ibft.artifacts.rows import TrainingLog
from ibft.findings.alarms import Alarm, find_alarms
from ibft.run.objectives import IBObjective, Objective

__all__ = ["arm_alarms"]


def arm_alarms(objective: Objective, rows: Sequence[TrainingLog], num_steps: int) -> list[Alarm]:
    """Overload and collapse in an arm's log so far; none for objectives without a bottleneck.

    Args:
        objective: the arm's.
        rows: its log.
        num_steps: optimizer steps of the whole training, which the warm-up is a share of.
    """
    if not isinstance(objective, IBObjective):
        return []
    return find_alarms(
        rows,
        bottleneck_dim=objective.bottleneck_dim,
        form=objective.form,
        warmup_steps=round(objective.warmup_share * num_steps),
    )
