"""The verbs for what leaves the run folder: export, scale."""

from __future__ import annotations

from pathlib import Path

import click

from ibft.cli.program import PATH, main
from ibft.cli.recipes import open_run, quiet_libraries, recipe_command
from ibft.errors import UserError

__all__ = ["export", "scale"]


@main.command()
@recipe_command()
@click.option("--arm", required=True, help="Which of the recipe's arms.")
@click.option("--out", type=PATH, required=True, help="Folder to make.")
@click.option("--merge", is_flag=True, help="The whole model with the adapter merged into it, not the adapter.")
@click.option("--push", "repo_id", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub, too.")
@click.option("--private", is_flag=True, help="With --push: where the repository is new, make it a private one.")
def export(
    recipe: Path, arm: str, out: Path, merge: bool, repo_id: str | None, private: bool, overrides: tuple[str, ...]
) -> None:
    """Copy a trained arm of RECIPE out of its run, with a model card that has its scores."""
    if private and repo_id is None:
        raise UserError("--private goes with --push OWNER/NAME.")
    from ibft.stages.export import check_push, push
    from ibft.stages.export import export as export_arm

    # A plain copy needs none of them.
    if merge or repo_id is not None:
        quiet_libraries()
    if repo_id is not None:
        check_push(repo_id)  # before the weights are copied or merged
    # Locked while they are copied: nobody may make them again meanwhile.
    with open_run(recipe, overrides, reads=[f"train/{arm}", f"judge/{arm}"]) as run:
        scores = export_arm(run.recipe, run, arm, out, merge=merge)
    click.echo(f"Wrote {out}." + (f" Scores in its card: {scores}" if isinstance(scores, str) else ""))
    if repo_id is not None:
        click.echo(f"Uploaded to {push(out, repo_id, private=private)}")


@main.command()
@click.argument("adapter", type=click.Path(path_type=Path, file_okay=False))
@click.option("--lambda", "factor", type=float, required=True, help="0: the base model; 1: as trained; above: beyond.")
@click.option("--out", type=PATH, required=True, help="Folder to make.")
def scale(adapter: Path, factor: float, out: Path) -> None:
    """Interpolate between base and fine-tuned model: write the LoRA in ADAPTER with its update times --lambda.

    This is WiSE-FT (arXiv 2109.01903) for adapters. The result is an ordinary adapter; judge it before you use it.
    """
    from ibft.models.scale import scale_adapter

    scale_adapter(adapter, factor, out)
    click.echo(f"Wrote {out}: {adapter} with its update times {factor:g}.")
