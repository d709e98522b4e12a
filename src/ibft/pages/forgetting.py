"""What fine-tuning may have cost elsewhere: every arm's greedy answers to a second benchmark, against the base's."""

from __future__ import annotations

from ibft.artifacts.report import Forgetting
from ibft.comparison import Scores, compare_all
from ibft.pages.arms import read_arm
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, FORGETTING, Recipe

__all__ = ["read_forgetting"]


def read_forgetting(recipe: Recipe, run: RunFolder) -> Forgetting | None:
    """Return what the judged answers to the second benchmark say; None where there are none of the base.

    Raises:
        UserError: a file is damaged.
    """
    if recipe.forgetting is None:
        return None
    judged = {arm: found for arm in recipe.arms if (found := read_arm(recipe, run, arm + FORGETTING, [1])) is not None}
    defined = {arm: found for arm, found in judged.items() if found.arm.metrics["pass@1"].value is not None}
    if BASE_ARM not in defined:
        return None
    compared = compare_all({arm: Scores.of_counts(found.counts) for arm, found in defined.items()})
    return Forgetting(
        benchmark=recipe.forgetting.source,
        num_problems=defined[BASE_ARM].arm.num_problems,
        pass_at_1={arm: found.arm.metrics["pass@1"] for arm, found in defined.items()},
        differences=[one for one in compared.differences if BASE_ARM in (one.better, one.other)],
    )
