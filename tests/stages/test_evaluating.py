"""`train.evaluate_problems` from the command line: what is written, what is said, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ibft.artifacts.evaluations import EvaluatedAnswer
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.cli import main
from ibft.errors import UserError
from ibft.run.recipe import Recipe
from ibft.run.sections import EvaluateConfig, TrainConfig
from ibft.stages.identity import train_inputs

OBJECTIVES = [{"name": "ft"}, {"name": "ib", "layer": 2, "bottleneck_dim": 16}]
EVALUATION = {"evaluate_problems": {"source": "held.jsonl", "max_new_tokens": 8}, "evaluate_problems_every": 2}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def problems(numbers: range) -> list[dict[str, Any]]:
    return [
        {"task_id": f"t/{n}", "prompt": f"def f{n}(x):\n", "tests": f"assert f{n}(1) == {n}", "entry_point": f"f{n}"}
        for n in numbers
    ]


@pytest.fixture
def place(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recipes of five steps, `with.yaml` and `without.yaml`, and what they name."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.jsonl", [{"prompt": f"def g{n}(a):\n", "completion": f"    return {n}\n"} for n in range(9)])
    write(tmp_path / "problems.jsonl", problems(range(2)))
    write(tmp_path / "held.jsonl", problems(range(2, 4)))
    recipe: dict[str, Any] = {
        "model": {"name": str(tiny_model_folder), "dtype": "float32", "device": "cpu"},
        "data": {"train": "data.jsonl"},
        "objective": OBJECTIVES,
        "train": {
            "max_steps": 5,
            "batch_size": 2,
            "save_every": 3,
            "log_every": 2,
            "lora": {"rank": 2, "dropout": 0.2},
        },
        "problems": {"source": "problems.jsonl"},
        "generate": {"num_samples": 1, "max_new_tokens": 4, "elicit": []},
        "report": {"k": [1], "bootstrap_resamples": 20},
        "scan": {"max_shown": 0},
    }
    (tmp_path / "without.yaml").write_text(yaml.safe_dump(recipe))
    recipe["train"] |= EVALUATION
    (tmp_path / "with.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path


def ibft(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def done(*arguments: str) -> str:
    result = ibft(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_adapter_is_the_same_and_the_evaluations_are_beside_it(place: Path) -> None:
    for name in ("without", "with"):
        done("train", f"{name}.yaml")
    for arm in ("ft", "ib"):
        without, evaluated = (place / "runs" / name / "train" / arm for name in ("without", "with"))
        weights = "adapter/adapter_model.safetensors"
        assert (evaluated / weights).read_bytes() == (without / weights).read_bytes()
        names = [{path.name for path in folder.iterdir()} for folder in (without, evaluated)]
        assert names[1] - names[0] == {"evaluations.jsonl"}
        assert names[0] <= names[1]
        answers = list(read_rows(evaluated / "evaluations.jsonl", EvaluatedAnswer))
        assert [(row.step, row.task_id) for row in answers] == [(2, "t/2"), (2, "t/3"), (4, "t/2"), (4, "t/3")]
        assert all(row.status is not None and row.result for row in answers)
        log = list(read_rows(evaluated / "log.jsonl", TrainingLog))
        assert [row.step for row in log if "eval_pass@1" in row.metrics] == [2, 4]
        assert [row.step for row in log] == sorted(row.step for row in log)
        rest = [row for row in log if "eval_pass@1" not in row.metrics]
        assert rest == list(read_rows(without / "log.jsonl", TrainingLog))
        identities = [json.loads((folder / "stage.json").read_text())["identity"] for folder in (without, evaluated)]
        assert identities[0] == identities[1]


def test_a_complete_arm_is_not_trained_again_and_it_is_said(place: Path) -> None:
    done("train", "without.yaml", "--arm", "ft")
    adapter = place / "runs" / "without" / "train" / "ft" / "adapter" / "adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    output = done("train", "with.yaml", "--arm", "ft", "--set", "name=without")
    assert "this arm is complete and was trained without train.evaluate_problems" in output
    assert adapter.stat().st_mtime_ns == before
    done("train", "with.yaml", "--arm", "ft")
    assert "this arm is complete" not in done("train", "with.yaml", "--arm", "ft")  # its evaluations are there


def test_problems_of_the_report_are_not_used_without_a_word(place: Path) -> None:
    mixed = problems(range(1, 4))
    write(place / "mixed.jsonl", mixed)
    output = done("train", "with.yaml", "--arm", "ft", "--set", "train.evaluate_problems.source=mixed.jsonl")
    assert "1 of the 3 problems of train.evaluate_problems are in problems, too" in output
    assert "are in problems, too" not in done("train", "with.yaml", "--arm", "ib")
    done("train", "with.yaml", "--arm", "ib", "--set", "name=other", "--set", "problems.source=gone.jsonl")


def test_what_is_missing_is_refused_before_anything_is_made(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untested = problems(range(1))
    untested[0]["tests"] = " "
    write(place / "untested.jsonl", untested)
    for source, words in (("gone.jsonl", "gone.jsonl"), ("untested.jsonl", "empty tests")):
        result = ibft("run", "with.yaml", "--set", f"train.evaluate_problems.source={source}")
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())

    def none_works() -> None:
        raise UserError("no sandbox works here")

    monkeypatch.setattr("ibft.execution.settings.detect_level", none_works)
    result = ibft("train", "with.yaml")
    assert (result.exit_code, "no sandbox works here" in result.output) == (2, True)
    assert not (place / "runs").exists()


def test_the_report_has_the_curve(place: Path) -> None:
    done("run", "with.yaml")
    page = (place / "runs" / "with" / "report" / "report.html").read_text()
    assert "Pass@1 while training" in page


def test_how_often_without_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"evaluate_problems_every is 5, and there are no train\.evaluate_problems"):
        TrainConfig(evaluate_problems_every=5)


def test_an_evaluation_is_no_part_of_the_training_s_identity(place: Path) -> None:
    recipes = [
        Recipe(name="r", train=train)
        for train in (TrainConfig(), TrainConfig(evaluate_problems=EvaluateConfig(), evaluate_problems_every=3))
    ]
    first, second = (train_inputs(recipe, recipe.objective[0], must_exist=False) for recipe in recipes)
    assert first == second
