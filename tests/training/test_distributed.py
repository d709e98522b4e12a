"""Several processes on gloo: they train what one process with as large a batch trains, and one of them writes."""

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
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog

pytestmark = pytest.mark.slow

# So narrow that the noise is nothing: each process draws its own.
NO_NOISE = {"logvar_min": -40.0, "logvar_max": -30.0}
# Gauges that do not depend on how a batch is split; a mean over batches of other gauges is another mean.
SPLIT_FREE = {"loss", "ce", "grad_norm", "ib/kl", "ib/ce", "ib/loss", "ib/penalty", "ib/alpha", "ib/kl_target"}

IB = {"name": "ib", "layer": 2, "bottleneck_dim": 16, "alpha": 0.5, "beta": 0.3, **NO_NOISE}
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    # The KL of the paper's form is a mean over all positions, padding included: it needs rows of one length.
    "same": {
        "ft": {"name": "ft"},
        "paper": IB | {"arm": "paper"},
        "gauges": IB | {"arm": "gauges", "alpha": 0.0},
    },
    "different": {
        "ft": {"name": "ft"},
        "corrected": IB | {"arm": "corrected", "form": "corrected"},
        "controlled": IB | {"arm": "controlled", "form": "controlled", "kl_target": 240.0},
        "in_path": IB | {"arm": "in_path", "form": "in_path", "kl_reduction": "sum", "alpha": 0.01},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """Two recipes on 12 examples, three optimizer steps of 4: of one length, and of different lengths."""
    folder = tmp_path_factory.mktemp("distributed")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    for name, more, batching in (("same", 0, "padded"), ("different", 2, "packed")):
        rows = [
            {
                "id": f"f{i:02}",
                "prompt": f"def f{i:02}(a):\n",
                "completion": f"    return a + x{i:02}\n" * (1 + (i * more) % 5),
            }
            for i in range(12)
        ]
        lengths = {len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in rows}
        assert (len(lengths) == 1) == (name == "same")
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = {
            "name": name,
            "output": str(folder),
            "model": {"name": str(tiny_model_folder), "dtype": "float32", "device": "cpu"},
            "data": {"train": str(data)},
            "objective": list(ARMS[name].values()),
            "train": {
                "max_steps": 3,
                "batch_size": 2,
                "learning_rate": 1e-2,
                "log_every": 1,
                "save_every": 2,
                "batching": batching,
                "lora": {"rank": 4, "dropout": 0.0},
            },
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def command_of(*command: object, processes: int = 1) -> list[str]:
    """How `ibft ARGUMENTS`, or a script, is started in as many processes as asked."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program = list(map(str, command)) if str(command[0]).endswith(".py") else ["-m", "ibft.cli", *map(str, command)]
    return [sys.executable, *(launcher if processes > 1 else []), *program]


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return inherited | {"OMP_NUM_THREADS": "1", "CI": "1"}


def start(*command: object, processes: int = 1, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command_of(*command, processes=processes),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


# Accelerate shards on accelerators alone: this has it take the CPU for one, which gloo then connects.
FSDP2 = """
import os, sys
import torch.distributed
from accelerate import PartialState
from accelerate.utils import DistributedType

os.environ |= {
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
}
torch.distributed.init_process_group("gloo")
PartialState._prepare_backend = lambda self, *arguments, **keywords: ("gloo", DistributedType.MULTI_GPU)

from ibft.cli import main
from ibft.training import callbacks

on_step_end = callbacks.CheckpointKeeper.on_step_end
def checked(self, args, state, control, model, **keywords):
    assert type(next(model.parameters())).__name__ == "DTensor", "the weights are not sharded"
    on_step_end(self, args, state, control)
callbacks.CheckpointKeeper.on_step_end = checked
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def fsdp2(folder: Path) -> Path:
    script = folder / "fsdp2.py"
    script.write_text(FSDP2)
    return script


@pytest.fixture(scope="module", params=list(ARMS))
def alone(request: pytest.FixtureRequest, folder: Path) -> Path:
    """The run folder of one process, with twice the batch."""
    done = start("train", folder / f"{request.param}.yaml", "--set", "train.batch_size=4", "--set", f"output={folder}")
    assert done.returncode == 0, done.stderr
    return folder / str(request.param)


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def trained(request: pytest.FixtureRequest, folder: Path, alone: Path, fsdp2: Path) -> tuple[Path, Path]:
    """The run folders of two processes, and of one."""
    output = folder / str(request.param)
    script = [fsdp2] if request.param == "fsdp2" else []
    done = start(*script, "train", folder / f"{alone.name}.yaml", "--set", f"output={output}", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Training ft") == 1  # one process has a progress bar
    return output / alone.name, alone


def test_two_processes_equal_one_with_twice_the_batch(trained: tuple[Path, Path]) -> None:
    together, _ = trained
    for arm in ARMS[together.name]:
        ours, theirs = (list(read_rows(run / "train" / arm / "log.jsonl", TrainingLog)) for run in trained)
        assert [row.step for row in ours] == [row.step for row in theirs] == [1, 2, 3]
        for one, other in zip(ours, theirs, strict=True):
            assert one.metrics.keys() >= other.metrics.keys() - {"ib/grad_ratio"}  # not told where weights are sharded
            for gauge in sorted(other.metrics.keys() & SPLIT_FREE):
                expected = pytest.approx(other.metrics[gauge], rel=1e-5, abs=1e-5)
                assert one.metrics[gauge] == expected, (arm, one.step, gauge)
        weights, expected_weights = (
            load_file(run / "train" / arm / "adapter" / "adapter_model.safetensors") for run in trained
        )
        assert weights.keys() == expected_weights.keys()
        # Adam divides by the gradient: where that is tiny, it makes steps of up to 1e-2 out of rounding. One weight of
        # `corrected` ends 1.7e-4 apart, of a way of 3e-2; all others are within 5e-5.
        apart = [
            float(one) for key, weight in expected_weights.items() for one in (weights[key] - weight).abs().flatten()
        ]
        assert max(apart) < 5e-4, arm
        assert sum(one > 5e-5 for one in apart) <= 1, (arm, len(apart))
        assert any(weight.abs().max() > 1e-3 for key, weight in weights.items() if "lora_B" in key)


def test_the_run_folder_is_as_one_process_leaves_it(trained: tuple[Path, Path]) -> None:
    ours, theirs = ({str(path.relative_to(run)) for path in run.rglob("*")} for run in trained)
    assert ours == theirs
    for arm in (trained[0] / "train").iterdir():
        assert json.loads((arm / "summary.json").read_text())["processes"] == 2


@pytest.mark.parametrize("alone", ["different"], indirect=True)
@pytest.mark.parametrize("trained", ["fsdp2"], indirect=True)
def test_killed_processes_end_the_same(trained: tuple[Path, Path], folder: Path, fsdp2: Path, tmp_path: Path) -> None:
    arguments = [fsdp2, "train", folder / "different.yaml", "--set", f"output={tmp_path}"]
    process = subprocess.Popen(
        command_of(*arguments, processes=2), env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    arm = tmp_path / "different" / "train" / "controlled.partial"
    while not (arm / "checkpoints" / "checkpoint-2").exists():
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)  # the launcher and both processes
    process.wait()
    done = start(*arguments, processes=2)
    assert done.returncode == 0, done.stderr
    for name in ("adapter/adapter_model.safetensors", "log.jsonl"):
        ours, theirs = (run / "train" / "controlled" / name for run in (tmp_path / "different", trained[0]))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_measure_the_held_out_loss_of_one(folder: Path, fsdp2: Path, kind: str) -> None:
    """Five held-out rows: the last batch of two processes is filled up with rows that were there before."""
    held_out = folder / "held-out.jsonl"
    rows = [{"prompt": f"def g{i}(b):\n", "completion": f"    print(b, {i})\n" * (1 + i)} for i in range(5)]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [f"data.validation={held_out}", "train.evaluate_every=1", "train.keep=best", "train.learning_rate=0.05"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    found = []
    for processes, batch_size in ((1, 4), (2, 2)):
        output = folder / f"held-out-{kind}-{processes}"
        script = [fsdp2] if kind == "fsdp2" and processes == 2 else []
        more = ["--arm", "in_path", "--set", f"output={output}", "--set", f"train.batch_size={batch_size}"]
        done = start(*script, "train", folder / "different.yaml", *chosen, *more, processes=processes)
        assert done.returncode == 0, done.stderr
        arm = output / "different" / "train" / "in_path"
        log = list(read_rows(arm / "log.jsonl", TrainingLog))
        summary = json.loads((arm / "summary.json").read_text())["held_out"]
        found.append(([row.metrics["eval_loss"] for row in log if "eval_loss" in row.metrics], summary))
    (alone, of_one), (together, of_two) = found
    assert len(alone) == 3
    assert together == pytest.approx(alone, rel=1e-5)
    assert of_one.pop("best_loss") == pytest.approx(of_two.pop("best_loss"), rel=1e-5)
    assert of_one == of_two


def test_other_stages_are_refused_once(folder: Path) -> None:
    done = start("generate", folder / "same.yaml", processes=2)
    assert done.returncode != 0
    assert done.stderr.count("Error: ibft generate") == 1
    assert "only ibft scan, train, rescan work in several" in done.stderr


def test_a_folder_in_use_is_refused_once_and_soon(folder: Path) -> None:
    import fcntl

    run = folder / "in-use" / "same"
    run.mkdir(parents=True)
    with open(run / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        done = start("train", folder / "same.yaml", "--set", f"output={run.parent}", processes=2)
    assert time.monotonic() - began < 60
    assert done.stderr.count("another ibft command is at work") == 1


POISON = """
import os, sys
from ibft.cli import main
from ibft.training import fit

if os.environ["RANK"] == "1":
    compute = fit.StageTrainer.compute_loss
    def poisoned(self, *arguments, **keywords):
        loss = compute(self, *arguments, **keywords)
        if {error!r} and self.state.global_step == 1:
            raise MemoryError("in one process alone")
        return loss * (float("nan") if self.state.global_step == 1 else 1)
    fit.StageTrainer.compute_loss = poisoned
main(["train", *sys.argv[1:]])
"""


def test_nan_in_one_process_stops_all_and_names_the_examples(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "poison.py"
    script.write_text(POISON.format(error=False))
    began = time.monotonic()
    done = start(script, folder / "same.yaml", "--set", f"output={tmp_path}", processes=2)
    assert time.monotonic() - began < 60
    assert done.returncode != 0
    assert done.stderr.count("the loss is nan at step 2") == 1
    assert done.stderr.count("(examples f") == 1
    assert not (tmp_path / "same" / "train" / "ft").exists()


def test_failure_of_one_process_ends_all_soon(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text(POISON.format(error=True))
    began = time.monotonic()
    done = start(script, folder / "same.yaml", "--set", f"output={tmp_path}", processes=2)
    assert time.monotonic() - began < 60
    assert done.returncode != 0
    assert "MemoryError: in one process alone" in done.stderr


def test_checkpoint_of_other_processes_is_refused(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "poison.py"
    script.write_text(POISON.format(error=False).replace("global_step == 1", "global_step == 2"))
    start(script, folder / "same.yaml", "--set", f"output={tmp_path}", processes=2)
    checkpoint = tmp_path / "same" / "train" / "ft.partial" / "checkpoints" / "checkpoint-2"
    assert (checkpoint / "complete").is_file()
    assert (checkpoint / "rng_state_1.pth").is_file()
    done = start("train", folder / "same.yaml", "--set", f"output={tmp_path}")
    assert done.returncode == 2
    assert "was written by 2 processes, and 1 would resume" in done.stderr
    done = start("train", folder / "same.yaml", "--set", f"output={tmp_path}", processes=2)
    assert done.returncode == 0, done.stderr
    log = list(read_rows(tmp_path / "same" / "train" / "ft" / "log.jsonl", TrainingLog))
    assert [row.step for row in log] == [1, 2, 3]
