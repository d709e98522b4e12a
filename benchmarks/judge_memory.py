"""Does memory stay flat? The judging process's peak over 10,000 and over 100,000 different samples.

    python benchmarks/judge_memory.py [--sizes 10000 100000]

Each size is judged in a process of its own, without the verdict cache, so that every sample is really run; the peak of
resident memory is the judge's and its largest worker's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROBLEM = {
    "task_id": "t",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "tests": "assert f(2) == 4\n",
    "canonical_solution": "    return 2 * x\n",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.one)))
        return
    print("| samples | judge's peak MiB | largest worker's peak MiB | samples/s |")
    print("|---------|------------------|---------------------------|-----------|")
    for size in arguments.sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], capture_output=True, text=True, check=True
        )
        own, worker, rate = json.loads(done.stdout)
        print(f"| {size:7,} | {own:16.0f} | {worker:25.0f} | {rate:9.0f} |", flush=True)


def _measure(size: int) -> tuple[float, float, float]:
    from ibft.run.sections import JudgeConfig
    from ibft.stages.judge import judge_file

    with tempfile.TemporaryDirectory() as folder:
        problems, samples = Path(folder, "problems.jsonl"), Path(folder, "samples.jsonl")
        problems.write_text(json.dumps(PROBLEM) + "\n")
        with open(samples, "w") as file:
            for number in range(size):
                row = {"task_id": "t", "completion": f"    return 2 * x  # {number} {'filler ' * 60}\n"}
                file.write(json.dumps(row) + "\n")
        start = time.monotonic()
        metrics = judge_file(str(problems), samples, Path(folder, "out"), JudgeConfig(cache=False), k=(1,))
        rate = size / (time.monotonic() - start)
    assert metrics.statuses == {"passed": size}, metrics.statuses
    kib = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return kib[0] / 1024, kib[1] / 1024, rate


if __name__ == "__main__":
    main()
