"""Give every verb on a recipe what it needs: its arguments, and the run folder that they name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ibft import progress
from ibft.cli.program import PATH
from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.run.folder import RunFolder
    from ibft.run.recipe import Recipe

__all__ = ["open_run", "quiet_libraries", "read_recipe", "recipe_command"]

_OPTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "overwrite": ("--overwrite", "Replace what was made from a different recipe.", {"is_flag": True}),
    "full": ("--full", "Take all problems, whatever problems.limit is.", {"is_flag": True}),
    "arms": ("--arm", "This arm alone. May be repeated.", {"multiple": True, "metavar": "ARM"}),
    "overrides": ("--set", "Override one recipe key.", {"multiple": True, "metavar": "KEY=VALUE"}),
}
"""Parameter to flag, help, and how Click reads it."""


def recipe_command(*options: str, is_optional: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the arguments of a verb on a recipe.

    Args:
        options: those of `_OPTIONS` that the verb has a use for, besides `--set`.
        is_optional: the verb also works without a recipe.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for name in (*options, "overrides"):
            flag, text, settings = _OPTIONS[name]
            text = f"With RECIPE: {text[0].lower()}{text[1:]}" if is_optional else text
            function = click.option(flag, name, help=text, **settings)(function)
        return click.argument("recipe", type=PATH, required=not is_optional)(function)

    return decorate


@contextlib.contextmanager
def open_run(
    recipe: Path,
    overrides: tuple[str, ...],
    full: bool = False,
    overwrite: bool = False,
    arms: tuple[str, ...] = (),
    *,
    stages: Sequence[str] = (),
    reads: Sequence[str] = (),
) -> Iterator[RunFolder]:
    """Open the run folder of a recipe, with the options of `recipe_command`; turn the progress bars on.

    Args:
        recipe: the file.
        overrides: of `--set`.
        full: of `--full`.
        overwrite: of `--overwrite`.
        arms: of `--arm`.
        stages: those that the command runs, in their order, which are locked. What they would be refused for is found
            out here.
        reads: further folders of the run that are read, and that nobody may make meanwhile.

    Raises:
        UserError: the recipe cannot be read, a verb that does not share its work was started in several processes,
            or a stage would be refused.
    """
    from ibft.run.folder import RunFolder
    from ibft.run.processes import is_main_process, num_processes
    from ibft.run.steps import parts_of, steps_that

    # All processes would do the same work, and write the same files.
    sharing = steps_that("shares_work")
    if num_processes() > 1 and (verb := click.get_current_context().info_name) not in sharing:
        raise UserError(
            f"ibft {verb} was started in {num_processes()} processes: only ibft {', '.join(sharing)} work in several. "
            f"Use the launcher for these, then run `ibft {verb}` without it."
        )
    # One bar, not one for each process.
    if is_main_process():
        progress.enable()
    resolved, gpu_overrides = _load(recipe, overrides, full, stages)
    _check_arms(arms, resolved, stages)
    run = RunFolder(resolved, overwrite=overwrite, gpu_overrides=gpu_overrides, arms=arms)

    is_locked_before = (run.path / ".lock").exists()
    if not is_locked_before:  # before anything is made: a refused command leaves neither folder nor lock
        _check(run, stages)
    made, read = parts_of(stages, run.arms)
    with run.open(made, [*read, *reads]):
        if is_locked_before:  # inside of the locks: nobody else changes now what is compared
            _check(run, stages)
        yield run


def _check_arms(arms: Sequence[str], recipe: Recipe, stages: Sequence[str]) -> None:
    from ibft.run.recipe import BASE_ARM

    # The base model is not trained, and its scan is `ibft scan`.
    known = [arm for arm in recipe.arms if arm != BASE_ARM or not {"train", "rescan"}.intersection(stages)]
    for arm in arms:
        if arm not in known:
            raise UserError(f"--arm {arm} is not one of the arms that this verb works at: {', '.join(known)}.")


def _check(run: RunFolder, stages: Sequence[str]) -> None:
    from ibft.run.processes import is_main_process

    # A report is made again each time, so there is nothing that it could differ from.
    makes = [stage for stage in stages if stage != "report"]
    if not makes and not run.path.exists():
        raise UserError(f"{run.path} does not exist yet. Run `ibft run RECIPE` first.")
    if makes and is_main_process():
        from ibft.stages.plan import check

        check(run, makes)


def _load(recipe: Path, overrides: tuple[str, ...], full: bool, stages: Sequence[str]) -> tuple[Recipe, bool | None]:
    """Return the recipe as it holds for its run here, and whether its `gpu:` section does (None if it has none)."""
    from ibft.run.processes import is_main_process
    from ibft.run.steps import steps_that
    from ibft.stages.resolution import as_recorded, resolve

    loads = set(steps_that("loads_model")).intersection(stages)
    loaded, gpu_overrides, recorded = _with_gpu_section(recipe, overrides, full=full, asks_machine=bool(loads))
    # What `auto` stands for is this machine's only where this machine computes: not behind a server.
    computes = loads and (loads != {"generate"} or loaded.generate.backend == "local")
    if recorded is not None and not computes:
        loaded = as_recorded(loaded, recorded)
        _refuse_idle(overrides, loaded, recorded, stages)
    if loads:
        # Once for all verbs, here where each of them passes.
        quiet_libraries()
        is_chosen = loaded.prompt.template == "auto"
        loaded = resolve(loaded)
        if is_main_process():
            chosen = " (prompt.template: auto)" if is_chosen else ""
            click.echo(f"Prompt template: {loaded.prompt.template}{chosen}", err=True)
    return loaded, gpu_overrides


def _refuse_idle(overrides: Sequence[str], loaded: Recipe, recorded: Recipe, stages: Sequence[str]) -> None:
    """Refuse a `--set` that would change nothing but the record of what the run was made from."""
    from ibft.run.steps import STEPS

    steps = [step for step in STEPS if step.name in stages]
    read = {"name", "output", "seed"}.union(*(step.sections or () for step in steps))
    if any(step.sections is None for step in steps):
        return
    for setting in overrides:
        key = setting.partition("=")[0]
        section = key.partition(".")[0]
        if section not in read and getattr(loaded, section) != getattr(recorded, section):
            raise UserError(
                f"--set {setting}: `ibft {stages[-1]}` does not read {section}, and the run was made with another "
                f"value of {key}. Leave it out, or make the run again with `ibft run`."
            )


def read_recipe(recipe: Path, overrides: tuple[str, ...]) -> Recipe:
    """Return the recipe as training would have it here, without its run folder; turn the progress bars on.

    Raises:
        UserError: the recipe cannot be read, or a library that training needs is missing.
    """
    progress.enable()
    quiet_libraries()
    return _with_gpu_section(recipe, overrides, full=False, asks_machine=True)[0]


def _with_gpu_section(
    recipe: Path, overrides: tuple[str, ...], *, full: bool, asks_machine: bool
) -> tuple[Recipe, bool | None, Recipe | None]:
    """Return the recipe with its `gpu:` section where that holds, whether it does, and the recipe of its run so far."""
    from ibft.run.recipe import load_recipe

    loaded, gpu_overrides, recorded = load_recipe(recipe, overrides, full=full), None, None
    with contextlib.suppress(UserError):  # a new run, or a recipe.yaml that this version does not read
        recorded = load_recipe(Path(loaded.output) / loaded.name / "recipe.yaml")
    if loaded.gpu:
        with_gpu = load_recipe(recipe, overrides, full=full, use_gpu_overrides=True)
        gpu_overrides = _has_gpu_overrides(loaded, with_gpu, recorded, asks_machine=asks_machine)
        loaded = with_gpu if gpu_overrides else loaded
    return loaded, gpu_overrides, recorded


def _has_gpu_overrides(plain: Recipe, with_gpu: Recipe, recorded: Recipe | None, *, asks_machine: bool) -> bool:
    """Decide whether the `gpu:` section holds for the run: as when it was made, else as this machine has it."""
    from ibft.models.loading import uses_gpu
    from ibft.run.folder import read_run_record

    # Decided once, wherever the run is continued: samples from a GPU are judged elsewhere on the same problems.
    record = read_run_record(Path(plain.output) / plain.name)
    if record is not None:
        return record.gpu_overrides
    # A run of an older version has no run.json: its recipe.yaml decides where it has all of the values or none of them.
    if recorded is not None:
        before, after, made_with = (_leaves(msgspec.to_builtins(recipe)) for recipe in (plain, with_gpu, recorded))
        changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        for leaves, answer in ((after, True), (before, False)):
            if changed and all(made_with.get(path) == leaves.get(path) for path in changed):
                return answer
    # In this order: `uses_gpu` loads PyTorch.
    return asks_machine and uses_gpu(plain.model)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the values of nested mappings, each by its path."""
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _leaves(inner, f"{path}.{key}").items()}


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal."""
    import logging
    import os
    import warnings

    # Before the imports: huggingface_hub reads its settings once, when it is loaded.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else tokenizers warns of each fork after its first use
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
