"""What identifies a result: what of the recipe goes into each stage, and the content of what it names.

model      counts: content of the folder, commit of the hub repository or version of the package; `dtype` as resolved;
           `quantization`. Does not: where the folder lies, `device`, `trust_remote_code`, `attention`.
data       counts: content of the file or folder, commit of the hub data set, the functions themselves.
arm        counts: the training's inputs, and the content of the weights. Does not: the model card.
train      counts: data, model, prompt, objective, and all of its section except for `evaluate_problems`.
scan       counts: all of its section except for `batch_tokens` and `max_trained_examples`.
generate   counts: what the model is asked, and all of its section except for `batch_size`, `elicit` and `server`.
judge      counts: problems, samples, limits, sandbox (`ibft.stages.judge`). Does not: `workers`, `cache`.

Nothing here loads PyTorch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.rows import Problem
from ibft.data.sources import data_digest, hub_name
from ibft.errors import UserError
from ibft.objectives.base import Objective
from ibft.run.digests import folder_digest
from ibft.run.inputs import FORMAT
from ibft.run.provenance import installed_version
from ibft.run.recipe import Recipe
from ibft.run.sections import PACKAGE, DataConfig, ModelConfig, ProblemsConfig, PromptConfig, TrainConfig
from ibft.settings import Section

__all__ = [
    "data_identity",
    "generate_inputs",
    "model_identity",
    "rescan_inputs",
    "scan_inputs",
    "train_inputs",
    "weights_identity",
]

_FORMATS = {"scan": 6, "train": 3, "rescan": 2, "generate": 2}
"""Raised where a stage's code changes what comes out of the same inputs: older results are then refused."""

_READING = ("config", "columns", "train_on", "on_bad_row")
"""The settings of how rows are read."""

_DOCUMENTS = (".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf")
"""Files beside weights that no loader reads."""


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """Return what identifies a model and the numbers that it computes. `dtype` is left out while it is `auto`."""
    # Neither `device` nor `attention`: other hardware and other kernels differ by rounding only.
    dtype = {} if config.dtype == "auto" else {"dtype": config.dtype}
    return {**_model_source(config), **dtype, "quantization": config.quantization}


def _prompt_identity(config: PromptConfig) -> dict[str, Any]:
    """Return how prompts are written. `template` is left out while it is `auto`."""
    prompt: dict[str, Any] = msgspec.to_builtins(config)
    if config.template == "auto":
        del prompt["template"]
    return prompt


def _model_source(config: ModelConfig) -> dict[str, Any]:
    return {"name": config.name, "revision": config.revision, "digest": _model_digest(config)}


def _model_digest(config: ModelConfig) -> str | None:
    """Return the content of a folder, the version of a package, or the commit of a hub repository; None if unknown."""
    if config.name.startswith(PACKAGE):
        version = installed_version(config.name.removeprefix(PACKAGE))
        return version and f"version {version}"
    if config.folder is not None:
        return _weights_digest(config.folder)
    return _hub_commit("models", config.name, config.revision)


def _weights_digest(folder: Path) -> str:
    return folder_digest(folder, lambda path: path.suffix.lower() not in _DOCUMENTS)


def weights_identity(folder: Path) -> dict[str, Any]:
    """Return what identifies an arm's weights, `adapter/` or `model/`; without a digest while they do not exist."""
    return {"name": str(folder), "digest": _weights_digest(folder) if folder.is_dir() else None}


def data_identity(source: str, *, must_exist: bool = True) -> dict[str, Any]:
    """Return what identifies the data behind a source as in `data.train`.

    Args:
        source: a file, a folder, a hub data set or `functions:...`.
        must_exist: False gives data that cannot be had here no digest, so that its name decides.

    Raises:
        UserError: the source cannot be read.
    """
    name, revision = hub_name(source)
    try:
        digest = data_digest(source) or _hub_commit("datasets", name, revision)
    except UserError:
        if must_exist:
            raise
        digest = None
    return {"name": source, "digest": digest}


def _hub_commit(kind: str, name: str, revision: str | None) -> str | None:
    """Return the commit that a revision stood for when it was last downloaded; None if it never was."""
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return f"commit {revision}"
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        cached = Path(HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}" / "refs" / (revision or "main")
        return f"commit {cached.read_text().strip()}"
    except (ImportError, OSError, UnicodeDecodeError):
        return None


def scan_inputs(recipe: Recipe) -> dict[str, Any]:
    """Return what a scan is made from.

    Raises:
        UserError: the data cannot be read; names the recipe's key.
    """
    data, scan = msgspec.to_builtins(recipe.data), msgspec.to_builtins(recipe.scan)
    del data["validation"]  # what is held out is scanned, too
    for name in _READING:
        del data[name]
    data |= _reading(recipe.data) | {"train": _training_data(recipe.data)}
    if recipe.data.control is not None:
        data["control"] = _named_data("control", recipe.data.control)
    for name in ("batch_tokens", "max_trained_examples"):  # speed, and an input of the rescan
        del scan[name]
    if recipe.scan.reference is not None:
        scan["reference"] = model_identity(recipe.scan.reference)
    return {
        FORMAT: _FORMATS["scan"],
        "model": model_identity(recipe.model),
        "prompt": _prompt_identity(recipe.prompt),
        "data": data,
        "scan": scan,
        "seed": recipe.seed,
    }


def _reading(data: DataConfig) -> dict[str, Any]:
    """Return how rows are read, as far as it is not by default: results are older than these settings."""
    given, default = (msgspec.to_builtins(config) for config in (data, DataConfig()))
    return {name: given[name] for name in _READING if given[name] != default[name]}


