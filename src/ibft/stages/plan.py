"""What the verbs of a command would be refused for, found out before the first of them begins.

Each stage asks for itself, too: a run folder is also used without the command line. But a command of several stages
must not work for an hour on the first, only to be refused in the third.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ibft.models.loading import load_config, weights_folder
from ibft.run.inputs import FORMAT
from ibft.run.recipe import BASE_ARM, FORGETTING
from ibft.stages.identity import (
    generate_inputs,
    rescan_inputs,
    scan_inputs,
    train_inputs,
    weights_identity,
)

if TYPE_CHECKING:
    from ibft.artifacts.rows import Problem
    from ibft.run.folder import RunFolder
    from ibft.run.stage import Stage

__all__ = ["check"]


def check(run: RunFolder, verbs: Sequence[str]) -> None:
    """Compare what the folder holds, and what the stages need, with the recipe; write nothing.

    Args:
        run: the run folder, which may not exist yet.
        verbs: the stages that will run, in their order.

    Raises:
        UserError: a stage was made from another recipe or other content, an earlier stage is missing, or data,
            problems, model or sandbox cannot be had.
    """
    plan = _Plan(run)
    for verb in verbs:
        getattr(plan, verb)()
    plan.check_models()


class _Plan:
    """The stages of a command by name: a later one is made from earlier ones, which may not be there yet."""

    def __init__(self, run: RunFolder) -> None:
        self._run, self._recipe = run, run.recipe
        self._objectives = [objective for objective in run.recipe.objective if objective.arm in run.arms]
        self._stages: dict[str, Stage] = {}

    def scan(self) -> None:
        self._add("scan", scan_inputs(self._recipe))

    def train(self) -> None:
        from ibft.stages.evaluating import check_evaluation
        from ibft.stages.train import check_objectives

        check_objectives(self._recipe)
        for objective in self._objectives:
            scan = self._scan_identity() if objective.weighs_examples else None
            self._add(f"train/{objective.arm}", train_inputs(self._recipe, objective, scan))
        if any(not self._stages[f"train/{objective.arm}"].is_complete for objective in self._objectives):
            check_evaluation(self._recipe)

    def rescan(self) -> None:
        for objective in self._objectives if self._recipe.scan.max_trained_examples else ():
            arm, scan = objective.arm, self._scan_identity()
            self._add(f"rescan/{arm}", rescan_inputs(self._recipe, scan, self._train_identity(arm), self._weights(arm)))

    def generate(self) -> None:
        for arm in self._run.arms:
            train, weights = (None, None) if arm == BASE_ARM else (self._train_identity(arm), self._weights(arm))
            self._add(f"generate/{arm}", generate_inputs(self._recipe, self._problems, train, weights))
            if (second := self._recipe.second) is not None:
                self._add(f"generate/{arm}{FORGETTING}", generate_inputs(second, self._others, train, weights))
            if self._recipe.generate.backend == "server" and not self._stages[f"generate/{arm}"].is_complete:
                from ibft.generation.server import served_name

                served_name(self._recipe.generate.server, arm)

    def judge(self) -> None:
        from ibft.execution.settings import tool_versions
        from ibft.stages.judge import judge_inputs, load_judged

        problems, settings = load_judged(self._recipe)
        for arm in self._run.arms:
            samples = self._run.path / "generate" / arm / "samples.jsonl"
            inputs = judge_inputs(problems, settings, self._generate_identity(arm), samples)
            self._run.check(f"judge/{arm}", inputs, is_part=True)  # without the identity of samples to come
            if not (self._run.path / "judge" / arm).exists():
                for language in {problem.language for problem in problems}:
                    tool_versions(language)  # fails where its tools are missing, which complete results do not need

    def check_models(self) -> None:
        """Look for the models that unfinished stages load on this machine, and for what training needs."""
        unfinished = {name.partition("/")[0] for name, stage in self._stages.items() if not stage.is_complete}
        if self._recipe.generate.backend == "server":
            unfinished.discard("generate")  # the weights are on the server
        if unfinished:
            load_config(self._recipe.model)
        if "train" in unfinished:
            from ibft.stages.train import check_settings

            check_settings(self._recipe)
        if "scan" in unfinished and self._recipe.scan.reference is not None:
            load_config(self._recipe.scan.reference)

    def _add(self, name: str, inputs: dict[str, Any]) -> None:
        self._stages[name] = self._run.stage(name, inputs)

    @functools.cached_property
    def _problems(self) -> list[Problem]:
        from ibft.problems.loading import load_benchmark

        return load_benchmark(self._recipe.problems)

    @functools.cached_property
    def _others(self) -> list[Problem]:
        """The second benchmark's problems."""
        from ibft.problems.loading import load_benchmark

        return load_benchmark(self._recipe.forgetting) if self._recipe.forgetting else []

    def _weights(self, arm: str) -> dict[str, Any]:
        return weights_identity(weights_folder(self._recipe, self._run, arm))

    def _scan_identity(self) -> str:
        if planned := self._stages.get("scan"):
            return planned.identity
        return self._run.record_made_from("scan", scan_inputs(self._recipe)).identity

    def _train_identity(self, arm: str) -> str:
        if planned := self._stages.get(f"train/{arm}"):
            return planned.identity
        [objective] = (objective for objective in self._recipe.objective if objective.arm == arm)
        # The data is not read again, and may be gone where an arm is sampled.
        inputs = train_inputs(self._recipe, objective, must_exist=False)
        return self._run.record_made_from(f"train/{arm}", inputs).identity

    def _generate_identity(self, arm: str) -> str | None:
        """Return None where the samples are still to be drawn: their identity depends on weights to come."""
        name = f"generate/{arm}"
        if planned := self._stages.get(name):
            return planned.identity if planned.is_complete else None
        record = self._run.record(name)
        if record.inputs.get(FORMAT) is not None:  # samples of an older version are samples, too
            inputs = generate_inputs(self._recipe, self._problems, train=None, weights=None)
            self._run.record_made_from(name, {"model": inputs["model"]}, trusts_names=True)  # it is not read here
            rest = {key: inputs[key] for key in inputs if key not in (FORMAT, "train", "model")}
            self._run.record_made_from(name, rest)
        return record.identity
