"""What the train stage does beside training: log, progress bar, alarms, safe checkpoints."""

from __future__ import annotations

import math
import re
import shutil
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from ibft import progress
from ibft.artifacts.json_lines import RowWriter, read_rows, write_atomically, write_rows
from ibft.artifacts.rows import TrainingLog
from ibft.errors import UserError
from ibft.objectives.alarms import MIN_ROWS, alarm_title
from ibft.objectives.base import Objective
from ibft.run.processes import is_main_process, num_processes

__all__ = ["AlarmBell", "CheckpointKeeper", "LogWriter", "ProgressBar", "last_complete_checkpoint"]

MARKER = "complete"
"""Written last into a checkpoint folder: without it, writing was interrupted."""

_UNREPEATABLE = ("num_tokens", "_runtime", "_per_second", "_preparation_time")
"""Ends of metrics that are not logged: a resumed run has other times, and TRL restarts num_tokens at 0."""


class LogWriter(TrainerCallback):  # type: ignore[misc]
    """Writes what the trainer logs as rows of `rows.TrainingLog`; a resumed run replaces the rows it makes again.

    Values that are not finite are null.

    Args:
        path: the log's.
        stack: closes it.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path, self._stack = path, stack

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the rows up to the checkpoint that training resumes from."""
        rows: list[TrainingLog] = []
        if self._path.exists():
            with RowWriter(self._path):
                pass  # drops a line that a kill left unfinished
            rows = [row for row in read_rows(self._path, TrainingLog) if row.step <= state.global_step]
        write_rows(self._path, rows)
        self._writer = self._stack.enter_context(RowWriter(self._path))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """Append one row; the closing summary of the Trainer is not one."""
        if "train_runtime" in logs:
            return
        row = _log_row(state.global_step, logs)
        if "loss" in row.metrics:
            # An objective without `ce` has the cross-entropy as its loss; written, every arm has the same curve.
            row.metrics.setdefault("ce", row.metrics["loss"])
        self._writer.write([row])


def _log_row(step: int, logs: dict[str, Any]) -> TrainingLog:
    return TrainingLog(
        step=step,
        metrics={
            name: float(value) if math.isfinite(value) else None
            for name, value in logs.items()
            if not name.endswith(_UNREPEATABLE) and isinstance(value, (int, float))
        },
    )


class AlarmBell(TrainerCallback):  # type: ignore[misc]
    """Says the objective's alarms in the terminal, each once, when first seen."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._rows: deque[TrainingLog] = deque(maxlen=MIN_ROWS)  # an alarm shows first in the latest MIN_ROWS

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """Look for alarms in the latest rows."""
        # Rows of an evaluation and the Trainer's summary have no `loss`.
        if "loss" not in logs:
            return
        self._rows.append(_log_row(state.global_step, logs))
        if len(self._rows) == MIN_ROWS:
            for alarm in self._objective.alarms(list(self._rows), state.max_steps):
                progress.warn(alarm_title(self._objective.arm, alarm), alarm.message)


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """A bar of optimizer steps, with the latest loss behind it; `stack` closes it."""

    _note: str | None = None

    def __init__(self, description: str, stack: ExitStack) -> None:
        self._description, self._stack = description, stack

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar, at the step that training resumes from."""
        self._task = self._stack.enter_context(
            progress.task(self._description, total=state.max_steps, done=state.global_step)
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """Remember the loss."""
        if "loss" in logs:
            self._note = f"loss {logs['loss']:.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance by one step."""
        self._task.advance(note=self._note)


class CheckpointKeeper(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint as complete once every process has written its files, and only then deletes the older ones.

    The best one stays where it will be loaded at the end. Every process needs a keeper, behind what may end training.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Find the best checkpoint again where the run's folder was moved: transformers forgets a path that is gone."""
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if best.is_dir():
            state.best_model_checkpoint = str(best)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log wherever a checkpoint is saved, and save none after the last step."""
        if control.should_save:
            # No checkpoint holds what a log's averages have gathered so far: a resumed run would lose it.
            control.should_log = True
            # Resumed from a checkpoint of the last step, the Trainer would make one step too many.
            control.should_save = state.global_step < state.max_steps
        if control.should_evaluate and args.load_best_model_at_end:
            control.should_log = True  # it may become a checkpoint

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Save a checkpoint of the best step, if it is to be kept, and none where training stops."""
        best = math.inf if state.best_metric is None else state.best_metric
        if args.load_best_model_at_end and metrics["eval_loss"] < best:
            control.should_save = True
        if control.should_training_stop:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as complete, then delete the older ones."""
        PartialState().wait_for_everyone()  # each process writes its own random states
        if not is_main_process():
            return
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_atomically(newest / MARKER, f"{num_processes()} processes\n")
        kept = {newest}
        if args.load_best_model_at_end:
            kept.add(newest.with_name(f"checkpoint-{state.best_global_step}"))
        for folder in _checkpoints(Path(args.output_dir)):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Return the latest checkpoint with the marker; delete half-written ones.

    Raises:
        UserError: it was written by another number of processes, so that batches and data order would change.
    """
    complete = []
    for checkpoint in _checkpoints(folder):
        if (checkpoint / MARKER).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    if not complete:
        return None
    before = (complete[-1] / MARKER).read_text().split()[0]
    if before != str(num_processes()):
        raise UserError(
            f"{complete[-1]} was written by {before} processes, and {num_processes()} would resume from it with other "
            f"batches. Start {before}, or delete {folder.parent} to start again."
        )
    return complete[-1]


def _checkpoints(folder: Path) -> list[Path]:
    checkpoints = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-")))
