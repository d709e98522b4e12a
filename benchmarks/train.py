"""How long does a training step take, and how much memory, against plain TRL and against the reference code's step?

    python benchmarks/train.py --data equal      # bars: <= 1.05 x TRL's step time, <= 1.02 x its memory
    python benchmarks/train.py --data origen --gradient-checkpointing
                                                 # bars: >= 4 x the reference's tokens/s, <= 0.4 x its memory
    python benchmarks/train.py --data origen --gradient-checkpointing --model 7b    # the paper's shape, on a GPU

Contenders: `sft`, TRL's SFTTrainer with LoRA and its default batching; `ft` and `ib-FORM`, the trainers that the
recipe's train stage makes, gauges at the logging steps included; `reference`, the reference code's step written anew
(train_reference.py). Each is a process of its own, so that its peak memory is its own, and all of them take turns, step
by step: whatever else the machine does, it does to all. Where they do not fit side by side, each runs by itself
(--one-at-a-time). A step is the whole of the trainer's loop from one step's begin to the next: batch,
forward, backward, clipping, optimizer, gauges, logging.

`equal`: batches of --batch-size x --length random tokens, half of them prompt. `origen`: 1,000 examples of log-normal
length (median 350 tokens, 95% under 1,200, at most 2,048), half prompt. Of each contender's epoch, --num-batches
batches are measured that are spread evenly over their sizes, after one step on the largest for the peak of memory.

Table: median and mean time of a step; `x sft`: its ratio to TRL's on the same tokens, within each round, then the
median; `gauged`: the same within each --log-every rounds, whose logging steps and gauges count (this is the bar's);
tokens of data a second (padding is none); peak memory with the weights (resident set on a CPU, allocated on a GPU); on
a GPU, model FLOP utilization (train_setup.flop_of_batch over the device's peak).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from trl.trainer.utils import get_peak_flops

from facts import device_name, facts
from train_setup import Settings

STEP_BAR, MEMORY_BAR = 1.05, 1.02
THROUGHPUT_BAR, REFERENCE_MEMORY_BAR = 4.0, 0.4


class Contender:
    """One worker process, and what it has reported; it prepares itself while others are started."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")
        command = [sys.executable, str(Path(__file__).with_name("train_worker.py")), name]
        self._process = subprocess.Popen(
            [*command, json.dumps(dataclasses.asdict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.batching = ""
        self.batches: list[dict[str, float]] = []
        self.rounds: list[list[float]] = []
        self.peak_mib = self.resting_mib = float("nan")

    def wait_until_ready(self) -> None:
        """Until model, data and trainer are made."""
        first = self._read()
        self.batching, self.batches = first["batching"], first["batches"]

    def warm_up(self) -> None:
        """The largest batch."""
        self._step()

    def run_round(self) -> None:
        """One step on each batch."""
        self.rounds.append([self._step() for _ in self.batches])

    def stop(self) -> None:
        """End the process; take down its peak memory."""
        self._write("stop")
        last = self._read()
        self.peak_mib, self.resting_mib = last["peak_mib"], last["resting_mib"]
        self._process.wait()

    def _step(self) -> float:
        self._write("step")
        return float(self._read()["s"])

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.name} ended early:\n{self._log.read()[-3000:]}")
        return json.loads(line)

    @property
    def tokens(self) -> float:
        """Tokens of data of the measured batches."""
        return sum(batch["tokens"] for batch in self.batches)

    @property
    def round_s(self) -> float:
        """Seconds for all measured batches: the sum of each one's median over rounds."""
        return sum(statistics.median(times) for times in zip(*self.rounds, strict=True))

    @property
    def tokens_per_s(self) -> float:
        """Tokens of data a second."""
        return self.tokens / self.round_s

    @property
    def flop_per_s(self) -> float:
        """Floating-point operations a second that the data cannot do without."""
        return sum(batch["flop"] for batch in self.batches) / self.round_s

    def summary(self) -> dict[str, Any]:
        """All that was measured, for the JSON file."""
        steps = [s for times in self.rounds for s in times]
        return {
            "batching": self.batching,
            "median_step_s": self.round_s / len(self.batches),
            "mean_step_s": statistics.mean(steps),
            "tokens_per_s": self.tokens_per_s,
            "flop_per_s": self.flop_per_s,
            "peak_mib": self.peak_mib,
            "resting_mib": self.resting_mib,
            "batches": self.batches,
            "rounds_s": self.rounds,
        }


def main() -> None:
    begin = time.monotonic()
    arguments = _arguments()
    names = _names(arguments)
    settings = _settings(arguments)
    contenders: list[Contender] = []
    if arguments.one_at_a_time:
        for name in names:
            contenders.append(Contender(name, settings))
            _run(contenders[-1:], arguments, begin)
    else:
        contenders += [Contender(name, settings) for name in names]
        _run(contenders, arguments, begin)
    by_name = {contender.name: contender for contender in contenders}
    peak = arguments.peak_flops or get_peak_flops(device_name(arguments.device), "bfloat16")
    block = min(arguments.log_every, *(len(contender.rounds) for contender in contenders))
    print(_heading(arguments), _table(by_name, peak, block), _bars(by_name, arguments.data, block), sep="\n\n")
    if arguments.out:
        _write(arguments, settings, by_name)


def _run(contenders: list[Contender], arguments: argparse.Namespace, begin: float) -> None:
    for contender in contenders:
        contender.wait_until_ready()
    for contender in contenders:
        contender.warm_up()
    for number in range(arguments.rounds):
        if number and time.monotonic() - begin > arguments.seconds:
            break
        # Each goes first as often as the others.
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            contender.run_round()
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    for contender in contenders:
        contender.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["smollm2", "tiny", "7b"], default="smollm2")
    parser.add_argument("--data", choices=["equal", "origen"], default="equal")
    parser.add_argument("--forms", nargs="*", default=["paper", "controlled"], help="of the ib objective")
    parser.add_argument("--contenders", nargs="*", help="only these; the default is all, `reference` with origen only")
    parser.add_argument("--rounds", type=int, default=10, help="best a multiple of --log-every")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no round but the first begins later")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens of each example of `equal`")
    parser.add_argument("--num-batches", type=int, default=5, help="of `origen`, measured in each round")
    parser.add_argument("--batching", choices=["auto", "padded", "sorted", "packed"], default="auto", help="of ft, ib")
    parser.add_argument("--attention", choices=["auto", "sdpa", "eager", "flash_attention_2"], default="auto")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--log-every", type=int, default=5, help="the recipe's default is 5")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of PyTorch on a CPU")
    parser.add_argument("--one-at-a-time", action="store_true", help="one process after the other")
    parser.add_argument("--peak-flops", type=float, help="of the device, where TRL's table has none")
    parser.add_argument("--out", type=Path, help="a JSON file, for example benchmarks/results/train-equal.json")
    return parser.parse_args()


