"""How many cases of standard input are judged per second?

    python benchmarks/standard_io.py [--workers 2] [--rounds 3]

Each of 40 programs reads a line of numbers, sorts them and prints; each has 25 cases. Judged without a cache, in
batches whose start-up is not counted; the medians of the rounds. `preamble`: with the imports that LiveCodeBench puts
in front of every program. `plain`: the same cases by one fresh interpreter each, without any isolation.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ibft.artifacts.rows import Case, Problem, Sample
from ibft.execution import Job, Limits, LocalPool, Outcome
from ibft.execution.isolation import detect_level
from ibft.problems.contests import PREAMBLE

NUM_PROGRAMS, NUM_PLAIN, NUM_CASES = 40, 4, 25
LIMITS = Limits(cpu_s=3, wall_s=30, memory_mib=2048)
SOURCE = "numbers = sorted(map(int, input().split()))\nprint(*numbers)\n"
CHECKER = "def check(input, output, expected):\n    return output.split() == expected.split()\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    level = detect_level()
    problem = Problem(task_id="sort", prompt="", io=tuple(map(_case, range(NUM_CASES))))
    kinds = {
        "ibft": problem,
        "ibft, preamble": msgspec.structs.replace(problem, preamble=PREAMBLE),
        "ibft, checker": msgspec.structs.replace(problem, checker=CHECKER),
    }
    print(f"sandbox: {level}, {arguments.workers} workers\n")
    print("| judge            | cases/s |\n|------------------|---------|")
    with LocalPool(arguments.workers, level) as pool:
        for name, kind in kinds.items():
            _judge(pool, kind, arguments.workers)  # starts everything, which is not to be timed
            _show(name, [_judge(pool, kind, NUM_PROGRAMS) for _ in range(arguments.rounds)])
    _show("plain", [_plain(problem, arguments.workers) for _ in range(arguments.rounds)])


def _show(name: str, rates: list[float]) -> None:
    print(f"| {name:16} | {statistics.median(rates):7.0f} |", flush=True)


def _case(number: int) -> Case:
    numbers = [(7919 * place + number) % 1000 for place in range(50)]
    return Case(" ".join(map(str, numbers)) + "\n", " ".join(map(str, sorted(numbers))) + "\n")


def _judge(pool: LocalPool, problem: Problem, num_programs: int) -> float:
    samples = [Sample(task_id="sort", solution=f"{SOURCE}# {number}\n") for number in range(num_programs)]
    jobs = [(number, Job(problem=problem, limits=LIMITS, sample=sample)) for number, sample in enumerate(samples)]
    start = time.monotonic()
    outcomes = [outcome for _, outcome in pool.run(jobs)]
    elapsed_s = time.monotonic() - start
    assert all(isinstance(outcome, Outcome) and outcome.passed for outcome in outcomes), outcomes[0].message
    return num_programs * len(problem.io) / elapsed_s


def _plain(problem: Problem, workers: int) -> float:
    def run(case: Case) -> bool:
        done = subprocess.run([sys.executable, "-c", SOURCE], input=case.input, capture_output=True, text=True)
        return done.stdout == case.output

    cases = list(problem.io) * NUM_PLAIN
    start = time.monotonic()
    with ThreadPoolExecutor(workers) as executor:
        assert all(executor.map(run, cases))
    return len(cases) / (time.monotonic() - start)


if __name__ == "__main__":
    main()
