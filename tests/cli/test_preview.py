import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ibft.cli import main

ROWS: list[Any] = [
    {"id": f"row {n}", "prompt": f"def f{n}(x):\n", "completion": f"    return x * {n}\n"} for n in range(30)
]


def look(model: Path, folder: Path, rows: list[Any], *options: str, **data: Any) -> Result:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "r",
        "output": str(folder / "runs"),
        "model": {"name": str(model)},
        "data": {"train": str(folder / "data.jsonl"), "max_tokens": 300} | data,
        "problems": {"source": str(folder / "missing.jsonl")},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return CliRunner().invoke(main, ["preview", str(folder / "recipe.json"), *options])


@pytest.fixture
def weightless(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model without its weights."""
    folder = tmp_path / "weightless"
    folder.mkdir()
    for path in tiny_model_folder.iterdir():
        if path.suffix != ".safetensors":
            os.link(path, folder / path.name)
    return folder


def test_data_is_shown_without_weights_and_nothing_is_written(weightless: Path, tmp_path: Path) -> None:
    done = look(weightless, tmp_path, ROWS, "-n", "3")
    assert done.exit_code == 0, done.output
    assert "row 0: " in done.output
    assert "def f0(x):⟦↵" in done.output, "the line break and the indentation are one token, which is trained"
    assert "····return x * 0↵\n«<eos>»⟧" in done.output
    assert done.output.count(" trained\n") == 3
    assert "30 of 30 rows are used, none skipped." in done.output
    assert "█" in done.output
    assert "The data was not compared with" in done.output
    assert not (tmp_path / "runs").exists()


def test_json_is_one_object_and_has_the_facts(weightless: Path, tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[3], {"prompt": "x", "completion": "y " * 400}, {"nothing": 1}]
    control = tmp_path / "control.jsonl"
    control.write_text(json.dumps(ROWS[2]) + "\n")
    done = look(weightless, tmp_path, rows, "--json", "-n", "2", on_bad_row="skip", control=str(control))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["name"], found["template"], found["context_tokens"]) == ("r", "plain", 512)
    train, held_out = found["sets"]
    assert (train["num_rows"], train["num_examples"], train["num_skipped"]) == (33, 31, 2)
    assert {reason["reason"] for reason in train["skipped"]} == {"longer than 300 tokens", "no known shape"}
    assert held_out["name"] == "control"
    assert [repeats["num_exact"] for repeats in found["repeats"]] == [1, 1]
    assert found["examples"][0]["id"] == "row 0"
    assert len(found["examples"]) == 2
    runs = found["examples"][0]["runs"]
    assert sum(len(run["ids"]) for run in runs) == found["examples"][0]["num_tokens"]


def test_data_that_training_refuses_is_shown_and_then_refused(weightless: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = look(weightless, tmp_path, [*ROWS[:5], {"nothing": 1}], "--json", "--html", str(page))
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert found["sets"][0]["num_examples"] == 5
    assert found["refusal"].startswith("data: ") or "line 6" in found["refusal"]
    assert f"Error: {found['refusal']}" in done.stderr
    assert "Training would stop at this data" in page.read_text()
    skipping = look(weightless, tmp_path, [*ROWS[:5], {"nothing": 1}], on_bad_row="skip")
    assert skipping.exit_code == 0
    assert "16.7% OF THE DATA IS NOT TRAINED" in skipping.output


def test_several_sources_are_counted_each(weightless: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("not json\n" + json.dumps(ROWS[1]) + "\nnot json\n")
    sources = [str(other), str(tmp_path / "data.jsonl")]
    done = look(weightless, tmp_path, ROWS[:4], "--json", train=sources, on_bad_row="skip")
    counts = [(s["num_examples"], s["num_skipped"]) for s in json.loads(done.stdout)["sets"][0]["sources"]]
    assert counts == [(1, 2), (4, 0)]


def test_a_file_that_is_missing_is_one_sentence(weightless: Path, tmp_path: Path) -> None:
    done = look(weightless, tmp_path, ROWS, train=str(tmp_path / "nowhere.jsonl"))
    assert done.exit_code == 2
    assert "nowhere.jsonl does not exist" in done.stderr
    assert "Traceback" not in done.output
