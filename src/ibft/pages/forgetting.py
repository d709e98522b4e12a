"""Compare every arm with the base on a second benchmark, answered greedily: what has fine-tuning cost elsewhere?"""

from __future__ import annotations

from ibft.artifacts.report import Forgetting
from ibft.comparison import Scores, compare_all
from ibft.pages.arms import read_arm
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, FORGETTING, Recipe

__all__ = ["read_forgetting"]


def read_forgetting(recipe: Recipe, run: RunFolder) -> Forgetting | None:
    """Return what the judged answers to the second benchmark say; None where the base has not been asked.

    Raises:
        UserError: a file is damaged.
    """
    if recipe.forgetting is None:
        return None
    judged = {
        name: answers
        for name in recipe.arms
        if (answers := read_arm(recipe, run, name + FORGETTING, [1])) is not None
        and answers.arm.pass_at_1.value is not None
    }
    if BASE_ARM not in judged:
        return None
    # All pairs are decided together, as on the first benchmark; those without the base are not shown.
    compared = compare_all({name: Scores.of_counts(counts) for name, (_, counts) in judged.items()})
    return Forgetting(
        benchmark=recipe.forgetting.source,
        num_problems=judged[BASE_ARM].arm.num_problems,
        pass_at_1={name: arm.pass_at_1 for name, (arm, _) in judged.items()},
        differences=[pair for pair in compared.differences if BASE_ARM in (pair.better, pair.other)],
    )
