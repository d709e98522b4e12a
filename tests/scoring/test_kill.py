"""kill -9 of `ibft scan`, and several processes of it: the table is the same, byte for byte on a CPU."""

from __future__ import annotations

import contextlib
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

KILLING = Path(__file__).with_name("killing.py")

SCAN = """
import os, sys
from ibft.scoring import blocks, forward

blocks.BLOCK = 6
begin_batch = forward.begin_batch
def noted(*arguments):
    with open({note!r} + os.environ.get("RANK", ""), "a") as file:
        file.write("x")
    return begin_batch(*arguments)
forward.begin_batch = noted
from ibft.cli import main
main(sys.argv[1:])
"""


def environment() -> dict[str, str]:
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    inherited = {name: value for name, value in os.environ.items() if name not in launched}
    return inherited | {"OMP_NUM_THREADS": "1", "CI": "1"}


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Four blocks of training data, some of it without scores, and two of the control set."""
    rows: list[dict[str, Any]] = [
        {"id": f"f{n % 5}", "prompt": f"def f{n}(a):\n", "completion": f"    return a + {n}\n" * (1 + n % 4)}
        for n in range(20)
    ]
    rows.insert(7, {"prompt": "def g():\n", "completion": ""})
    control = [row | {"prompt": f"# other\n{row['prompt']}"} for row in rows[:8]]
    for name, some in (("data", rows), ("control", control)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    settings = {
        "name": "run",
        "output": str(tmp_path / "runs"),
        "model": {"name": str(tiny_model_folder), "dtype": "float32", "device": "cpu"},
        "data": {"train": str(tmp_path / "data.jsonl"), "control": str(tmp_path / "control.jsonl"), "max_tokens": 200},
        "scan": {"batch_tokens": 100, "max_shown": 2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def killed(recipe: Path, what: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(KILLING), str(recipe), str(recipe.parent), what],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_killed_at_random_times_until_it_ends(recipe: Path) -> None:
    [scan] = killed(recipe, "1")
    assert scan["differs"] == []
    assert scan["killed"] >= 1


@pytest.mark.slow
def test_killed_wherever_it_touches_the_disk(recipe: Path) -> None:
    scans = killed(recipe, "points")
    points = [scan["killed"] for scan in scans]
    assert {scan["killed"]: scan["differs"] for scan in scans if scan["differs"]} == {}
    for what in (
        "open /run/scan.partial/blocks/train-000000.partial.jsonl",
        "os.rename /run/scan.partial/blocks/control-000001.partial.jsonl",
        "os.rename /run/scan.partial/.scores.parquet.tmp",
        "os.remove train-000000.jsonl",
        "os.rename /run/scan.partial/.most_memorized.jsonl.tmp",
        "os.rename /run/scan.partial/.recall.jsonl.tmp",
        "os.rename /run/scan.partial/.summary.json.tmp",
        "os.rename /run/scan.partial",
    ):
        assert what in points


def command(script: Path, recipe: Path, output: Path, processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program = [str(script), "scan", str(recipe), "--set", f"output={output}"]
    return [sys.executable, *(launcher if processes > 1 else []), *program]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "scan.py"
    path.write_text(SCAN.format(note=str(tmp_path / "batches")))
    return path


def start(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True, timeout=240)


def content(output: Path) -> dict[str, bytes]:
    folder = output / "run" / "scan"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "stage.json"}


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(recipe: Path, script: Path, tmp_path: Path) -> None:
    done = start(script, recipe, tmp_path / "one", 1)
    assert done.returncode == 0, done.stderr
    alone = (tmp_path / "batches").stat().st_size
    done = start(script, recipe, tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "two") == content(tmp_path / "one")
    shares = [(tmp_path / f"batches{rank}").stat().st_size for rank in (0, 1)]
    assert sum(shares) == alone
    assert min(shares) > 2  # both took part
    assert done.stderr.count("Scanning") == 1  # one has a progress bar
    assert done.stdout.count("audit.html") == 1


@pytest.mark.slow
def test_accelerate_launches_the_command(recipe: Path, tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2", "--no_python"]
    bin_folder = Path(sys.executable).parent
    for name, command in (("one", [str(bin_folder / "ibft")]), ("two", [sys.executable, *launcher, "ibft"])):
        done = subprocess.run(
            [*command, "scan", str(recipe), "--set", f"output={tmp_path / name}"],
            env=environment() | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("audit.html") == 1
    assert content(tmp_path / "two") == content(tmp_path / "one")


def processes_with(argument: str) -> list[int]:
    """The living processes that have this text in their command lines."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and argument.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_two_killed_processes_go_on_as_one(recipe: Path, script: Path, tmp_path: Path) -> None:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command(script, recipe, tmp_path / "killed", 2),
        env=environment(),
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )
    while not (tmp_path / "killed" / "run" / "scan.partial" / "blocks" / "train-000001.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.001)
    while pids := processes_with(str(tmp_path / "killed")):  # the launcher, and both processes in sessions of their own
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
        time.sleep(0.05)
    for output in ("killed", "whole"):
        done = start(script, recipe, tmp_path / output, 1)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.slow
def test_data_without_scores_is_said_once_by_two_processes(recipe: Path, script: Path, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "p", "completion": ""}\n')
    done = start(script, recipe, tmp_path / "none", 2)
    assert done.returncode != 0
    assert done.stderr.count("no training example has scores (1 empty completion)") == 1
