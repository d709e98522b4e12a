"""The whole road on the real model, as a user types it: killed once on the way, then finished."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibft.models.loading import resolve_model_path
from ibft.run.recipe import load_recipe

ROOT = Path(__file__).parent.parent.parent
ARMS = ("base", "ft", "ib-paper", "ib-controlled")


def command(output: Path, *arguments: str) -> list[str]:
    ibft = str(Path(sys.executable).parent / "ibft")
    return [ibft, "run", str(ROOT / "recipes" / "smoke.yaml"), "--set", f"output={output}", *arguments]


def kill_when(path: Path, process: subprocess.Popen[str]) -> None:
    """Kill -9 the whole process group as soon as `path` exists."""
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, f"ended before {path} existed"
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    folder = output / "smoke"
    for path in ("train/ft.partial", "generate/ft.partial"):
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command(output), stdout=quiet, stderr=quiet, stdin=quiet, text=True, start_new_session=True
        )
        kill_when(folder / path, process)
        assert not (folder / path.removesuffix(".partial")).exists()
    scanned = (folder / "scan" / "stage.json").stat().st_mtime_ns
    done = subprocess.run(command(output), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "scan" / "stage.json").stat().st_mtime_ns == scanned  # what was complete was not made again
    (output / "stdout").write_text(done.stdout)
    return folder


pytestmark = pytest.mark.slow


def test_every_stage_left_what_it_promises(run_folder: Path) -> None:
    assert not list(run_folder.rglob("*.partial"))
    for folder in ("scan", *(f"rescan/{arm}" for arm in ARMS[1:])):
        left = {path.name for path in (run_folder / folder).iterdir()}
        assert {"scores.parquet", "summary.json", "densities.json"} <= left
        assert "blocks" not in left
    for arm in ARMS[1:]:
        adapter = run_folder / "train" / arm / "adapter"
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in adapter.iterdir()}
        steps = [json.loads(line)["step"] for line in (run_folder / "train" / arm / "log.jsonl").open()]
        assert max(steps) == 2
    for arm in ARMS:
        samples = [json.loads(line) for line in (run_folder / "generate" / arm / "samples.jsonl").open()]
        assert [sample["task_id"] for sample in samples] == ["HumanEval/0"] * 2 + ["HumanEval/1"] * 2
        metrics = json.loads((run_folder / "judge" / arm / "metrics.json").read_text())
        assert (metrics["num_problems"], metrics["num_samples"]) == (2, 4)


def test_the_report_is_one_file_that_loads_nothing(run_folder: Path) -> None:
    html = (run_folder / "report" / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//|url\(["']?(https?:)?//|@import""", html)
    for arm in ARMS:
        assert arm in html


def test_the_terminal_shows_the_table(run_folder: Path) -> None:
    stdout = (run_folder.parent / "stdout").read_text()
    assert "Pass@1" in stdout
    assert "report.html" in stdout
    for arm in ARMS:
        assert arm in stdout


def test_the_adapter_loads_without_ibft(run_folder: Path) -> None:
    adapter = str(run_folder / "train" / "ib-controlled" / "adapter")
    # The base is a package's file, whose name means something elsewhere, and is no path: whoever loads it says where.
    base = str(resolve_model_path(load_recipe(run_folder / "recipe.yaml").model))
    code = (
        "import sys; sys.modules['ibft'] = None\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base!r}), {adapter!r}).merge_and_unload()\n"
        f"AutoTokenizer.from_pretrained({adapter!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_changed_recipe_is_refused_in_one_sentence(run_folder: Path) -> None:
    done = subprocess.run(
        command(run_folder.parent, "--set", "train.learning_rate=1e-3"), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "train.learning_rate: 0.0002 -> 0.001" in done.stderr
    assert "Traceback" not in done.stderr
