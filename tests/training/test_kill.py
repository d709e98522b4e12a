"""kill -9 at any point: the same command then ends with the same adapter and the same log, bit for bit on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

KILLING = Path(__file__).with_name("killing.py")
CHECKPOINT = "/ib.partial/checkpoints/checkpoint-2"
IB = {"name": "ib", "layer": 2, "bottleneck_dim": 16}
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "ft": ({"name": "ft"}, "padded"),
    "paper": (IB, "sorted"),
    "in_path": (IB | {"form": "in_path"}, "padded"),
    "controlled": (IB | {"form": "controlled", "kl_target": 3.0}, "packed"),
    "held_out": (IB | {"form": "in_path"}, "packed"),
}
HELD_OUT = {"evaluate_every": 1, "keep": "best", "early_stopping": 2}


def write_recipe(folder: Path, model: Path, arm: str) -> Path:
    """Five optimizer steps over two epochs, accumulated, with dropout; a checkpoint where no log row is due."""
    objective, batching = ARMS[arm]
    rows = [{"prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 3)} for i in range(10)]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.yaml"
    train = {
        "max_steps": 5,
        "batch_size": 2,
        "gradient_accumulation": 2,
        "learning_rate": 1e-2,
        "log_every": 3,
        "save_every": 2,
        "batching": batching,
        "lora": {"rank": 4, "dropout": 0.1},
        **(HELD_OUT if arm == "held_out" else {}),
    }
    settings = {
        "output": str(folder / "runs"),
        "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"train": str(data), "validation": "20%" if arm == "held_out" else None},
        "objective": [objective],
        "train": train,
    }
    recipe.write_text(yaml.safe_dump(settings))
    return recipe


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CI": "1"}


# Some of about 60 points, which `python tests/training/killing.py RECIPE FOLDER` tries all: three seconds each.
@pytest.mark.parametrize(
    ("arm", "points"),
    [
        (
            "ft",
            ("after step 3", "half of adapter_model.safetensors", "os.remove optimizer.pt", "os.rename /ft.partial"),
        ),
        ("paper", ("after step 2", "half of bottleneck.pt", f"os.rename {CHECKPOINT}/.complete.tmp")),
        ("controlled", ("after step 4", "half of rng_state.pth", f"open {CHECKPOINT}/trainer_state.json")),
        ("in_path", ("after step 3", "os.rename /ib.partial/.summary.json.tmp")),
        (
            "held_out",
            ("after step 3", f"os.rename {CHECKPOINT}/.complete.tmp", "os.rename /ib.partial/.summary.json.tmp"),
        ),
    ],
)
def test_killed_anywhere_ends_the_same(
    tiny_model_folder: Path, tmp_path: Path, arm: str, points: tuple[str, ...]
) -> None:
    recipe = write_recipe(tmp_path, tiny_model_folder, arm)
    done = subprocess.run(
        [sys.executable, KILLING, recipe, tmp_path, *points],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"point": point, "differs": []} for point in points
    ]


def test_killed_from_outside_ends_the_same(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model_folder, "controlled")
    results = []
    for output in ("whole", "cut"):
        command = [sys.executable, "-m", "ibft.cli", "train", str(recipe), "--set", f"output={tmp_path / output}"]
        if output == "cut":
            process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
            while not list((tmp_path / output).rglob("checkpoint-2")):
                assert process.poll() is None
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (arm,) = (tmp_path / output).glob("*/train/*")
        results.append([(arm / name).read_bytes() for name in ("adapter/adapter_model.safetensors", "log.jsonl")])
    assert results[0] == results[1]
