"""Processes and kill -9 while a run evaluates: the same adapter, log and evaluations come out, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

KILLING = Path(__file__).parents[1] / "training" / "killing.py"


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Six steps, evaluated at every second one; a checkpoint at every third."""
    rows = [{"prompt": f"def f{n}(a):\n", "completion": f"    return a + {n}\n"} for n in range(10)]
    problems = [
        {"task_id": f"t/{n}", "prompt": f"def f{n}(x):\n", "tests": f"assert f{n}(1) == {n}", "entry_point": f"f{n}"}
        for n in range(2)
    ]
    for name, content in (("data", rows), ("held", problems)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    settings: dict[str, Any] = {
        "name": "run",
        "model": {"name": str(tiny_model_folder), "dtype": "float32", "device": "cpu"},
        "data": {"train": str(tmp_path / "data.jsonl")},
        "objective": [{"name": "ib", "layer": 2, "bottleneck_dim": 16}],
        "train": {
            "max_steps": 6,
            "batch_size": 2,
            "learning_rate": 1e-2,
            "log_every": 2,
            "save_every": 3,
            "lora": {"rank": 4, "dropout": 0.1},
            "evaluate_problems": {"source": str(tmp_path / "held.jsonl"), "max_new_tokens": 12},
            "evaluate_problems_every": 2,
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CI": "1", "IBFT_CACHE": str(folder / "cache")}


def test_killed_anywhere_ends_the_same(recipe: Path, tmp_path: Path) -> None:
    points = (
        "after step 2",  # before its evaluation
        "after step 4",
        "open /ib.partial/evaluations.partial.jsonl",
        "os.rename /ib.partial/.evaluations.jsonl.tmp",
        "os.remove /ib.partial/evaluations.partial.jsonl",
        "os.rename /ib.partial/.log.jsonl.tmp",
    )
    done = subprocess.run(
        [sys.executable, KILLING, recipe, tmp_path, *points],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"point": point, "differs": []} for point in points
    ]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(
    "is_time",
    [
        lambda arm: lines(arm / "evaluations.partial.jsonl") == 2,
        lambda arm: lines(arm / "evaluations.jsonl") == 2,
        lambda arm: (arm / "checkpoints" / "checkpoint-3" / "complete").exists(),
    ],
    ids=["generated", "judged", "checkpoint"],
)
def test_killed_from_outside_ends_the_same(recipe: Path, tmp_path: Path, is_time: Callable[[Path], bool]) -> None:
    results = []
    for output in ("whole", "cut"):
        command = [sys.executable, "-m", "ibft.cli", "train", str(recipe), "--set", f"output={tmp_path / output}"]
        if output == "cut":
            process = subprocess.Popen(command, env=environment(tmp_path), stderr=subprocess.DEVNULL)
            while not is_time(tmp_path / output / "run" / "train" / "ib.partial"):
                assert process.poll() is None
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        arm = tmp_path / output / "run" / "train" / "ib"
        names = ("adapter/adapter_model.safetensors", "log.jsonl", "evaluations.jsonl")
        results.append([(arm / name).read_bytes() for name in names])
        assert not (arm / "evaluations.partial.jsonl").exists()
    assert results[0] == results[1]
    assert lines(arm / "evaluations.jsonl") == 6


def test_of_two_processes_one_evaluates_and_the_adapter_is_the_same(recipe: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    weights = []
    settings = yaml.safe_load(recipe.read_text())
    for name in ("with", "without"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings | {"name": name, "output": str(tmp_path / "two")}))
        command = [*launcher, "-m", "ibft.cli", "train", str(path)]
        done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        arm = tmp_path / "two" / name / "train" / "ib"
        weights.append((arm / "adapter" / "adapter_model.safetensors").read_bytes())
        assert lines(arm / "evaluations.jsonl") == (6 if name == "with" else 0)
        for key in ("evaluate_problems", "evaluate_problems_every"):
            settings["train"].pop(key, None)
    assert weights[0] == weights[1]
