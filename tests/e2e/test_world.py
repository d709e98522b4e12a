"""A planted world end to end, as a user types it: world, base, recipe, report, gauges of what was trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = {"seed": 1, "num_operations": 10, "num_train": 24, "num_dev": 12, "num_test": 6, "num_general": 2}
TINY = {
    "train.max_steps": 2,
    "train.batch_size": 4,
    "generate.num_samples": 2,
    "generate.batch_size": 64,
    "report.k": "[1,2]",
    "report.bootstrap_resamples": 100,
}

pytestmark = pytest.mark.slow


def ibft(folder: Path, *arguments: str) -> str:
    """Run a command that succeeds, and return what it prints."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ibft"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def settings(values: dict[str, object]) -> list[str]:
    return [text for name, value in values.items() for text in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBFT_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        ibft(folder, "init", "--world", "planted", "W", *settings({**SETTINGS, "plant.repetitions": 8}))
        steps = {"general_steps": 40, "planted_steps": 20, "batch_size": 32}
        ibft(folder, "world", "pretrain", "W", *settings(steps))
        ibft(folder, "run", "W/recipe.yaml", *settings(TINY))
        lora = {**TINY, "name": "lora", "train.lora.rank": 2, "objective": "ft"}
        ibft(folder, "run", "W/recipe.yaml", *settings(lora))
    return folder


def test_the_recipe_runs_unchanged(folder: Path) -> None:
    report = json.loads((folder / "runs" / "W" / "report" / "report.json").read_text())
    assert {arm["name"] for arm in report["arms"]} == {"base", "ft", "ib-controlled"}
    summary = json.loads((folder / "runs" / "W" / "scan" / "summary.json").read_text())
    assert {name: subset["num_scored"] for name, subset in summary["subsets"].items()} == {"train": 24, "control": 12}
    assert summary["extraction"]["train"]["num_examples"] > 12  # answers as short as these are long enough


def test_gauges_take_a_base_and_an_arm_of_either_kind(folder: Path) -> None:
    measured = {
        name: json.loads(ibft(folder, "world", "gauges", "W", *names, "--json"))
        for name, names in {
            "base": (),
            "whole": ("runs/W/train/ft",),
            "model": ("runs/W/train/ft/model",),
            "adapter": ("runs/lora/train/ft",),
        }.items()
    }
    assert measured["whole"] == measured["model"]
    assert len({json.dumps(measured[name]) for name in ("base", "whole", "adapter")}) == 3
    assert measured["base"]["unseen"]["num_problems"] == 6
    assert [row["repetitions"] for row in measured["base"]["recitation"]] == [8]
    table = ibft(folder, "world", "gauges", "W")
    assert "unseen compositions" in table
    assert "obeys cue" in table


def test_what_is_missing_is_a_sentence(folder: Path) -> None:
    for arguments, expected in (
        (("world", "gauges", "W", "runs"), "runs: is not a model's folder"),
        (("world", "pretrain", "W"), "exists already"),
        (("world", "pretrain", "W", "--out", "B", "--set", "planted_steps=1"), "Lower plant.repetitions"),
        (("world", "pretrain", "runs"), "cannot be read"),
        (("init", "--world", "planted", "W"), "exists already"),
        (("init", "--world", "planted", "V", "--set", "plant.kind=loud"), "plant.kind"),
    ):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ibft"), *arguments], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 2, arguments
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "V").exists()
