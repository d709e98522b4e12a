"""What the stages that compute with a model have in common: made once, by all of a launcher's processes together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ibft.models.processes import decide, join
from ibft.run.recipe import Recipe
from ibft.run.stage import Stage
from ibft.stages.resolution import resolve

__all__ = ["complete"]


def complete(
    recipe: Recipe,
    open_stage: Callable[[Recipe], Stage],
    make: Callable[[Recipe, Path], None],
    after: Callable[[Stage], None] = lambda stage: None,
) -> None:
    """Make a stage, unless it is complete; nothing is done twice, and what an interrupted attempt left is used.

    Args:
        recipe: as read; the rest gets it as resolved on this machine.
        open_stage: the stage in the run folder, by what it is made from. The main process's business.
        make: fills the work folder. Every process calls it.
        after: called once the result has its name, also where it had it before. The main process's business.

    Raises:
        UserError: whatever the three raise; all processes then end.
    """
    join(recipe.model)
    recipe = resolve(recipe)

    def opened() -> tuple[Stage, bool]:
        stage = open_stage(recipe)
        return stage, stage.is_complete

    stage, is_complete = decide(opened)
    if not is_complete:
        with stage.work() as folder:
            make(recipe, folder)
    # No process continues before the result has its name: what comes next may read it.
    decide(lambda: after(stage))
