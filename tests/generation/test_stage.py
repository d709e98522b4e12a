"""The generate stage on a tiny model: an arm's samples, and the base in every format."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Pair, Problem, Sample
from ibft.errors import UserError
from ibft.pages.elicitation import read_elicitation
from ibft.pages.forgetting import read_forgetting
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, GenerateConfig, JudgeConfig, ModelConfig, ProblemsConfig, PromptConfig
from ibft.run.stage import read_record
from ibft.stages.generate import generate
from ibft.stages.judge import judge


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path) -> Recipe:
    problems = [
        Problem(
            task_id=f"t/{n}",
            prompt=f'def f{n}(x):\n    """Add."""\n',
            tests=f"assert f{n}(1) == 2",
            entry_point=f"f{n}",
        )
        for n in range(2)
    ]
    pairs = [Pair(str(n), f"def g{n}(x):\n", f"    return x + {n}\n") for n in range(4)]
    write_rows(tmp_path / "problems.jsonl", problems)
    write_rows(tmp_path / "pairs.jsonl", pairs)
    return Recipe(
        name="run",
        output=str(tmp_path),
        model=ModelConfig(name=str(tiny_model_folder), device="cpu", dtype="float32"),
        prompt=PromptConfig(template="plain"),
        data=DataConfig(train=str(tmp_path / "pairs.jsonl")),
        problems=ProblemsConfig(source=str(tmp_path / "problems.jsonl")),
        generate=GenerateConfig(num_samples=2, temperature=0.5, max_new_tokens=8),
        judge=JudgeConfig(cache=False, workers=1, sandbox="none"),
    )


def folders(recipe: Recipe) -> list[str]:
    return sorted(path.name for path in (Path(recipe.output) / "run" / "generate").iterdir())


ALL = ["base", "base@chat", "base@chat_begun", "base@examples", "base@instruction", "base@plain"]


def test_the_base_is_asked_in_every_format_and_judged_in_each(recipe: Recipe) -> None:
    run = RunFolder(recipe)

    generate(recipe, run, "base")

    assert folders(recipe) == ALL
    for name in ALL:
        samples = list(read_rows(run.path / "generate" / name / "samples.jsonl", Sample))
        assert [(row.task_id, row.index) for row in samples] == [
            (f"t/{n}", index) for n in range(2) for index in range(2 if name == "base" else 1)
        ]
    assert sorted(run.asked()[:6]) == ALL
    for name in run.asked()[:6]:
        judge(recipe, run, name)
    found = read_elicitation(recipe, run)
    assert found is not None
    assert len(found.asked) == 5
    assert found.gains == {}  # no other arm has been asked


def test_nothing_is_drawn_twice_and_only_the_formats_that_are_asked_for(recipe: Recipe) -> None:
    some = msgspec.structs.replace(recipe, generate=msgspec.structs.replace(recipe.generate, elicit=("chat",)))
    generate(some, RunFolder(some), "base")
    assert folders(recipe) == ["base", "base@chat", "base@plain"]  # its own format, too, greedily
    times = {name: (Path(recipe.output) / "run" / "generate" / name).stat().st_mtime_ns for name in folders(recipe)}

    generate(recipe, RunFolder(recipe), "base")

    assert folders(recipe) == ALL
    assert all((Path(recipe.output) / "run" / "generate" / name).stat().st_mtime_ns == at for name, at in times.items())


def test_greedy_samples_are_not_drawn_again(recipe: Recipe) -> None:
    greedy = msgspec.structs.replace(
        recipe, generate=msgspec.structs.replace(recipe.generate, temperature=0.0, elicit=("instruction",))
    )
    generate(greedy, RunFolder(greedy), "base")
    assert folders(recipe) == ["base", "base@instruction"]


def test_other_examples_are_other_answers(recipe: Recipe) -> None:
    some = msgspec.structs.replace(recipe, generate=msgspec.structs.replace(recipe.generate, elicit=("examples",)))
    run = RunFolder(some)
    generate(some, run, "base")
    record = read_record(run.path / "generate" / "base@examples")
    assert record is not None
    assert len(record.inputs["examples"]) == 2
    other = Path(recipe.output) / "other.jsonl"
    write_rows(other, [Pair("h", "def h():\n", "    pass\n")])
    changed = msgspec.structs.replace(some, data=DataConfig(train=str(other)))

    with pytest.raises(UserError, match="made from a different recipe"):
        generate(changed, RunFolder(changed), "base")


def test_an_empty_list_asks_nothing_more(recipe: Recipe) -> None:
    none = msgspec.structs.replace(recipe, generate=msgspec.structs.replace(recipe.generate, elicit=()))
    run = RunFolder(none)
    generate(none, run, "base")
    assert folders(recipe) == ["base"]
    assert run.asked() == ["base", "ft", "ib"]


def test_what_was_forgotten_is_asked_on_the_second_benchmark(recipe: Recipe) -> None:
    second = Path(recipe.output) / "second.jsonl"
    write_rows(second, [Problem(task_id="s/0", prompt="def h():\n", tests="assert h() == 1", entry_point="h")])
    both = msgspec.structs.replace(
        recipe,
        forgetting=ProblemsConfig(source=str(second)),
        generate=msgspec.structs.replace(recipe.generate, elicit=()),
    )
    run = RunFolder(both)

    generate(both, run, "base")

    assert folders(recipe) == ["base", "base@forgetting"]
    assert run.asked()[:2] == ["base", "base@forgetting"]
    assert judge(both, run, "base@forgetting").num_problems == 1
    found = read_forgetting(both, run)
    assert found is not None
    assert (found.num_problems, list(found.pass_at_1), found.differences) == (1, ["base"], [])
