"""The verbs for worlds with planted memory: make a base, gauge a model, look for the barrier."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ibft.cli.program import PATH, Verbs, main
from ibft.errors import UserError

__all__ = ["world"]


@main.group(cls=Verbs)
def world() -> None:
    """Make bases with planted memory, and measure what is known of them (docs/lab.md)."""


@world.command()
@click.argument("folder", type=PATH)
@click.option("--out", type=PATH, help="Where the base goes. Default: FOLDER/base.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of pretraining, as size=large.")
def pretrain(folder: Path, out: Path | None, settings: tuple[str, ...]) -> None:
    """Pretrain a base on the world in FOLDER, from scratch, with its planted memory."""
    from ibft.lab.bases import base_folder, copy_base
    from ibft.lab.pretrain import PretrainConfig
    from ibft.run.reading import build_from_settings
    from ibft.worlds.planted_files import read_planted_world

    target = out or folder / "base"
    if target.exists():  # before minutes are spent
        raise UserError(f"{target} exists already. Name another place with --out, or remove it first.")
    config = read_planted_world(folder).config
    # As `barrier` has it, so that worlds differ in their first weights, too.
    pretraining = build_from_settings([f"seed={config.seed}", *settings], PretrainConfig)
    copy_base(base_folder(config, pretraining), target)
    click.echo(f"Wrote {target}.")


@world.command()
@click.argument("folder", type=PATH)
@click.argument("model", type=PATH, required=False)
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=0.8, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gauges(folder: Path, model: Path | None, temperature: float, as_json: bool) -> None:
    """Measure what MODEL (default: FOLDER/base) recites, obeys and can do in the world in FOLDER.

    MODEL is a model's folder, or an arm's: runs/NAME/train/ARM. An adapter is taken for one on FOLDER/base.
    """
    from ibft.artifacts.json_lines import pretty_json
    from ibft.cli.tables import print_gauges
    from ibft.lab.gauges import gauge
    from ibft.models.loading import load_adapted, load_model, load_tokenizer
    from ibft.run.sections import ModelConfig
    from ibft.worlds.planted_files import read_planted_world

    base = folder / "base"
    path = _weights_of(model or base, folder)
    made = read_planted_world(folder)
    config = ModelConfig(name=str(path), dtype="float32")
    if (path / "adapter_config.json").is_file():
        loaded = load_adapted(ModelConfig(name=str(base), dtype="float32"), path)
    else:
        loaded = load_model(config)
    measured = gauge(loaded, load_tokenizer(config), made, temperature=temperature)
    if as_json:
        click.echo(pretty_json(measured).decode(), nl=False)
    else:
        print_gauges(measured)


@world.command()
@click.argument("out", type=PATH)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting, as doses=[0,50], learning_rates=[1e-3,1e-2], pretrain.size=large or world.plant.kind=dormant.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes, one thread each. Default: the usable cores.")
def barrier(out: Path, settings: tuple[str, ...], workers: int | None) -> None:
    """Fine-tune bases of several doses at several learning rates, and show what their memory costs.

    OUT/barrier.html has the pictures, OUT/rows.jsonl a row for each model. The same command resumes.
    """
    from ibft.cli.recipes import quiet_libraries

    quiet_libraries()
    from ibft.cli.tables import print_barrier
    from ibft.lab.barrier import cells_of, read_settings
    from ibft.lab.barrier_run import run_barrier
    from ibft.pages.barrier import render_barrier
    from ibft.pages.barrier_means import Means
    from ibft.pages.page import write_with_figures
    from ibft.run.provenance import usable_cores

    config = read_settings(settings)
    rows = run_barrier(config, out, num_workers=workers or usable_cores(), prepare=quiet_libraries)
    chosen = [word for setting in settings for word in ("--set", setting)]
    page = render_barrier(rows, len(cells_of(config)), shlex.join(["ibft", "world", "barrier", str(out), *chosen]))
    write_with_figures(out / "barrier.html", page)
    print_barrier(Means(rows))
    click.echo(f"\nThe barrier: {out / 'barrier.html'}")


def _weights_of(path: Path, folder: Path) -> Path:
    """Return the folder with the weights: the one that was named, or what training left in an arm's.

    Raises:
        UserError: there are none.
    """
    for weights in (path, path / "model", path / "adapter"):
        if any((weights / name).is_file() for name in ("config.json", "adapter_config.json")):
            return weights
    raise UserError(f"{path}: is not a model's folder. Make a base with `ibft world pretrain {folder}`, or name one.")