def _names(arguments: argparse.Namespace) -> list[str]:
    if arguments.contenders:
        return list(arguments.contenders)
    names = ["sft", "ft", *(f"ib-{form}" for form in arguments.forms)]
    return [*names, "reference"] if arguments.data == "origen" else names


def _settings(arguments: argparse.Namespace) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)}
    num_batches = 1 if arguments.data == "equal" else arguments.num_batches
    given = {name: value for name, value in vars(arguments).items() if name in names}
    # One more than is ever made: the last one's wait is where the worker is stopped.
    return Settings(**given | {"num_batches": num_batches, "max_steps": 2 + arguments.rounds * num_batches})


def _heading(arguments: argparse.Namespace) -> str:
    where = facts(arguments.device)
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    threads = arguments.threads or torch.get_num_threads()
    return f"{where['device']}, {threads} threads; {versions}\n$ {' '.join(where['command'])}"


def _table(contenders: dict[str, Contender], peak: float | None, block: int) -> str:
    rows = [["", "batching", "step s", "mean s", "x sft", "gauged", "tokens/s", "peak MiB", "x sft", "MFU"]]
    sft = contenders.get("sft")
    for name, contender in contenders.items():
        summary = contender.summary()
        rows.append(
            [
                name,
                contender.batching,
                f"{summary['median_step_s']:.3f}",
                f"{summary['mean_step_s']:.3f}",
                f"{_time_ratio(contender, sft, 1):.3f}" if sft else "",
                f"{_time_ratio(contender, sft, block):.3f}" if sft else "",
                f"{contender.tokens_per_s:.0f}",
                f"{contender.peak_mib:.0f}",
                f"{contender.peak_mib / sft.peak_mib:.3f}" if sft else "",
                f"{contender.flop_per_s / peak:.1%}" if peak else "",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _time_ratio(ours: Contender, theirs: Contender, block: int) -> float:
    """Of seconds a token (a step's tokens differ between batchings), within each block of rounds; then the median."""
    ours_s, theirs_s = ([sum(times) for times in contender.rounds] for contender in (ours, theirs))
    starts = range(0, min(len(ours_s), len(theirs_s)) - block + 1, block)
    ratios = [sum(ours_s[start : start + block]) / sum(theirs_s[start : start + block]) for start in starts]
    return statistics.median(ratios) * theirs.tokens / ours.tokens


def _bars(contenders: dict[str, Contender], data: str, block: int) -> str:
    lines = []
    other = contenders.get("sft" if data == "equal" else "reference")
    for name, ours in contenders.items():
        if other is None or name in ("sft", "reference"):
            continue
        memory = ours.peak_mib / other.peak_mib
        if data == "equal":
            ratio = _time_ratio(ours, other, block)
            lines.append(_bar(f"{name}: step time / sft's", ratio, ratio <= STEP_BAR, f"<= {STEP_BAR}"))
            lines.append(_bar(f"{name}: peak memory / sft's", memory, memory <= MEMORY_BAR, f"<= {MEMORY_BAR}"))
        else:
            faster = 1 / _time_ratio(ours, other, block)
            is_met = memory <= REFERENCE_MEMORY_BAR
            lines.append(
                _bar(f"{name}: tokens/s / the reference's", faster, faster >= THROUGHPUT_BAR, f">= {THROUGHPUT_BAR}")
            )
            lines.append(_bar(f"{name}: peak memory / the reference's", memory, is_met, f"<= {REFERENCE_MEMORY_BAR}"))
    return "\n".join(lines)


def _bar(what: str, value: float, is_met: bool, bar: str) -> str:
    return f"{what:45} {value:7.3f}   bar {bar:7} {'met' if is_met else 'MISSED'}"


def _write(arguments: argparse.Namespace, settings: Settings, contenders: dict[str, Contender]) -> None:
    result = {
        **facts(arguments.device),
        "settings": dataclasses.asdict(settings),
        "contenders": {name: contender.summary() for name, contender in contenders.items()},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
