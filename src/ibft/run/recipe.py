"""The recipe: the whole configuration of a run, as frozen structs read from one YAML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from ibft.errors import UserError
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.registry import AnyObjective
from ibft.run.reading import build, merge, override
from ibft.run.sections import (
    DataConfig,
    Format,
    GenerateConfig,
    JudgeConfig,
    ModelConfig,
    ProblemsConfig,
    PromptConfig,
    ReportConfig,
    ScanConfig,
    TrainConfig,
)
from ibft.settings import Section

__all__ = ["BASE_ARM", "FORGETTING", "Recipe", "dump_recipe", "load_recipe"]

BASE_ARM = "base"
"""The arm that is not trained: the base model itself."""
# No arm's own name has an @.
FORGETTING = "@forgetting"
"""Behind an arm's name: its answers to the second benchmark."""


class Recipe(Section, frozen=True):
    """One run: one folder, one model, one data set, one benchmark, and one arm for each objective.

    `objective` is a word (`ft`), a mapping (`{name: ib, alpha: 0.1}`) or a list of these; each is an arm,
    trained on the same data in the same order with the same seed, beside the untrained base model.
    `forgetting` is a second benchmark, of what fine-tuning may have cost elsewhere: one greedy answer per problem.
    `gpu` holds overrides (same keys as the recipe) that apply to a run whose first command uses a GPU, and to that run
    on any machine from then on.
    """

    name: str
    output: str = "runs"
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    data: DataConfig = DataConfig()
    scan: ScanConfig = ScanConfig()
    objective: tuple[AnyObjective, ...] = (FTObjective(), IBObjective())
    train: TrainConfig = TrainConfig()
    problems: ProblemsConfig = ProblemsConfig()
    forgetting: ProblemsConfig | None = None
    generate: GenerateConfig = GenerateConfig()
    judge: JudgeConfig = JudgeConfig()
    report: ReportConfig = ReportConfig()
    gpu: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UserError(f"name: {self.name!r} must be letters, digits, '.', '_' or '-': it names the run folder")
        if self.train.lora is None and self.model.quantization != "none":
            raise UserError(
                f"train.lora is null and model.quantization {self.model.quantization}: quantized weights cannot be "
                "trained. Set model.quantization to none, or give train.lora a rank"
            )
        if self.data.validation is None:
            for key in ("evaluate_every", "early_stopping", "keep"):
                if (value := getattr(self.train, key)) not in (None, "last"):
                    raise UserError(
                        f"train.{key} is {value}, and data.validation is null: there is nothing to evaluate on. "
                        f"Set data.validation, such as to 5%, or leave train.{key} out"
                    )
        self._check_schedule_free()
        if fixed := next((key for key in ("name", "output") if key in self.gpu), None):
            raise UserError(
                f"gpu.{fixed} is {self.gpu[fixed]!r}: a run has one place, on machines with and without a GPU. "
                f"Remove it, or pass --set {fixed}={self.gpu[fixed]}"
            )
        names = self.arms
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise UserError(f"objective.arm: {name!r} must be letters, digits, '.', '_' or '-': it names a folder")
            if names.count(name) > 1:
                raise UserError(
                    f"objective: the arm name {name!r} occurs twice ('{BASE_ARM}' is the untrained model). "
                    "Give each objective its own `arm:`"
                )

    def _check_schedule_free(self) -> None:
        # To measure their final weights, they overwrite those that are trained with a mean, and back: to rounding only.
        evaluated = {"data.validation": self.data.validation, "train.evaluate_problems": self.train.evaluate_problems}
        key = next((key for key, value in evaluated.items() if value is not None), None)
        if key is not None and self.train.optimizer.startswith("schedule_free_"):
            raise UserError(
                f"train.optimizer is {self.train.optimizer}, and {key} is set: evaluating would change its training. "
                f"Leave {key} out, or use another optimizer, such as {TrainConfig().optimizer}"
            )

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the order of the report: the base model, then one per objective."""
        return (BASE_ARM, *(objective.arm for objective in self.objective))

    @property
    def greedy(self) -> Recipe:
        """The recipe with one greedy answer per problem."""
        return msgspec.structs.replace(
            self, generate=msgspec.structs.replace(self.generate, num_samples=1, temperature=0.0)
        )

    @property
    def second(self) -> Recipe | None:
        """The greedy recipe of the second benchmark; None without `forgetting`."""
        return msgspec.structs.replace(self.greedy, problems=self.forgetting) if self.forgetting else None

    def problems_of(self, name: str) -> ProblemsConfig:
        """Return the benchmark of the answers in the folder `name` of `generate/` and `judge/`."""
        return self.forgetting if self.forgetting and name.endswith(FORGETTING) else self.problems

    def formats_of(self, arm: str) -> tuple[Format, ...]:
        """Return the formats in which an arm is asked greedily; none where `generate.elicit` is empty.

        The base is asked in all of `generate.elicit` that apply to the model, any other arm in its `prompt.template`.
        """
        # Nothing is asked before `ibft.stages.resolution` has replaced `auto`, which only the model decides.
        if not self.generate.elicit or self.prompt.template == "auto":
            return ()
        trained: Format = self.prompt.template
        return tuple(dict.fromkeys((trained, *self.generate.elicit))) if arm == BASE_ARM else (trained,)

    def asked_name(self, arm: str, form: Format) -> str:
        """Return the name of an arm's greedy answers in a format; its own are its samples where these are greedy."""
        is_sample = form == self.prompt.template and self.generate.temperature == 0
        return arm if is_sample else f"{arm}@{form}"


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, full: bool = False, use_gpu_overrides: bool = False
) -> Recipe:
    """Read a recipe, apply its `gpu:` section if asked to, then `a.b=c` overrides; validate the result.

    Args:
        path: the YAML file.
        overrides: `key.path=value` strings; values are read as YAML, list items by their index.
        full: evaluate all problems (drops `problems.limit`).
        use_gpu_overrides: whether a GPU will be used, so that the recipe's `gpu:` section counts.

    Raises:
        UserError: names the file, the key, the value received and what is allowed.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). `ibft init` writes a starter recipe.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not {type(raw).__name__}. See `ibft init`.")
    raw.setdefault("name", path.stem)
    gpu = raw.get("gpu") or {}
    if use_gpu_overrides and isinstance(gpu, dict):
        merge(raw, gpu)
    for setting in overrides:  # after `gpu:`, so that --set wins
        override(raw, setting)
    if full:
        raw.setdefault("problems", {})["limit"] = None
    raw = {key: value for key, value in raw.items() if value is not None}  # a heading without keys is null in YAML
    if "objective" in raw:
        listed = raw["objective"] if isinstance(raw["objective"], list) else [raw["objective"]]
        raw["objective"] = [{"name": item} if isinstance(item, str) else item for item in listed]
    return build(raw, Recipe, str(path))


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML."""
    # With every default, so that it reads the same with any later version.
    builtins = msgspec.to_builtins(recipe)
    builtins.pop("gpu")  # applied already, or not applicable on this machine
    return yaml.safe_dump(builtins, sort_keys=False, allow_unicode=True)
