"""Progress bars for whatever takes over two seconds; silent unless the command line turns them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["Task", "enable", "say", "task", "warn"]

_enabled = False
_bar_console: Console | None = None
"""Where the innermost running bar is drawn: whatever else is printed there appears above it."""
_warned: set[str] = set()


def enable() -> None:
    """Show progress on the terminal from now on. Library use stays silent without this call."""
    global _enabled
    _enabled = True
    _warned.clear()


def warn(title: str, text: str) -> None:
    """Print a paragraph that must not be missed, above the running bar if there is one; once per title."""
    if not _enabled or title in _warned:
        return
    _warned.add(title)
    from rich.console import Console
    from rich.text import Text

    (_bar_console or Console(stderr=True)).print(Text.assemble((f"{title}: ", "bold yellow"), text))


def say(text: str) -> None:
    """Print a line above the running bar if there is one."""
    if not _enabled:
        return
    from rich.console import Console
    from rich.text import Text

    (_bar_console or Console(stderr=True)).print(Text(text))


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
    live; a log file gets its final state only.
    """
    if not _enabled:
        yield Task()
        return
    from rich import progress as rich_progress
    from rich.console import Console

    progress = rich_progress.Progress(
        rich_progress.SpinnerColumn(finished_text="[green]✓[/green]"),
        rich_progress.TextColumn("{task.description:<28}"),
        rich_progress.BarColumn(bar_width=30),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),  # what a verb prints on standard output can then be piped
        transient=total is None,
    )
    global _bar_console
    # Bars may be nested: after the inner one, warnings appear above the outer one again.
    outer, _bar_console = _bar_console, progress.console
    try:
        with progress:
            task_id = progress.add_task(description, total=total, completed=done, note="")
            yield Task(progress, task_id)
    finally:
        _bar_console = outer
