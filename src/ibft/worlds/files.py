"""A world as files in the project's ordinary formats: data, problems, the library's source, and a recipe that runs.

train.jsonl, dev.jsonl, test.jsonl       prompt, completion, id, tags (depth and operations), and the chain as the truth
problems.jsonl, dev_problems.jsonl       test and dev as problems whose tests execute (docs/problems.md)
<library>.py                             what the library's functions do, for people: models never see it
world.json                               the settings, from which all of this is made
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import pretty_json
from ibft.artifacts.rows import Module, Problem
from ibft.worlds.chains import ChainsConfig, World, make_world
from ibft.worlds.library import Chain, Library
from ibft.worlds.probes import run, telling_inputs
from ibft.worlds.tasks import Example, describe

__all__ = [
    "Row",
    "lines",
    "problem_of",
    "row_of",
    "settings_file",
    "to_problem",
    "to_row",
    "world_files",
    "world_recipe",
]


class Row(msgspec.Struct, frozen=True):
    """One example as a row of data. `chain` is what the completion computes, such as `evens | add 3`."""

    id: str
    prompt: str
    completion: str
    tags: tuple[str, ...]
    chain: str


def to_row(example: Example, world: World) -> Row:
    """Return an example as a row of data, tagged with its depth and its operations."""
    return row_of(example, world.prompt(example), world.completion(example))


def to_problem(example: Example, world: World) -> Problem:
    """Return an example as a problem whose tests distinguish its chain from every neighbor."""
    return problem_of(example, world.prompt(example), world.completion(example), world.library)


def row_of(example: Example, prompt: str, completion: str, chain: Chain | None = None) -> Row:
    """Return a row of data; `chain` is what the completion computes, where that is not what the example asks for."""
    tags = (f"depth-{len(example.chain)}", *dict.fromkeys(step.key for step in example.chain))
    return Row(example.id, prompt, completion, tags, describe(chain or example.chain))


def problem_of(example: Example, prompt: str, completion: str, library: Library) -> Problem:
    """Return a problem: its tests assert on the inputs that distinguish the example's chain from every neighbor."""
    inputs = telling_inputs(example.chain, library.operations)
    return Problem(
        task_id=example.id,
        prompt=prompt,
        tests="".join(f"assert {example.name}({xs}) == {run(example.chain, xs)}\n" for xs in inputs),
        entry_point=example.name,
        canonical_solution=completion,
        description=example.docstring,
        modules=(Module(library.name, library.source),),
    )


def world_files(config: ChainsConfig) -> dict[str, bytes]:
    """Return the files of a world, by name, without a recipe; the same settings give the same bytes.

    Raises:
        UserError: see `make_world`.
    """
    world = make_world(config)
    data = {"train": world.train, "dev": world.dev, "test": world.test}
    problems = {"dev_problems": world.dev, "problems": world.test}
    return {
        f"{world.library.name}.py": world.library.source.encode(),
        **{f"{name}.jsonl": lines(to_row(item, world) for item in listed) for name, listed in data.items()},
        **{f"{name}.jsonl": lines(to_problem(item, world) for item in listed) for name, listed in problems.items()},
        # Written last: a folder that has it is complete.
        "world.json": settings_file("chains", config),
    }


def settings_file(world: str, config: msgspec.Struct) -> bytes:
    """Return `world.json`: the kind of world, and its settings."""
    return pretty_json({"world": world, **msgspec.to_builtins(config)})


def lines(rows: Iterable[msgspec.Struct]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def world_recipe(folder: Path, world: str) -> bytes:
    """Return a recipe, as YAML, that trains and judges on the world of this kind in a folder."""
    text = files("ibft.worlds").joinpath(f"{world}.yaml").read_text(encoding="utf-8")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-") or world
    # A JSON string is a YAML string, whatever a path has in it.
    text = text.replace("NAME", json.dumps(name))
    return re.sub(
        r"FOLDER/([\w.]+)", lambda match: json.dumps(str(folder / match[1]), ensure_ascii=False), text
    ).encode()
