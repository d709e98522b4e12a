"""Judging from a program of one's own: what a notebook, an RL reward or a cluster's pool calls."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

import ibft.execution
from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.artifacts.samples import open_samples
from ibft.errors import UserError
from ibft.execution import (
    Job,
    Limits,
    Outcome,
    Pool,
    PoolLike,
    Reference,
    check_references,
    execute,
    execute_all,
    execute_async,
)
from ibft.execution.inside import lockdown
from ibft.execution.judging import judge_into
from ibft.execution.settings import JudgeSettings, Judging, MetricSettings
from ibft.run.sections import JudgeConfig

PROBLEM = Problem(
    task_id="t/0",
    prompt='import math\n\n\ndef root(x):\n    """Return the root of x."""\n',
    tests="assert root(4) == 2\n",
    entry_point="root",
    canonical_solution="    return math.sqrt(x)\n",
)
CHAT = "Like this:\n```python\ndef root(x):\n    return math.sqrt(x)\n```\nIt uses `math`.\n"
needs_sandbox = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
Key = TypeVar("Key")


@needs_sandbox
def test_one_answer() -> None:
    outcome = execute(PROBLEM, CHAT)
    assert (outcome.status, outcome.passed, outcome.is_weak) == ("passed", True, False)
    assert outcome.cpu_time_s > 0
    wrong = execute(PROBLEM, "    return x\n", limits=Limits(cpu_s=1, wall_s=5, memory_mib=512))
    assert (wrong.status, wrong.message) == ("failed", "failed: AssertionError: assert root(4) == 2")


@needs_sandbox
def test_many_answers_come_back_in_their_order() -> None:
    broken = msgspec.structs.replace(PROBLEM, task_id="t/1", canonical_solution="    return -1\n")
    limits = Limits(cpu_s=0.5, wall_s=5, memory_mib=512)
    answers: list[tuple[Problem, str | Sample]] = [
        (PROBLEM, "    while True: pass\n"),
        (PROBLEM, ""),
        (PROBLEM, Sample(task_id="t/0", solution="def root(x): return 2\n")),
        (broken, CHAT),
        (PROBLEM, "    return (\n"),
        (PROBLEM, CHAT),
    ]
    expected = ["timeout_cpu", "no_code", "passed", "excluded", "syntax_error", "passed"]
    with Pool(2) as pool:
        assert [outcome.status for outcome in execute_all(answers, limits=limits, pool=pool)] == expected
        references = check_references([PROBLEM, broken])
        outcomes = execute_all(answers, limits=limits, pool=pool, references=references)
    assert [outcome.status for outcome in outcomes] == expected
    assert execute_all([]) == []


SLOW = "    import time\n    time.sleep(20)\n"


@needs_sandbox
def test_answers_are_awaited_beside_other_work_and_cancelling_ends_them() -> None:
    async def main() -> None:
        start = time.monotonic()
        texts = ["    return 2\n", "    return 3\n", ""] * 4
        with Pool(1) as pool:
            references = check_references([PROBLEM])
            calls = (execute_async(PROBLEM, text, pool=pool, references=references) for text in texts)
            outcomes = await asyncio.gather(*calls)
            assert [outcome.status for outcome in outcomes] == ["passed", "failed", "no_code"] * 4
            endless = asyncio.create_task(execute_async(PROBLEM, SLOW, pool=pool, references=references))
            while pool._examiners[0]._busy_for is None:
                await asyncio.sleep(0.01)  # a loop that was blocked would not come back before the answer has ended
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await endless
            assert (await execute_async(PROBLEM, CHAT, pool=pool)).status == "passed"  # the pool's only worker is free
        assert time.monotonic() - start < 12

    asyncio.run(main())


class Elsewhere:
    """A pool that has no processes here: jobs and outcomes cross a wire, and end in another order."""

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Outcome | Reference], None, None]:
        for key, job in reversed(list(jobs)):
            arrived = msgspec.json.decode(msgspec.json.encode(job), type=Job)
            assert arrived == job
            if arrived.sample is None:
                yield key, Reference(status="passed", message="passed", cpu_time_s=0.7)
            else:
                assert arrived.limits.cpu_s == 7  # ten times the reference's
                yield key, Outcome(status="passed", message=arrived.sample.text)


def test_any_pool_can_do_the_work() -> None:
    pool: PoolLike = Elsewhere()
    texts = [f"    return {number}\n" for number in range(5)]
    outcomes = execute_all([(PROBLEM, text) for text in texts], pool=pool)
    assert [outcome.message for outcome in outcomes] == texts


def test_a_file_of_samples_can_be_judged_by_any_pool(tmp_path: Path) -> None:
    rows = [Sample(task_id="t/0", completion=f"    return {number}\n") for number in range(5)]
    write_rows(tmp_path / "samples.jsonl", rows)
    samples = open_samples(tmp_path / "samples.jsonl", [PROBLEM], "toy")
    settings = JudgeSettings(JudgeConfig(timeout_s=3, cache=False), "landlock", 1)
    judging = Judging([PROBLEM], "toy", samples, True, settings, MetricSettings((1, 5), 0, 10))
    metrics = judge_into(tmp_path, judging, "Judging", pool=Elsewhere())
    assert metrics.metrics["pass@5^(5)"].value == 1.0
    assert [result.completion for result in read_rows(tmp_path / "results.jsonl", Result)] == [row.text for row in rows]


def test_the_package_is_light_and_has_what_it_names() -> None:
    code = "import ibft.execution, sys; from ibft.execution import execute; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "torch", "transformers", "datasets", "matplotlib", "rich"}
    for name in ibft.execution.__all__:
        assert getattr(ibft.execution, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'run_it'"):
        _ = ibft.execution.run_it


@needs_sandbox
@pytest.mark.parametrize(
    ("tests", "answer", "passed"),
    [
        # `check` is called, lists are taken, and the prompt's imports and helpers are not the candidate's.
        ("def check(candidate):\n    assert candidate(4) == 2\n", "    return math.sqrt(x)\n", True),
        ("assert math.isclose(root(4), 2)\n", "    return 3\n\nclass math:\n    isclose = lambda a, b: True\n", False),
    ],
)
def test_a_problem_of_ones_own_is_completed_as_one_of_a_file(tests: str, answer: str, passed: bool) -> None:
    problem = msgspec.structs.replace(PROBLEM, tests=tests, modules=[])
    assert execute(problem, answer).passed is passed
    with Pool(1) as pool:
        assert asyncio.run(execute_async(problem, answer, pool=pool)).passed is passed
    assert check_references([problem])["t/0"].passed


def test_a_problem_that_could_not_be_judged_as_meant_is_refused() -> None:
    with pytest.raises(UserError, match="the tests of t/0 never use its entry_point 'root'"):
        execute(msgspec.structs.replace(PROBLEM, tests="assert 1 + 1 == 2\n"), CHAT)
