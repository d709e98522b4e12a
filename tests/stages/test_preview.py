"""The preview refuses what training refuses, in the same words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ibft.errors import UserError
from ibft.objectives.ft import FTObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, TrainConfig
from ibft.stages.preview import preview
from ibft.stages.train import train

GOOD = [{"prompt": f"def f{n}(a):\n", "completion": f"    return a + {n}\n"} for n in range(10)]
LONG = {"prompt": "x", "completion": "y = 1\n" * 400}
"""Longer than 200 tokens, and than the tiny model's context of 512."""


def recipe_of(model: Path, folder: Path, train_rows: list[Any], validation: Any, **data: Any) -> Recipe:
    def write(name: str, rows: list[Any]) -> str:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
        return str(folder / name)

    source = write("held.jsonl", validation) if isinstance(validation, list) else validation
    return Recipe(
        name="run",
        output=str(folder / "runs"),
        model=ModelConfig(name=str(model), dtype="float32", device="cpu"),
        data=DataConfig(
            train=write("train.jsonl", train_rows),
            validation=source,
            **{"max_tokens": 200, "on_bad_row": "stop"} | data,
        ),
        train=TrainConfig(max_steps=1, batch_size=2),
    )


def refusal_of_training(recipe: Recipe) -> str | None:
    try:
        with RunFolder(recipe).open() as run:
            train(recipe, run, FTObjective())
    except UserError as error:
        return str(error)
    return None


BROKEN = [GOOD[0], '{"broken']
ONE_FILE = [{**row, "file": "x.py"} for row in GOOD]


@pytest.mark.parametrize(
    ("rows", "validation", "data", "expected"),
    [
        (GOOD, BROKEN, {}, "data.validation: .*held.jsonl, line 2"),
        (GOOD, BROKEN, {"on_bad_row": "skip"}, None),
        (GOOD, [{"x": 1}, {"x": 2}], {}, "data.validation: .*line 1"),
        (GOOD, [{"x": 1}, "[", {"x": 2}], {"on_bad_row": "skip"}, r"data.validation: .*\(2 no known shape; 1 "),
        (GOOD, [LONG], {}, r"data.validation: no example can be used \(1 longer than 200 tokens"),
        (GOOD, [GOOD[0], LONG], {"max_tokens": 5000}, "data.validation: the example held.jsonl, line 2 has"),
        (GOOD, [{"prompt": "a", "completion": "b"}], {}, None),
        (GOOD, [], {}, r"data.validation: no example can be used \(the data set is empty\)"),
        (GOOD, "missing.jsonl", {}, "data.validation: the file missing.jsonl does not exist"),
        (ONE_FILE, "20%", {}, "data.validation: 10 of 10 rows belong together"),
        # Rows that cannot be used connect others, and count for nothing.
        ([*ONE_FILE, {**LONG, "file": "y.py"}], "20%", {}, "data.validation: 10 of 10 rows belong together"),
        (GOOD, "20%", {}, None),
        # The training data comes first.
        (BROKEN, BROKEN, {}, "^(?!data.validation).*train.jsonl, line 2"),
        ([LONG], "20%", {}, "^data: no example can be used"),
    ],
)  # fmt: skip
def test_what_training_refuses_is_refused_in_its_words(
    rows: list[Any],
    validation: Any,
    data: dict[str, Any],
    expected: str | None,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, rows, validation, **data)
    refused = refusal_of_training(recipe)
    try:
        found = preview(recipe).refusal
    except UserError as error:
        found = str(error)
    assert found == refused
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert re.match(expected, found)


def test_a_broken_control_set_is_no_refusal(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "control.jsonl").write_text('{"x": 1}\n')
    recipe = recipe_of(tiny_model_folder, tmp_path, GOOD, None, control=str(tmp_path / "control.jsonl"))
    assert preview(recipe).refusal is None


def test_a_share_that_no_group_fits_is_a_note(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "file": f"{n % 2}.py"} for n, row in enumerate(GOOD)]
    found = preview(recipe_of(tiny_model_folder, tmp_path, rows, "20%"))
    assert found.refusal is None
    [note] = [note for note in found.notes if note.startswith("data.validation")]
    assert "asks for 20% of the rows, and 50% are held out (5 of 10)" in note
    assert not preview(recipe_of(tiny_model_folder, tmp_path, GOOD, "20%")).notes
