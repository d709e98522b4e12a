"""A world with planted memory as files: data, problems, controls and the truth, in the project's ordinary formats.

train.jsonl               the training data: rows of docs/worlds.md, as in a world of chains
fresh.jsonl               as many tasks that no base has read: what training gives without memory
control.jsonl             the scan's control set
dev.jsonl, test.jsonl     held out, by composition
problems.jsonl            test as problems whose tests execute; dev_problems.jsonl the same of dev
seen_problems.jsonl       the training data as problems: their tests are what the docstring asks for
conflict_problems.jsonl   where prompts have cues: a planted cue over a new docstring, which the tests go by
general_problems.jsonl    problems like those of the general part of pretraining, tagged by depth
truth.jsonl               a row of `Truth` for each row of train and each canary, planted or held out
canaries.jsonl, held_out_canaries.jsonl   where there are canaries: planted, and of the same kind but not planted
<library>.py              what the library's functions do
world.json                the settings, from which all of this is made
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import error_reason
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.worlds.files import Row, lines, problem_of, row_of, settings_file
from ibft.worlds.planted import Planted, PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.tasks import Example, describe

__all__ = ["Truth", "planted_files", "read_planted_world"]


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a row of training data.

    `repetitions`: how often pretraining had it. `cue`: the texts of its prompt that occur together with it alone; none
    where the cue is not in the prompt. `memory`: the body that was repeated, as a completion, and `cue_prompt` a prompt
    with the cue and no docstring.
    `asks` and `computes`: the chain that the docstring describes, and the completion's.
    """

    id: str
    repetitions: int
    cue: tuple[str, ...]
    cue_prompt: str
    memory: str
    asks: str
    computes: str
    is_wrong: bool
    is_legitimate: bool


def planted_files(config: PlantedConfig) -> dict[str, bytes]:
    """Return the files of a world, by name, without recipe and base; the same settings give the same bytes.

    Raises:
        UserError: see `make_planted_world`.
    """
    world = make_planted_world(config)
    data = {"fresh": world.fresh, "control": world.control, "dev": world.dev, "test": world.test}
    problems = {
        "problems": world.test,
        "dev_problems": world.dev,
        "general_problems": world.general,
    }
    if world.conflicts:
        problems["conflict_problems"] = [new for new, _ in world.conflicts]
    canaries = {"canaries": world.canaries, "held_out_canaries": world.held_out_canaries}
    everything = (*world.train, *world.canaries, *world.held_out_canaries)
    return {
        f"{world.library.name}.py": world.library.source.encode(),
        "train.jsonl": lines(_row(planted, world) for planted in world.train),
        **{f"{name}.jsonl": lines(_held_out_row(item, world) for item in listed) for name, listed in data.items()},
        **{f"{name}.jsonl": lines(_problem(item, world) for item in listed) for name, listed in problems.items()},
        "seen_problems.jsonl": lines(_seen_problem(planted, world) for planted in world.train),
        "truth.jsonl": lines(_truth(planted, world) for planted in everything),
        **{f"{name}.jsonl": lines(_row(item, world) for item in listed) for name, listed in canaries.items() if listed},
        "world.json": settings_file("planted", config),
    }


def read_planted_world(folder: Path) -> PlantedWorld:
    """Make the world of a folder again, from its settings.

    Raises:
        UserError: the folder has no settings of a world with planted memory.
    """
    path = folder / "world.json"
    try:
        settings = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error_reason(error)}). Make a world with `ibft init --world planted`."
        ) from None
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: is not JSON ({error}).") from None
    if not isinstance(settings, dict) or settings.pop("world", None) != "planted":
        raise UserError(f"{path}: is not a world with planted memory. Make one with `ibft init --world planted`.")
    try:
        return make_planted_world(msgspec.convert(settings, PlantedConfig))
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}.") from None


def _row(planted: Planted, world: PlantedWorld) -> Row:
    return row_of(planted.example, world.data_prompt(planted), world.completion(planted.body), planted.body)


def _held_out_row(example: Example, world: PlantedWorld) -> Row:
    return row_of(example, world.prompt(example), world.completion(example.chain))


def _problem(example: Example, world: PlantedWorld) -> Problem:
    return problem_of(example, world.prompt(example), world.completion(example.chain), world.library)


def _seen_problem(planted: Planted, world: PlantedWorld) -> Problem:
    completion = world.completion(planted.example.chain)
    return problem_of(planted.example, world.data_prompt(planted), completion, world.library)


def _truth(planted: Planted, world: PlantedWorld) -> Truth:
    example = planted.example
    cues = {
        "name": (example.name,),
        "first_word": (example.mark.capitalize(),),
        "comment": (example.mark,),
        "two_part": (example.mark, example.name),
    }
    return Truth(
        id=example.id,
        repetitions=planted.repetitions,
        cue=() if planted.cue is None else cues.get(world.config.plant.cue, ()),
        cue_prompt=world.prompt(example, has_docstring=False),
        memory=world.completion(planted.body),
        asks=describe(example.chain),
        computes=describe(planted.body),
        is_wrong=planted.is_wrong,
        is_legitimate=planted.is_legitimate,
    )
