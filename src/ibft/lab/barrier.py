"""The barrier experiment as data: which bases, fine-tuned on what, at which learning rates; each a cell of a grid."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import peft
import torch
import transformers
import trl
from msgspec import Meta

from ibft.artifacts.barrier import Data
from ibft.errors import UserError
from ibft.lab.bases import BASE_FORMAT
from ibft.lab.finetune import FinetuneConfig, Schedule
from ibft.lab.pretrain import SIZES, PretrainConfig
from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.objectives.registry import AnyObjective
from ibft.run.reading import build, override
from ibft.run.sections import LoraConfig
from ibft.settings import Count, Positive, Section
from ibft.worlds.planted import PlantedConfig

__all__ = ["BarrierConfig", "Cell", "Finetuning", "cells_of", "read_settings"]

Seed = Annotated[int, Meta(ge=0)]
Dose = Annotated[int, Meta(ge=0)]

_FORMAT = 2
"""Raised when a cell of the same settings has other numbers."""


class BarrierConfig(Section, frozen=True):
    """The settings of the experiment. Every combination is a cell, and so is each base before training.

    world, pretrain: of all bases, except for their seeds and the dose. A base's first weights have its world's seed.
    doses: how often pretraining has each planted example; 0 is a base without memory.
    world_seeds: a world and its bases each. Intervals are over worlds.
    data: `planted` is what pretraining repeated; `fresh`, the control, as many tasks that no base has read.
    arms: the objectives, with their settings.
    learning_rates, schedules, training_seeds, steps, batch_size, lora: of fine-tuning (`lab.finetune`).
    """

    world: PlantedConfig = PlantedConfig()
    pretrain: PretrainConfig = PretrainConfig()
    doses: tuple[Dose, ...] = (0, 20, 100)
    world_seeds: tuple[Seed, ...] = (0, 1)
    data: tuple[Data, ...] = ("planted", "fresh")
    arms: tuple[AnyObjective, ...] = (FTObjective(),)
    learning_rates: tuple[Positive, ...] = (1e-3, 3e-3, 1e-2)
    schedules: tuple[Schedule, ...] = ("constant",)
    training_seeds: tuple[Seed, ...] = (0,)
    steps: Count = 300
    batch_size: Count = 32
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        for name, values in self._axes().items():
            if not values:
                raise UserError(f"{name} is []: give at least one.")
            if len(set(values)) < len(values):
                raise UserError(f"{name} is {list(values)}: each must occur once.")
        default = PlantedConfig()
        for name, value, ours, instead in (
            ("world.seed", self.world.seed, default.seed, "world_seeds"),
            ("world.plant.repetitions", self.world.plant.repetitions, default.plant.repetitions, "doses"),
            ("pretrain.seed", self.pretrain.seed, PretrainConfig().seed, "world_seeds"),
        ):
            if value != ours:
                raise UserError(f"{name} is {value}: the experiment varies it. Set {instead} instead.")
        self._check_room()
        for objective in self.arms:
            self._check_arm(objective)

    def _check_room(self) -> None:
        plant, dose = self.world.plant, max(self.doses)
        num_planted = dose * (self.world.num_planted + plant.num_canaries)
        num_texts = self.pretrain.planted_steps * self.pretrain.batch_size
        if num_planted > num_texts:
            raise UserError(
                f"doses has {dose}: that is {num_planted} planted texts, and the second phase of pretraining has "
                f"{num_texts}. Lower it, or raise pretrain.planted_steps."
            )

    def _check_arm(self, objective: Objective) -> None:
        """Refuse now what would be refused when the bases have been pretrained."""
        if objective.needs_base and self.lora is None:
            raise UserError(
                f"arms: {objective.arm} compares with the base, which is the model with its adapter off. Set "
                "lora.rank, or leave it out."
            )
        if objective.weighs_examples:
            raise UserError(
                f"arms: {objective.arm} weighs examples by a scan, which the lab does not have. Leave it out."
            )
        objective.layer_indices(SIZES[self.pretrain.size]["num_hidden_layers"])

    def _axes(self) -> dict[str, Sequence[Any]]:
        return {
            "doses": self.doses,
            "world_seeds": self.world_seeds,
            "data": self.data,
            "arms": [objective.arm for objective in self.arms],
            "learning_rates": self.learning_rates,
            "schedules": self.schedules,
            "training_seeds": self.training_seeds,
        }


class Finetuning(Section, frozen=True):
    """What a base is trained on, for what, and how."""

    data: Data
    objective: AnyObjective
    config: FinetuneConfig


class Cell(Section, frozen=True):
    """One base, and what is trained from it (None: nothing)."""

    world: PlantedConfig
    pretrain: PretrainConfig
    finetuning: Finetuning | None = None

    @property
    def key(self) -> str:
        """A digest of all that the cell's numbers depend on, the versions of what computes them included."""
        versions = {module.__name__: str(module.__version__) for module in (torch, transformers, trl, peft)}
        settings = {"format": [_FORMAT, BASE_FORMAT], "versions": versions, "cell": msgspec.to_builtins(self)}
        return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:16]

    @property
    def dose(self) -> int:
        """How often pretraining has each planted example."""
        (dose,) = self.world.plant.doses
        return dose

    @property
    def label(self) -> str:
        """The cell in a few words, for a line of progress."""
        of = f"world {self.world.seed}, {self.dose} repetitions"
        if self.finetuning is None:
            return f"{of}, base"
        tuning = self.finetuning
        how = f"{tuning.config.learning_rate:g} {tuning.config.schedule}, seed {tuning.config.seed}"
        return f"{of}, {tuning.objective.arm} on {tuning.data} data, {how}"


def cells_of(config: BarrierConfig) -> list[Cell]:
    """Return the grid's cells in a fixed order: worlds, in them doses, in them the base and what is trained from it."""
    cells = []
    for seed, dose in itertools.product(config.world_seeds, config.doses):
        plant = msgspec.structs.replace(config.world.plant, repetitions=dose)
        base = Cell(
            world=msgspec.structs.replace(config.world, seed=seed, plant=plant),
            pretrain=msgspec.structs.replace(config.pretrain, seed=seed),
        )
        cells += [base, *(msgspec.structs.replace(base, finetuning=tuning) for tuning in _finetunings(config))]
    return cells


def _finetunings(config: BarrierConfig) -> list[Finetuning]:
    return [
        Finetuning(
            data=data,
            objective=objective,
            config=FinetuneConfig(
                steps=config.steps,
                batch_size=config.batch_size,
                learning_rate=learning_rate,
                schedule=schedule,
                seed=seed,
                lora=config.lora,
            ),
        )
        for objective, data, schedule, learning_rate, seed in itertools.product(
            config.arms, config.data, config.schedules, config.learning_rates, config.training_seeds
        )
    ]


def read_settings(settings: Sequence[str]) -> BarrierConfig:
    """Return the default experiment, changed by `KEY=VALUE` settings as `--set` takes them; an arm may be a word.

    Raises:
        UserError: a key is unknown, or a value is not allowed.
    """
    raw = msgspec.to_builtins(BarrierConfig())
    for setting in settings:
        override(raw, setting)
    if isinstance(raw["arms"], list):
        raw["arms"] = [{"name": arm} if isinstance(arm, str) else arm for arm in raw["arms"]]
    return build(raw, BarrierConfig, "--set")