def _training_data(data: DataConfig, *, must_exist: bool = True) -> Any:
    """Return what identifies the training data: a source, or several with what each of them is to the whole."""
    if isinstance(data.train, str):
        return _named_data("train", data.train, must_exist=must_exist)
    return [
        {
            "source": _named_data("train", source.source, must_exist=must_exist),
            **{key: value for key, value in msgspec.to_builtins(source).items() if key != "source"},
        }
        for source in data.sources
    ]


def _named_data(key: str, source: str, *, must_exist: bool = True) -> dict[str, Any]:
    try:
        return data_identity(source, must_exist=must_exist)
    except UserError as error:
        raise UserError(f"data.{key}: {str(error).removeprefix('data: ')}") from None


def train_inputs(
    recipe: Recipe, objective: Objective, scan: str | None = None, *, must_exist: bool = True
) -> dict[str, Any]:
    """Return what an arm's training is made from.

    Args:
        recipe: the recipe.
        objective: the arm's.
        scan: identity of the scan, for an adaptive arm; left out if None.
        must_exist: as in `data_identity`.

    Raises:
        UserError: the data cannot be read.
    """
    data = recipe.data
    # `auto` chooses the batches by the kernel: other batches are another training.
    attention = {"attention": recipe.model.attention} if recipe.train.batching == "auto" else {}
    return {
        FORMAT: _FORMATS["train"],
        **({} if scan is None else {"scan": scan}),
        "model": model_identity(recipe.model) | attention,
        "prompt": _prompt_identity(recipe.prompt),
        # Not the whole section: another control set does not change what is trained.
        "data": {
            "train": _training_data(data, must_exist=must_exist),
            "split": data.split,
            **_reading(data),
            "max_tokens": data.max_tokens,
            "max_examples": data.max_examples,
            **_validation_identity(data, must_exist=must_exist),
        },
        "train": _training(recipe.train),
        "objective": objective,
        "seed": recipe.seed,
    }


def _validation_identity(data: DataConfig, *, must_exist: bool) -> dict[str, Any]:
    """Return what identifies the validation data; empty without it, as before there was any."""
    if data.validation_share is not None:
        return {"validation": data.validation_share}
    if (source := data.validation_source) is None:
        return {}
    named = _named_data("validation", source.source, must_exist=must_exist)
    return {"validation": {"source": named, "split": source.split, "config": source.config}}


def _training(train: TrainConfig) -> dict[str, Any]:
    """Return the section without executed evaluation, which changes no bit of the weights, and without the newer
    settings at their defaults: what was trained before there were any is the same.
    """
    given: dict[str, Any] = msgspec.to_builtins(train)
    for name in ("evaluate_problems", "evaluate_problems_every"):
        del given[name]
    _leave_out_defaults(given, train, ("optimizer", "evaluate_every", "early_stopping", "keep"))
    if train.lora is not None:
        _leave_out_defaults(given["lora"], train.lora, ("rslora", "dora", "modules_to_save"))
    return given


def _leave_out_defaults(given: dict[str, Any], section: Section, names: Sequence[str]) -> None:
    default = type(section)()
    for name in names:
        if getattr(section, name) == getattr(default, name):
            del given[name]


def rescan_inputs(recipe: Recipe, scan: str, train: str, weights: dict[str, Any]) -> dict[str, Any]:
    """Return what a rescan is made from: identities of the scan and of the training, and the weights' identity."""
    return {
        FORMAT: _FORMATS["rescan"],
        "scan": scan,
        "train": train,
        "weights": weights,
        "max_trained_examples": recipe.scan.max_trained_examples,
    }


def generate_inputs(
    recipe: Recipe, problems: Sequence[Problem], train: str | None, weights: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what an arm's samples are made from.

    Args:
        recipe: the recipe.
        problems: those that are asked.
        train: identity of the arm's training; None for the base model.
        weights: the arm's, as `weights_identity` has them; None for the base model.
    """
    is_served = recipe.generate.backend == "server"
    sampling = msgspec.to_builtins(recipe.generate)
    # Speed; samples that have folders of their own; a server's address, key, names, concurrency and retries.
    for name in ("batch_size", "elicit", "server"):
        del sampling[name]
    return {
        FORMAT: _FORMATS["generate"],
        "generate": sampling,
        # The weights behind a server are not seen here: what counts is the source, which has the tokenizer.
        "model": _model_source(recipe.model) if is_served else model_identity(recipe.model),
        "prompt": _prompt_identity(recipe.prompt),
        "problems": _problems_identity(recipe.problems, problems),
        "seed": recipe.seed,
        "train": train,
        **({} if weights is None else {"weights": weights}),
    }


def _decides_extraction(problem: Problem) -> tuple[str, ...]:
    """Return what decides which program of an answer is taken: the name to define, else the tests that use one."""
    if problem.io:  # one that reads and prints, whatever it defines
        return ("io",)
    return (problem.entry_point,) if problem.entry_point else ("", problem.setup, problem.tests)


def _problems_identity(config: ProblemsConfig, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return a digest of what is asked, under a name that has all the words of the recipe that chose it."""
    asked = [(problem.task_id, problem.prompt, problem.language, *_decides_extraction(problem)) for problem in problems]
    chosen = [f"tasks {', '.join(config.tasks)}"] * bool(config.tasks)
    if config.limit is not None:
        chosen.append(f"limit {config.limit}")
    # The name is what a message shows where the digests differ.
    name = f"{config.source} ({'; '.join(chosen)})" if chosen else config.source
    return {"name": name, "digest": hashlib.sha256(msgspec.json.encode(asked)).hexdigest()}
