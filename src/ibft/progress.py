"""Progress bars for whatever takes over two seconds; silent unless the command line turns them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Task", "enable", "task"]

_enabled = False


def enable() -> None:
    """Show progress on the terminal from now on. Library use stays silent without this call."""
    global _enabled
    _enabled = True


class Task:
    """A running piece of work. `advance` moves the bar; `note` is shown behind it."""

    def __init__(self, progress: Progress | None = None, task_id: TaskID | None = None) -> None:
        self._progress, self._task_id = progress, task_id

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move the bar by `steps` units; `note` replaces the text behind it."""
        if self._progress is not None and self._task_id is not None:
            if note is None:
                self._progress.update(self._task_id, advance=steps)
            else:
                self._progress.update(self._task_id, advance=steps, note=note)


@contextmanager
def task(description: str, total: int | None, done: int = 0) -> Iterator[Task]:
    """Show a bar for `total` units of work, `done` of which an earlier run has already completed.

    `total=None` shows a spinner for work of unknown size, which leaves no line behind. On a terminal the bar is
    live; in a log file rich prints its final state only.
    """
    if not _enabled:
        yield Task()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=total is None,
    )
    with progress:
        task_id = progress.add_task(description, total=total, completed=done, note="")
        yield Task(progress, task_id)
