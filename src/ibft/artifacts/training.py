"""The results of an arm's training besides its weights: its log (`rows.TrainingLog`), its summary, its alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ibft.artifacts.summaries import read_summary

__all__ = ["Alarm", "HeldOut", "RoutedExperts", "TrainingSummary", "read_training_summary", "train_again"]


RoutedExperts = Literal["adapted", "frozen"]
"""Whether the routed experts of a mixture have LoRA."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of an arm's bottleneck, its optimizer steps, and (`message`) what to do about it.

    overload: the bottleneck's gradient dwarfs the cross-entropy's. collapse: it does not act on the model.
    """

    kind: Literal["overload", "collapse"]
    first_step: int
    last_step: int
    message: str


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """An arm's validation data, and what it decided.

    `tokens` are those whose cross-entropy is measured. `groups` are held out, `groups_trained` are not, where a share
    of the training data is (None for a source of its own). `best_loss`, in nats per token, is the lowest of all
    evaluations (None where none was finite), at the step `best_step`; `kept_step` is the step of the weights.
    """

    examples: int
    tokens: int
    groups: int | None = None
    groups_trained: int | None = None
    best_step: int | None = None
    best_loss: float | None = None
    kept_step: int | None = None


class TrainingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One arm's training in numbers (`train/<arm>/summary.json`); what an older run did not write is None, or empty.

    `examples` and `tokens` count the data that is left after `skipped` (reason to number), prompts included;
    `steps` are optimizer steps, each of `train.batch_size` examples times `train.gradient_accumulation` times
    `processes`; `seconds` sum over interrupted attempts; `peak_memory_mib` is the main process's;
    `trainable_parameters` include the bottleneck's head; `batching` is what `auto` stood for; `final_loss` is the last
    logged value (an average over `train.log_every` steps); `alarms` are those of the whole log; `stopped` says why
    training ended: all steps were made, or the held-out loss no longer fell; `routed_experts` says whether LoRA is on
    them, None where there are none or all weights are trained.
    """

    objective: str | None = None
    steps: int | None = None
    processes: int = 1
    examples: int | None = None
    tokens: int | None = None
    skipped: dict[str, int] = {}
    seconds: float | None = None
    peak_memory_mib: float | None = None
    trainable_parameters: int | None = None
    batching: str | None = None
    final_loss: float | None = None
    alarms: list[Alarm] = []
    held_out: HeldOut | None = None
    stopped: Literal["all steps", "early stopping"] | None = None
    routed_experts: RoutedExperts | None = None


def read_training_summary(folder: Path) -> TrainingSummary | None:
    """Read the summary in `train/<arm>`; None if there is none, which the pages do without.

    Raises:
        UserError: it is damaged.
    """
    # The folder holds the weights: to remove all of it would throw the training away.
    remedy = "Remove this file alone: the weights beside it are whole, and a report does without it."
    return read_summary(folder / "summary.json", TrainingSummary, remedy)


def train_again(folder: Path) -> str:
    """Say how `train/<arm>` is made again: as long as it is complete, and its inputs the same, the stage is skipped."""
    return f"Remove the folder {folder}, then run `ibft train RECIPE`."
