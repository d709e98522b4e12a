"""What every verb on a recipe needs: its arguments, and the run folder that they name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.recipe import Recipe
    from ibft.runs import RunFolder

__all__ = ["open_run", "quiet_libraries", "recipe_command"]

_SHARED = ("scan", "train", "rescan")
"""The verbs whose work several processes share."""


def recipe_command(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments that every verb on a recipe takes."""
    for decorator in (
        click.option("--overwrite", is_flag=True, help="Make stages again that were made from a different recipe."),
        click.option("--full", is_flag=True, help="Evaluate all problems (drops problems.limit)."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one recipe key."),
        click.argument("recipe", type=click.Path(path_type=Path)),
    ):
        function = decorator(function)
    return function


def open_run(
    recipe: Path, overrides: tuple[str, ...], full: bool, overwrite: bool
) -> AbstractContextManager[RunFolder]:
    """The run folder of a recipe, locked, with the options of `recipe_command`; turns the progress bars on.

    Raises:
        UserError: the recipe cannot be read, or a verb that does not share its work was started in several processes.
    """
    from ibft import progress
    from ibft.recipe import load_recipe
    from ibft.runs import RunFolder, is_main_process, num_processes

    if num_processes() > 1 and (verb := click.get_current_context().info_name) not in _SHARED:
        raise UserError(
            f"ibft {verb} was started in {num_processes()} processes: only ibft {', '.join(_SHARED)} work in several. "
            f"Use the launcher for these, then run `ibft {verb}` without it."
        )
    if is_main_process():
        progress.enable()
    resolved = load_recipe(recipe, overrides, full=full)
    # Only a recipe with a gpu: section has to ask, and asking loads PyTorch.
    if resolved.gpu and _gpu_is_used(resolved):
        resolved = load_recipe(recipe, overrides, full=full, use_gpu_overrides=True)
    return RunFolder(resolved, overwrite=overwrite).open()


def _gpu_is_used(recipe: Recipe) -> bool:
    from ibft.models import has_gpu

    return recipe.model.device.startswith("cuda") or (recipe.model.device == "auto" and has_gpu())


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal: our bars and errors say what a user needs."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL and the hub would send usage data
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        import datasets
        import transformers
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed: this stage needs it. Run `pip install 'ibft[train]'`."
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("torch.distributed", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
