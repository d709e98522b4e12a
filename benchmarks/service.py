"""The judging service under many clients, killed and restarted while they work: is anything lost or judged wrong?

    python benchmarks/service.py [--clients 64] [--seconds 300] [--kills 2]

Every client is a `RemotePool` of its own, which hands in jobs whose verdicts are known, in batches, and compares. The
service is killed with SIGKILL at even intervals, with all that it started left to itself, and restarted after a
second. Memory is that of the service and all of its processes (proportional set size). The exit code is 1 if a verdict
is missing, wrong or double.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.outcome import Job, Reference
from ibft.execution.sandbox import Limits
from ibft.execution.service.client import RemotePool

LIMITS = Limits(cpu_s=1, wall_s=10, memory_mib=512)
REFERENCE = Reference(status="passed", message="passed", cpu_time_s=0.01)
PROBLEMS = [
    Problem(task_id=f"t/{n}", prompt="", tests=f"assert [f(x) for x in range(20)] == [{n} * x for x in range(20)]\n",
            entry_point="f")
    for n in range(50)
]  # fmt: skip
KINDS = {
    "passed": "def f(x): return {n} * x\n",
    "failed": "def f(x): return {n} * x + (x == 19)\n",
    "syntax_error": "def f(x) return {n}\n",
    "timeout_cpu": "def f(x):\n    while True: pass\n",
}
WEIGHTS = [60, 30, 9.7, 0.3]
BATCH = 20


class Service:
    """The process that is killed and restarted."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "ibft.cli", "serve", "judge", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory_mib(self) -> float:
        parents = dict(map(_parent, filter(str.isdigit, os.listdir("/proc"))))
        ours = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return sum(map(_pss_kib, ours)) / 1024


def _parent(pid: str) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        return int(pid), int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    return int(pid), 0


def _pss_kib(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


@dataclass
class Tally:
    """What all clients saw."""

    num_asked: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    batch_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def work(url: str, seed: int, until: float, tally: Tally) -> None:
    """One client: batches until the time is up."""
    chance = random.Random(seed)
    with RemotePool(url, connections=1) as pool:
        while time.monotonic() < until:
            kinds = chance.choices(list(KINDS), WEIGHTS, k=BATCH)
            jobs = []
            for position, kind in enumerate(kinds):
                problem = chance.choice(PROBLEMS)
                text = KINDS[kind].format(n=problem.task_id[2:]) + f"# {chance.random()}\n"
                sample = Sample(task_id=problem.task_id, solution=text)
                jobs.append((position, Job(problem=problem, limits=LIMITS, sample=sample, reference=REFERENCE)))
            start = time.monotonic()
            with tally.lock:
                tally.num_asked += BATCH
            seen: set[int] = set()
            for position, outcome in pool.run(jobs):
                with tally.lock:
                    tally.verdicts[outcome.status] += 1
                    if outcome.status != kinds[position] or position in seen:
                        tally.wrong.append(f"{outcome.status} instead of {kinds[position]}: {outcome.message}")
                seen.add(position)
            with tally.lock:
                tally.batch_s.append(time.monotonic() - start)


def measure(num_clients: int, seconds: float, num_kills: int) -> tuple[Tally, list[tuple[float, float]]]:
    """Return what the clients saw, and the service's memory in MiB over time."""
    service, tally, start = Service(), Tally(), time.monotonic()
    memory: list[tuple[float, float]] = []
    until = start + seconds
    url = f"http://127.0.0.1:{service.port}"
    clients = [threading.Thread(target=work, args=(url, seed, until, tally)) for seed in range(num_clients)]
    try:
        for client in clients:
            client.start()
        kills = [start + seconds * (n + 1) / (num_kills + 1) for n in range(num_kills)]
        while any(client.is_alive() for client in clients):
            time.sleep(1)
            memory.append((time.monotonic() - start, service.memory_mib()))
            if kills and time.monotonic() > kills[0]:
                kills.pop(0)
                service.kill()
                time.sleep(1)
                service.start()
        return tally, memory
    finally:
        service.process.terminate()
        service.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    start = time.monotonic()
    tally, memory = measure(options.clients, options.seconds, options.kills)
    wall_s = time.monotonic() - start
    num_judged = sum(tally.verdicts.values())
    table = Table("clients", "kills", "s", "asked", "judged", "wrong", "samples/s", "batch of 20: median, max s")
    table.add_row(
        str(options.clients), str(options.kills), f"{wall_s:.0f}", str(tally.num_asked), str(num_judged),
        str(len(tally.wrong)), f"{num_judged / wall_s:.0f}",
        f"{statistics.median(tally.batch_s):.1f}, {max(tally.batch_s):.1f}",
    )  # fmt: skip
    console = Console(width=140)
    console.print(table)
    console.print("verdicts:", dict(tally.verdicts))
    shown = memory[:: max(1, len(memory) // 12)]
    console.print("MiB at s:", ", ".join(f"{mib:.0f} at {at:.0f}" for at, mib in shown))
    for words in tally.wrong[:5]:
        console.print(words)
    raise SystemExit(0 if num_judged == tally.num_asked and not tally.wrong else 1)


if __name__ == "__main__":
    main()
