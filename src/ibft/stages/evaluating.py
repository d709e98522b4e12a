"""Executed evaluation in the train stage: `train.evaluate_problems` of the recipe, checked and made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ibft import progress
from ibft.artifacts.evaluations import EVALUATIONS_FILE, PASS_AT_1
from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, TrainingLog
from ibft.errors import UserError
from ibft.execution.settings import resolve_settings, tool_versions
from ibft.problems.loading import load_benchmark
from ibft.run.recipe import Recipe
from ibft.run.stage import Stage
from ibft.stages.judge import require_tests

if TYPE_CHECKING:
    from trl import SFTTrainer

__all__ = ["check_evaluation", "evaluation_of", "order_log", "say_complete"]


def check_evaluation(recipe: Recipe) -> None:
    """Check what evaluation while training needs on this machine, and say where its problems are the report's, too.

    Raises:
        UserError: the problems cannot be had or judged, or no sandbox works here.
    """
    if recipe.train.evaluate_problems is None:
        return
    resolve_settings(recipe.judge)
    problems = _problems(recipe)
    for language in {problem.language for problem in problems}:
        tool_versions(language)
    for key, config in (("problems", recipe.problems), ("forgetting", recipe.forgetting)):
        asked: set[str] = set()
        with contextlib.suppress(UserError):  # to train, the report's problems need not be here
            asked = {" ".join(problem.prompt.split()) for problem in load_benchmark(config)} if config else asked
        if shared := sum(" ".join(problem.prompt.split()) in asked for problem in problems):
            progress.warn(
                f"Evaluation on {key}",
                f"{shared} of the {len(problems)} problems of train.evaluate_problems are in {key}, too. Whatever is "
                "chosen by them (a step, a setting) then looks better in the report than it is. Take others, or others "
                "of its `tasks`.",
            )


def _problems(recipe: Recipe) -> list[Problem]:
    config = recipe.train.evaluate_problems
    assert config is not None
    problems = load_benchmark(config)
    require_tests(problems, config.source)
    return problems


def evaluation_of(recipe: Recipe, folder: Path) -> Callable[[SFTTrainer, ExitStack], None] | None:
    """Return what adds the recipe's evaluation to a trainer, to be ended by the stack; None without one.

    Args:
        recipe: as resolved.
        folder: the arm's, while it is made.
    """
    config = recipe.train.evaluate_problems
    if config is None:
        return None
    sampling = msgspec.structs.replace(
        recipe.generate,
        num_samples=config.num_samples,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
    )
    problems = _problems(recipe)

    def add(trainer: SFTTrainer, stack: ExitStack) -> None:
        from ibft.evaluation.executed import ExecutedEvaluation

        evaluation = ExecutedEvaluation(
            trainer,
            problems,
            every=recipe.train.evaluate_problems_every,
            sampling=sampling,
            prompt=recipe.prompt,
            judge=recipe.judge,
            folder=folder,
            seed=recipe.seed,
        )
        trainer.add_callback(evaluation)
        stack.callback(evaluation.close)

    return add


def order_log(folder: Path) -> None:
    """Put a log's rows in the order of their steps: a verdict comes some steps after its own."""
    path = folder / "log.jsonl"
    # A run that was killed may have logged one twice, with the same figures.
    rows = {msgspec.json.encode(row): row for row in read_rows(path, TrainingLog)}
    ordered = sorted(rows.values(), key=lambda row: (row.step, PASS_AT_1 in row.metrics))
    write_rows(path, ordered)


def say_complete(recipe: Recipe, stage: Stage) -> None:
    """Say that a complete arm is not trained again for the sake of an evaluation that it was trained without."""
    wants = recipe.train.evaluate_problems is not None and stage.is_complete
    if wants and not (stage.path / EVALUATIONS_FILE).exists():
        progress.warn(
            f"Evaluation, {stage.path.name}",
            "this arm is complete and was trained without train.evaluate_problems, so there are no evaluations of its "
            "steps. `ibft generate` and `ibft judge` measure it as it is; another `name:` trains it again.",
        )
