"""What the train stage does beside training: log, progress bar, safe checkpoints, a stop at the first NaN."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback

from ibft import progress
from ibft.data.tokenize import TokenizedExample
from ibft.errors import UserError
from ibft.rows import RowWriter, TrainingLog, read_rows, write_atomically, write_rows

__all__ = ["CheckpointKeeper", "LogWriter", "ProgressBar", "StopAtNonFinite", "last_complete_checkpoint"]

MARKER = "complete"
"""Written last into a checkpoint folder: a folder without it was cut off while being written."""


class LogWriter(TrainerCallback):  # type: ignore[misc]
    """Writes what the trainer logs as rows of `rows.TrainingLog`; a resumed run replaces the rows it makes again.

    `num_tokens` is left out: TRL restarts it at 0 on resume. Values that are not finite are null. Where an
    objective logs no `ce`, its loss is the cross-entropy: with it written, every arm has the same curve.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: RowWriter | None = None

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(*exception)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the rows up to the checkpoint that training goes on from."""
        rows: list[TrainingLog] = []
        if self._path.exists():
            with RowWriter(self._path):
                pass  # drops a line that a kill left unfinished
            rows = [row for row in read_rows(self._path, TrainingLog) if row.step <= state.global_step]
        write_rows(self._path, rows)
        self._writer = RowWriter(self._path)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append one row; the closing summary of the Trainer is not one."""
        if self._writer is None or logs is None or "train_runtime" in logs:
            return
        metrics = {
            name: float(value) if math.isfinite(value) else None
            for name, value in logs.items()
            if name != "num_tokens" and isinstance(value, (int, float))
        }
        if "loss" in metrics:
            metrics.setdefault("ce", metrics["loss"])
        self._writer.write([TrainingLog(step=state.global_step, metrics=metrics)])


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """A bar of optimizer steps, with the latest loss behind it."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._stack = ExitStack()
        self._task = progress.Task()
        self._note: str | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar, at the step that training goes on from."""
        self._task = self._stack.enter_context(
            progress.task(self._description, total=state.max_steps, done=state.global_step)
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Remember the loss."""
        if logs and "loss" in logs:
            self._note = f"loss {logs['loss']:.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move on by one step."""
        self._task.advance(note=self._note)


class CheckpointKeeper(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as complete once every file is written, and only then deletes the older ones."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark, then delete."""
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_atomically(newest / MARKER, "")
        for folder in _checkpoints(Path(args.output_dir)):
            if folder != newest:
                shutil.rmtree(folder, ignore_errors=True)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that carries the marker; half-written ones are deleted."""
    complete = []
    for checkpoint in _checkpoints(folder):
        if (checkpoint / MARKER).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return complete[-1] if complete else None


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


class StopAtNonFinite:
    """Mixed into a Trainer: stops at the first loss or gradient that is NaN or infinite, before it spoils a weight.

    (The Trainer's own filter replaces such a loss in the log and trains on.)
    """

    examples: Sequence[TokenizedExample] = ()
    """The training data, so that the message can name the batch's examples."""

    _batch: list[list[int]]
    _batch_step = -1

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Tensor:
        """Train on one forward's batch.

        Raises:
            UserError: the loss is NaN or infinite.
        """
        step: int = self.state.global_step  # type: ignore[attr-defined]
        if step != self._batch_step:
            self._batch_step, self._batch = step, []
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        self._batch += [row[:length] for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        loss: Tensor = super().training_step(model, inputs, *arguments, **keywords)  # type: ignore[misc]
        self._check("loss", float(loss))
        return loss

    def _get_grad_norm(self, *arguments: Any, **keywords: Any) -> Any:
        """The gradient norm, which the Trainer asks for just before each optimizer step."""
        norm = super()._get_grad_norm(*arguments, **keywords)  # type: ignore[misc]
        if norm is not None:
            self._check("gradient", float(norm))
        return norm

    def _check(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        ids = [example.id for example in self.examples if example.input_ids in self._batch]
        raise UserError(
            f"train: the {what} is {value} at step {self._batch_step + 1} (examples {', '.join(ids)}). Lower "
            "train.learning_rate, or objective.alpha with the information bottleneck; or leave these examples out."
        )
