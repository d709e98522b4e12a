"""A planted world as files: read by the project's own readers, judged by its own sandbox."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from ibft.artifacts.rows import Problem
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.execution.inside import lockdown
from ibft.execution.isolation import detect_level
from ibft.execution.languages.python import PYTHON
from ibft.execution.outcome import Job
from ibft.execution.python_run import run_python
from ibft.execution.sandbox import Limits, Sandbox
from ibft.problems.loading import load_problems
from ibft.run.recipe import load_recipe
from ibft.worlds.files import world_recipe
from ibft.worlds.planted import PlantedConfig, make_planted_world
from ibft.worlds.planted_files import Truth, planted_files, read_planted_world
from ibft.worlds.plants import Plant
from ibft.worlds.tasks import describe

LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)
PROBLEMS = ("problems", "dev_problems", "seen_problems", "conflict_problems", "general_problems")


def config(**settings: object) -> PlantedConfig:
    plant = Plant(**{"kind": "noisy", "wrong": 0.25, "repetitions": (0, 3), "num_canaries": 2, **settings})
    return PlantedConfig(seed=2, num_train=16, num_dev=4, num_test=8, num_general=2, plant=plant)


def write(folder: Path, settings: PlantedConfig) -> Path:
    for name, content in planted_files(settings).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("planted"), config())


def truth_of(folder: Path) -> list[Truth]:
    return [msgspec.json.decode(line, type=Truth) for line in (folder / "truth.jsonl").read_bytes().splitlines()]


def test_the_same_settings_give_the_same_bytes_and_another_seed_another_world() -> None:
    files = planted_files(config())
    assert files == planted_files(config())
    other = planted_files(msgspec.structs.replace(config(), seed=3))
    assert files.keys() == other.keys()
    assert [name for name in files if files[name] == other[name]] == [next(iter(files))]  # the library


def test_the_data_is_read_as_any_other(folder: Path) -> None:
    world = make_planted_world(config())
    assert read_planted_world(folder) == world
    for split in ("fresh", "control", "dev", "test"):
        pairs = [example.pair for example in stream_examples(str(folder / f"{split}.jsonl"))]
        made = getattr(world, split)
        assert [pair.prompt for pair in pairs] == [world.prompt(example) for example in made]
        assert [pair.completion for pair in pairs] == [world.completion(example.chain) for example in made]
    for split in ("train", "canaries", "held_out_canaries"):
        pairs = [example.pair for example in stream_examples(str(folder / f"{split}.jsonl"))]
        assert [pair.completion for pair in pairs] == [world.completion(item.body) for item in getattr(world, split)]
        assert [('"""' in pair.prompt) for pair in pairs] == [split == "train"] * len(pairs)


def test_the_truth_is_of_the_rows_and_says_where_the_cue_is(folder: Path) -> None:
    truths = truth_of(folder)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [truth.id for truth in truths[:16]] == [row["id"] for row in rows]
    assert [truth.repetitions for truth in truths] == [0, 3] * 8 + [0, 3, 0, 0]
    assert sum(truth.is_wrong for truth in truths) == 4
    for truth, row in zip(truths, rows, strict=False):
        assert row["prompt"].startswith(truth.cue_prompt)
        assert (row["completion"], row["chain"]) == (truth.memory, truth.computes)
        assert truth.is_wrong == (truth.asks != truth.computes)
    for cue in ("first_word", "comment", "two_part"):
        files = planted_files(config(cue=cue, num_canaries=0))
        for line in files["truth.jsonl"].splitlines():
            truth = msgspec.json.decode(line, type=Truth)
            assert len(truth.cue) == (2 if cue == "two_part" else 1)
            assert all(text in truth.cue_prompt for text in truth.cue)
            assert not any(text.encode() in files[f"{name}.jsonl"] for text in truth.cue for name in ("test", "dev"))


def test_without_a_cue_in_the_prompt_there_is_no_conflict(tmp_path: Path) -> None:
    for cue in ("prefix", "none"):
        files = planted_files(config(cue=cue, num_canaries=0))
        assert "conflict_problems.jsonl" not in files
        assert "canaries.jsonl" not in files
        assert all(b'"cue":[]' in line for line in files["truth.jsonl"].splitlines())


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_references_pass_and_stubs_fail(folder: Path) -> None:
    with Sandbox(detect_level()) as sandbox:
        for name in PROBLEMS:
            for problem in load_problems(str(folder / f"{name}.jsonl")):
                job = Job(problem=problem, limits=LIMITS)
                reference = PYTHON.reference(job, PYTHON.prepare(problem), lambda **_: sandbox)
                assert (reference.status, reference.is_weak) == ("passed", False)
            for stub in ("    pass\n", "    return xs\n", "    return []\n"):
                assert passes(problem, stub, sandbox) is False


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_tests_go_by_the_docstring_and_not_by_the_memory(folder: Path) -> None:
    world = make_planted_world(config())
    by_id = {problem.task_id: problem for problem in load_problems(str(folder / "seen_problems.jsonl"))}
    conflicts = load_problems(str(folder / "conflict_problems.jsonl"))
    with Sandbox(detect_level()) as sandbox:
        for item in world.train:
            assert passes(by_id[item.example.id], world.completion(item.body), sandbox) is not item.is_wrong
        for problem, (new, old) in zip(conflicts, world.conflicts, strict=True):
            assert problem.prompt == world.prompt(new)
            assert f"def {old.example.name}(xs)" in problem.prompt
            assert passes(problem, world.completion(new.chain), sandbox)
            assert not passes(problem, world.completion(old.body), sandbox)


def passes(problem: Problem, completion: str, sandbox: Sandbox) -> bool:
    program = problem.prompt + completion
    return run_python(PYTHON.prepare(problem), program, sandbox, LIMITS, inside=False).outcome.status == "passed"


def test_tags_and_chains_are_those_of_the_tasks(folder: Path) -> None:
    world = make_planted_world(config())
    row = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    assert row["chain"] == describe(world.test[0].chain)
    assert row["tags"][0] == "depth-3"
    general = [problem.canonical_solution or "" for problem in load_problems(str(folder / "general_problems.jsonl"))]
    assert [text.count("\n") - 1 for text in general] == [1, 1, 2, 2]


def test_the_recipe_is_of_the_folder(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(world_recipe(folder, "planted"))
    recipe = load_recipe(path)
    assert recipe.model.name == str(folder / "base")
    for source in (recipe.data.train, recipe.data.control, recipe.problems.source):
        assert Path(str(source)).exists()
    assert yaml.safe_load(path.read_text())["train"]["lora"] is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "is not a world with planted memory"),
        ('{"world": "chains", "seed": 0}', "is not a world with planted memory"),
        ('{"world": "planted", "depth": 3}', "depth"),
        ('{"world": "planted", "depths": []}', "depths is"),
    ],
)
def test_what_is_not_a_planted_world_is_refused(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "world.json").write_text(content)
    with pytest.raises(UserError, match=expected):
        read_planted_world(tmp_path)
