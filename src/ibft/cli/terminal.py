"""The terminal. What is printed is data and never markup: a task id or a remedy may have brackets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["figures_table", "open_console", "with_detail"]


def open_console() -> Console:
    """Return standard output, which shows every text as it is."""
    from rich.console import Console

    # Markup would swallow the brackets of `pip install 'ibft[train]'`, and highlighting would color the numbers in
    # names and sentences.
    return Console(markup=False, highlight=False)


def figures_table(label: str, *titles: str) -> Table:
    """Return a table without lines: labels on the left of their column, figures on the right of theirs."""
    from rich.table import Column, Table

    return Table(Column(label), *(Column(title, justify="right") for title in titles), box=None, pad_edge=False)


def with_detail(text: str, detail: str) -> Text:
    """Return a table's cell: a figure, and what belongs to it in a weaker color."""
    from rich.text import Text

    return Text.assemble(text, (f" {detail}" if detail else "", "dim"))
