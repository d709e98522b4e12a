"""The alarms of an arm in the terminal and in its summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ibft import progress
from ibft.artifacts.rows import TrainingLog
from ibft.cli.stages import warn_of_alarms
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, LoraConfig, ModelConfig, TrainConfig
from ibft.stages.train import train
from ibft.training.callbacks import AlarmBell

Terminal = Callable[[], list[str]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """The lines that the command line has shown since the last call."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(progress, "_enabled", False)  # put back after the test
    progress.enable()
    return lambda: capsys.readouterr().err.splitlines()


def ring(bell: AlarmBell, ratios: list[float], first_step: int = 1) -> None:
    for step, ratio in enumerate(ratios, start=first_step):
        logs: dict[str, Any] = {"loss": 1.0, "ib/alpha": 0.2, "ib/grad_ratio": ratio}
        state = SimpleNamespace(global_step=step, max_steps=100)
        bell.on_log(None, state, None, logs=logs)
        bell.on_log(None, state, None, logs={"eval_loss": 1.0})


def test_the_bell_rings_once_for_each_kind_with_the_first_figures(terminal: Terminal) -> None:
    bell = AlarmBell(IBObjective(arm="mine"))
    ring(bell, [20.0, 30.0])
    assert terminal() == []
    ring(bell, [40.0, *[50.0] * 20, *[0.001] * 20], first_step=3)
    first, second = terminal()
    assert first.startswith("Overload alarm, mine: ")
    assert "all 3 logged steps from 1 to 3, up to 40 times" in first
    assert second.startswith("Collapse alarm, mine: ")
    assert "since step 24" in second


def test_the_bell_is_silent_for_a_healthy_arm_and_in_the_warm_up(terminal: Terminal) -> None:
    ring(AlarmBell(IBObjective()), [1.0] * 20)
    ring(AlarmBell(IBObjective(form="corrected", warmup=0.2)), [0.001] * 20)
    assert terminal() == []
    ring(AlarmBell(IBObjective(form="corrected", warmup=0.1)), [0.001] * 20)
    [line] = terminal()
    assert line.startswith("Collapse alarm, ib: ")


def test_a_gauge_that_is_not_finite_is_no_reading(terminal: Terminal) -> None:
    ring(AlarmBell(IBObjective()), [20.0, float("nan"), float("inf"), 20.0])
    assert terminal() == []


def test_library_use_stays_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_enabled", False)
    ring(AlarmBell(IBObjective()), [20.0] * 5)
    assert capfd.readouterr() == ("", "")


def test_an_arm_without_a_bottleneck_has_no_alarm() -> None:
    rows = [TrainingLog(step, {"ib/alpha": 0.2, "ib/grad_ratio": 20.0}) for step in range(5)]
    assert FTObjective().alarms(rows, 5) == []
    assert [alarm.kind for alarm in IBObjective().alarms(rows, 5)] == ["overload"]


def test_a_warning_stands_above_the_bar_and_is_given_once(terminal: Terminal) -> None:
    with progress.task("Training ib", total=3) as bar:
        bar.advance()
        progress.warn("Overload alarm, ib", "[these] are not markup.")
        progress.warn("Overload alarm, ib", "Other figures.")
    warning, line = terminal()
    assert warning == "Overload alarm, ib: [these] are not markup."
    assert "Training ib" in line


def test_a_run_that_is_the_bottlenecks_alone_says_so(
    tiny_model_folder: Path, tmp_path: Path, terminal: Terminal
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"prompt": "def f{i}(a):", "completion": " return a"}}\n' for i in range(8)))
    recipe = Recipe(
        name="run",
        output=str(tmp_path),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train=str(data)),
        train=TrainConfig(max_steps=4, batch_size=2, log_every=1, lora=LoraConfig(rank=2)),
    )
    with RunFolder(recipe).open() as run:
        train(recipe, run, IBObjective(layer=2, bottleneck_dim=16, alpha=1e6))
        summary = json.loads((run.path / "train" / "ib" / "summary.json").read_text())
    [alarm] = summary["alarms"]
    assert (alarm["kind"], alarm["first_step"], alarm["last_step"]) == ("overload", 1, 4)
    assert [line for line in terminal() if line.startswith("Overload alarm, ib: ")]


def test_train_says_at_its_end_what_no_bell_has_said(tmp_path: Path, terminal: Terminal) -> None:
    """A complete arm is not trained again: its alarms are in its summary."""
    run = RunFolder(Recipe(name="run", output=str(tmp_path)))
    folder = run.path / "train" / "ib"
    folder.mkdir(parents=True)
    common = {"first_step": 1, "last_step": 9, "message": "It is."}
    alarms = [{"kind": kind, **common} for kind in ("overload", "collapse")]
    (folder / "summary.json").write_text(json.dumps({"steps": 9, "alarms": alarms}))
    ring(AlarmBell(IBObjective()), [20.0] * 3)
    warn_of_alarms(run)
    assert [line.split(": ")[0] for line in terminal()] == ["Overload alarm, ib", "Collapse alarm, ib"]
