"""How held-out data reaches the trainer: when it is evaluated, when training stops, which weights are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
from transformers import EarlyStoppingCallback

from ibft.data.tokens import TokenizedExample
from ibft.run.processes import num_processes
from ibft.run.sections import TrainConfig
from ibft.training.compression import COLUMN

__all__ = ["StopEarly", "evaluation_arguments", "held_out_dataset"]


def evaluation_arguments(config: TrainConfig, num_examples: int) -> dict[str, Any]:
    """Return TRL's arguments for evaluating on held-out data.

    Args:
        config: the recipe's section.
        num_examples: examples that are trained.
    """
    num_batches = math.ceil(num_examples / (config.batch_size * num_processes()))
    return {
        # An epoch's end in steps: transformers' own `epoch` evaluates after the last step's checkpoint was saved, so a
        # run that is killed between the two and resumed would never make that evaluation.
        "eval_strategy": "steps",
        "eval_steps": config.evaluate_every or math.ceil(num_batches / config.gradient_accumulation),
        "per_device_eval_batch_size": config.batch_size,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
    }


def held_out_dataset(validation: Sequence[TokenizedExample], *, is_weighed: bool) -> datasets.Dataset:
    """Return the held-out examples as the trainer reads them, the longest first, so that batches have little padding.

    Args:
        validation: the examples, in the order of the data.
        is_weighed: give each a compression weight, which the collator asks for and evaluation does not read.
    """
    # By the tokens too, so that batches, and with them the last digits of the loss, do not depend on the data's order.
    ordered = sorted(validation, key=lambda example: (-len(example.input_ids), example.input_ids))
    columns: dict[str, Any] = {
        "input_ids": [example.input_ids for example in ordered],
        "labels": [example.labels for example in ordered],
    }
    return datasets.Dataset.from_dict(columns | ({COLUMN: [1.0] * len(ordered)} if is_weighed else {}))


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """Transformers' early stopping, which a resumed run continues where it was."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the evaluations since the best one, which a resumed run has in its log."""
        # Transformers' `restore_callback_states_from_checkpoint` would move this callback behind those that have to
        # know that training stops.
        best = state.best_global_step or 0
        self.early_stopping_patience_counter = sum(
            "eval_loss" in entry and entry["step"] > best for entry in state.log_history
        )
