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

_LOADING = (*_SHARED, "run", "generate")
"""The verbs that load the model, or its tokenizer at least."""


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

    verb = click.get_current_context().info_name
    if num_processes() > 1 and verb not in _SHARED:
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
    if verb in _LOADING:
        resolved = _choose_template(resolved, is_shown=is_main_process())
    else:
        resolved = _with_recorded_template(resolved)
    return RunFolder(resolved, overwrite=overwrite).open()


def _choose_template(recipe: Recipe, *, is_shown: bool) -> Recipe:
    """Return the recipe with the template that `auto` stands for, and say which it is."""
    from ibft.text.choice import resolve_prompt

    is_auto = recipe.prompt.template == "auto"
    if is_auto:
        quiet_libraries()
    resolved = resolve_prompt(recipe)
    if is_shown:
        origin = " (prompt.template: auto)" if is_auto else ""
        click.echo(f"Prompt template: {resolved.prompt.template}{origin}", err=True)
    return resolved


def _with_recorded_template(recipe: Recipe) -> Recipe:
    """Return the recipe with the template that its run was made with in the place of `auto`; no tokenizer is needed."""
    import msgspec

    from ibft.recipe import load_recipe

    path = Path(recipe.output) / recipe.name / "recipe.yaml"
    if recipe.prompt.template != "auto" or not path.is_file():
        return recipe
    prompt = msgspec.structs.replace(recipe.prompt, template=load_recipe(path).prompt.template)
    return msgspec.structs.replace(recipe, prompt=prompt)


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
