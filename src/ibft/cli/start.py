"""The verbs for the start: a recipe to edit, a world to try things on, and what the machine has."""

from __future__ import annotations

from pathlib import Path

import click

from ibft.cli.program import PATH, main
from ibft.cli.terminal import open_console
from ibft.errors import UserError

__all__ = ["doctor", "init"]


@main.command()
@click.argument("path", type=PATH, required=False)
@click.option("--world", type=click.Choice(["chains", "planted"]), help="Also make a world (docs/worlds.md, lab.md).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="With --world: one of its settings.")
def init(path: Path | None, world: str | None, settings: tuple[str, ...]) -> None:
    """Write a commented starter recipe to PATH (default: recipe.yaml).

    With --world, PATH is a folder (default: the world's name) for data, problems and a recipe that trains and judges on
    them; or the recipe, and the rest goes into a folder of the same name beside it.
    """
    if world is not None:
        _init_world(world, path or Path(world), settings)
        return
    if settings:
        raise UserError(f"--set {settings[0]}: these are settings of a world. Add --world chains, or edit the recipe.")
    from importlib.resources import files

    path = path or Path("recipe.yaml")
    _write_new({path: files("ibft").joinpath("starter.yaml").read_bytes()})
    click.echo(f"Wrote {path}. Edit its data: and problems: sections, then `ibft run {path}`.")


def _init_world(world: str, path: Path, settings: tuple[str, ...]) -> None:
    from ibft.run.reading import build_from_settings
    from ibft.worlds.chains import ChainsConfig
    from ibft.worlds.files import world_files, world_recipe
    from ibft.worlds.planted import PlantedConfig
    from ibft.worlds.planted_files import planted_files

    is_recipe = path.suffix in (".yaml", ".yml")
    folder, recipe = (path.with_suffix(""), path) if is_recipe else (path, path / "recipe.yaml")
    if world == "planted":
        made, first = (
            planted_files(build_from_settings(settings, PlantedConfig)),
            f"`ibft world pretrain {folder}`, then ",
        )
    else:
        made, first = world_files(build_from_settings(settings, ChainsConfig)), ""
    contents = {folder / name: content for name, content in made.items()}
    _write_new({**contents, recipe: world_recipe(folder, world)})
    click.echo(f"Wrote {len(contents)} files to {folder}, and {recipe}. Then: {first}`ibft run {recipe}`.")


def _write_new(contents: dict[Path, bytes]) -> None:
    """Write files, and none of them where one exists already.

    Raises:
        UserError: one exists, or cannot be written.
    """
    from ibft.artifacts.json_lines import error_reason, write_atomically

    # All before the first is written: a world without one of its files is of no use.
    existing = [path for path in contents if path.exists()]
    if existing:
        raise UserError(f"{existing[0]} exists already. Name another place, or remove it first.")
    for path, content in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made ({error_reason(error)}). Name another place.") from None
        write_atomically(path, content)


@main.command()
def doctor() -> None:
    """Show what this machine has, and what is missing for which command."""
    from rich.table import Table
    from rich.text import Text

    from ibft.cli.doctor import check_machine

    table = Table("", "What", "Found", "Needed for", box=None, pad_edge=False)
    for check in check_machine():
        mark = Text("✓", "green") if check.found else Text("–", "yellow")
        table.add_row(mark, check.what, check.detail, check.needed_for)
    open_console().print(table)
