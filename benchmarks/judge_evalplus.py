"""The EvalPlus side of benchmarks/judge.py: run by an interpreter that has EvalPlus, told what to do through pickles.

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

import evalplus.evaluate  # noqa: F401
from evalplus.eval import untrusted_check


def check(code: str, inputs: list[Any], entry_point: str, expected: list[Any]) -> bool:
    times = [0.01] * len(inputs)
    status, _ = untrusted_check("humaneval", code, inputs, entry_point, expected, 1e-6, times, fast_check=True)
    return bool(status == "pass")


def main() -> None:
    jobs, num_workers = pickle.load(sys.stdin.buffer)
    start = time.perf_counter()
    with ProcessPoolExecutor(max_workers=num_workers) as executor:
        num_passed = sum(future.result() for future in [executor.submit(check, *job) for job in jobs])
    wall_s = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(wall_s, sum(one.ru_utime + one.ru_stime for one in usage), num_passed)


if __name__ == "__main__":
    main()
