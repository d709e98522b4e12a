"""The EvalPlus side of benchmarks/judge.py and evalplus_real.py, run by an interpreter that has EvalPlus.

Its standard input is a pickle. With the name of a data set as argument it judges samples of EvalPlus's own problems.

It does what `evalplus.evaluate` does in its own process: that module is imported (its size is what every sample's fork
copies), and a process pool calls `untrusted_check`.
"""

from __future__ import annotations

import pickle
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import evalplus.evaluate
from evalplus import data
from evalplus.eval import untrusted_check
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS


def check(code: str, inputs: list[Any], entry_point: str, expected: list[Any]) -> bool:
    times = [0.01] * len(inputs)
    status, _ = untrusted_check("humaneval", code, inputs, entry_point, expected, 1e-6, times, fast_check=True)
    return bool(status == "pass")


def check_real(dataset: str, code: str, problem: Any, expected: Any, patience: float) -> list[str]:
    """As `evalplus.evaluate.check_correctness`, which also returns the whole program."""
    return [
        untrusted_check(
            dataset,
            code,
            problem[f"{group}_input"],
            problem["entry_point"],
            expected[group],
            problem["atol"],
            expected[f"{group}_time"],
            fast_check=True,
            min_time_limit=patience,
            gt_time_limit_factor=4.0 * patience,
        )[0]
        for group in ("base", "plus")
    ]


def judge_real(dataset: str) -> None:
    samples, num_workers, patience = pickle.load(sys.stdin.buffer)
    if dataset == "humaneval":
        problems, digest, special = data.get_human_eval_plus(), data.get_human_eval_plus_hash(), []
    else:
        problems, digest = data.get_mbpp_plus(), data.get_mbpp_plus_hash()
        special = MBPP_OUTPUT_NOT_NONE_TASKS
    expected = evalplus.evaluate.get_groundtruth(problems, digest, special)
    start = time.perf_counter()
    with ProcessPoolExecutor(max_workers=num_workers) as executor:
        futures = [
            executor.submit(check_real, dataset, code, problems[task_id], expected[task_id], patience)
            for task_id, code in samples
        ]
        statuses = [future.result() for future in futures]
    wall_s = time.perf_counter() - start
    sys.stdout.flush()
    sys.stdout.buffer.write(b"PICKLE" + pickle.dumps((wall_s, statuses)))


def main() -> None:
    if len(sys.argv) > 1:
        judge_real(sys.argv[1])
        return
    jobs, num_workers = pickle.load(sys.stdin.buffer)
    start = time.perf_counter()
    with ProcessPoolExecutor(max_workers=num_workers) as executor:
        num_passed = sum(future.result() for future in [executor.submit(check, *job) for job in jobs])
    wall_s = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(wall_s, sum(one.ru_utime + one.ru_stime for one in usage), num_passed)


if __name__ == "__main__":
    main()
