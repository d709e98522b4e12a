"""All objectives by name: those of this folder, and those of other packages.

Another package adds one with an entry point, whose value is a subclass of `ibft.objectives.base.Objective`:

    [project.entry-points."ibft.objectives"]
    mine = "my_package.objective:MyObjective"

Its module must not import torch when it is imported, since every command reads the recipe.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import operator
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import fields

from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.registry import classes_in

__all__ = ["OBJECTIVES", "AnyObjective"]

GROUP = "ibft.objectives"
"""Of the entry points."""


def _find() -> dict[str, type[Objective]]:
    ours = [kind for kind in classes_in("ibft.objectives", Objective) if kind.__struct_config__.tag]
    objectives = {str(kind.__struct_config__.tag): kind for kind in sorted(ours, key=lambda kind: kind.place)}
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            kind = _load(entry)
            if entry.name in objectives:
                raise ValueError("there is one of that name already")
        except Exception as error:  # another package's defect must not stop commands that do not use its objective
            logging.getLogger(__name__).warning("The objective %s cannot be loaded: %s", entry.name, error)
        else:
            objectives[entry.name] = kind
    return objectives


def _load(entry: importlib.metadata.EntryPoint) -> type[Objective]:
    kind = entry.load()
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        raise TypeError(f"{entry.value} is not a subclass of ibft.objectives.base.Objective")
    config = kind.__struct_config__
    if (config.tag_field, config.tag) != ("name", entry.name):
        raise TypeError(f"{entry.value} needs tag_field='name' and tag={entry.name!r}")
    if next(field.required for field in fields(kind) if field.name == "arm"):
        raise TypeError(f"{entry.value} needs a default for arm: arm: str = {entry.name!r}")
    # A type that msgspec refuses in one objective would make it refuse the union of them, and so every recipe.
    msgspec.json.Decoder(FTObjective | kind)
    return kind


OBJECTIVES: dict[str, type[Objective]] = _find()
"""Name in the recipe to class, in the order in which they are listed."""

if TYPE_CHECKING:
    AnyObjective = Objective
else:
    AnyObjective = functools.reduce(operator.or_, OBJECTIVES.values())
    """The type of one entry of the recipe's `objective:`; msgspec distinguishes them by their tags."""
