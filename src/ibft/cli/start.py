"""The verbs for the start: a recipe to edit, and what the machine has."""

from __future__ import annotations

from pathlib import Path

import click

from ibft.cli.program import main
from ibft.errors import UserError

__all__ = ["doctor", "init"]


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
def init(path: Path) -> None:
    """Write a commented starter recipe to PATH (default: recipe.yaml)."""
    if path.exists():
        raise UserError(f"{path} exists already. Name another file, or remove it first.")
    from importlib.resources import files

    from ibft.rows import write_atomically

    write_atomically(path, files("ibft").joinpath("starter.yaml").read_bytes())
    click.echo(f"Wrote {path}. Edit its data: and problems: sections, then `ibft run {path}`.")


@main.command()
def doctor() -> None:
    """Say what this machine has, and what is missing for what."""
    from rich.console import Console
    from rich.table import Table

    from ibft.doctor import check_machine

    table = Table("", "What", "Found", "Needed for", box=None, pad_edge=False)
    for check in check_machine():
        table.add_row("[green]✓[/]" if check.found else "[yellow]–[/]", check.what, check.detail, check.needed_for)
    Console().print(table)
