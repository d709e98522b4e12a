import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ibft.cli import main
from ibft.data.training import stream_examples
from ibft.execution.inside import lockdown
from ibft.execution.isolation import detect_level
from ibft.execution.languages.python import PYTHON
from ibft.execution.outcome import Job
from ibft.execution.python_run import run_python
from ibft.execution.sandbox import Limits, Sandbox
from ibft.problems.loading import load_problems
from ibft.run.recipe import load_recipe
from ibft.worlds.chains import ChainsConfig, make_world
from ibft.worlds.files import to_problem, to_row, world_files, world_recipe
from ibft.worlds.probes import neighbors, run

SMALL = ChainsConfig(num_train=80, num_dev=6, num_test=12)
LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my chains")
    for name, content in world_files(SMALL).items():
        (folder / name).write_bytes(content)
    return folder


def test_the_same_settings_give_the_same_bytes_and_no_others_do() -> None:
    assert world_files(SMALL) == world_files(SMALL)
    contents = [world_files(ChainsConfig(seed=seed, num_train=80, num_dev=6, num_test=12)) for seed in range(3)]
    for name in ("train.jsonl", "dev.jsonl", "test.jsonl", "problems.jsonl", "dev_problems.jsonl", "world.json"):
        assert len({files[name] for files in contents}) == 3


def test_the_data_is_read_as_any_other(folder: Path) -> None:
    world = make_world(SMALL)
    for split in ("train", "dev", "test"):
        examples = list(stream_examples(str(folder / f"{split}.jsonl")))
        made = getattr(world, split)
        assert [example.pair.id for example in examples] == [example.id for example in made]
        assert [example.pair.completion for example in examples] == [world.completion(one) for one in made]
    row = to_row(world.test[0], world)
    assert row.tags == (f"depth-{len(world.test[0].chain)}", *dict.fromkeys(step.key for step in world.test[0].chain))
    assert json.loads((folder / "world.json").read_text())["num_test"] == 12
    assert (folder / f"{world.library.name}.py").read_text() == world.library.source


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_references_pass_outside_and_what_lacks_an_operation_fails(folder: Path) -> None:
    world = make_world(SMALL)
    problems = load_problems(str(folder / "problems.jsonl"))
    assert [problem.task_id for problem in problems] == [
        row.pair.id for row in stream_examples(str(folder / "test.jsonl"))
    ]
    with Sandbox(detect_level()) as sandbox:
        for problem, example in zip(problems, world.test, strict=True):
            reference = PYTHON.reference(
                Job(problem=problem, limits=LIMITS), PYTHON.prepare(problem), lambda **_: sandbox
            )
            assert (reference.status, reference.is_weak) == ("passed", False)
            shorter = example._replace(chain=example.chain[:-1], clauses=example.clauses[:-1])
            program = problem.prompt + world.completion(shorter)
            assert run_python(PYTHON.prepare(problem), program, sandbox, LIMITS).outcome.status == "failed"
        for stub in ("    pass\n", "    return xs\n", "    raise NotImplementedError\n", "    return []\n"):
            outcome = run_python(
                PYTHON.prepare(problems[0]), problems[0].prompt + stub, sandbox, LIMITS, inside=False
            ).outcome
            assert outcome.status == "failed"


def test_the_tests_say_no_to_every_neighbor_that_differs() -> None:
    world = make_world(SMALL)
    example = world.test[0]
    problem = to_problem(example, world)
    verdicts = []
    for neighbor in neighbors(example.chain, world.library.operations):
        namespace = {example.name: lambda xs, chain=neighbor: run(chain, xs)}
        try:
            exec(problem.tests, namespace)
        except AssertionError:
            verdicts.append(False)
        else:
            verdicts.append(True)
    assert verdicts.count(False) > 0.9 * len(verdicts)


def test_the_recipe_runs_on_the_folder_whatever_its_name(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(world_recipe(folder, "chains"))
    recipe = load_recipe(path)
    assert recipe.arms == ("base", "ft", "ib-controlled")
    assert Path(recipe.data.train) == folder / "train.jsonl"
    assert Path(recipe.problems.source).exists()
    assert Path(str(recipe.data.control)).exists()
    assert recipe.name.startswith("my-chains")
    assert yaml.safe_load(world_recipe(Path("a: b/#c"), "chains"))["data"]["train"] == "a: b/#c/train.jsonl"


@pytest.mark.slow
def test_the_recipe_runs_from_scan_to_report(
    folder: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_bytes(world_recipe(folder, "chains"))
    # What a tiny model of bytes needs: more tokens for the same text, and no skill.
    changes = (f"model.name={tiny_model_folder}", "data.max_tokens=500", "train.max_steps=2", "problems.limit=2")
    arguments = [argument for change in changes for argument in ("--set", change)]
    result = CliRunner().invoke(main, ["run", "recipe.yaml", *arguments])
    assert result.exit_code == 0, result.output
    [report] = Path("runs").glob("my-chains*/report/report.json")
    assert report.with_name("audit.html").exists()
