import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.rows import Module, Problem, Sample
from ibft.execution import examiner as examiner_module
from ibft.execution.examiner import Examiner
from ibft.execution.inside import messages
from ibft.execution.isolation import detect_level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.pool import Pool, _Order, _Waiting
from ibft.execution.sandbox import Limits

LIMITS = Limits(cpu_s=1, wall_s=2, memory_mib=512)
PROBLEM = Problem(
    task_id="t", prompt="", tests="assert f(2) == 4\n", entry_point="f", canonical_solution="f = lambda x: 2 * x\n"
)


def job(
    solution: str | None = "f = lambda x: 2 * x\n",
    problem: Problem = PROBLEM,
    limits: Limits = LIMITS,
    cpu_time_s: float = 0.0,
) -> Job:
    sample = None if solution is None else Sample(task_id=problem.task_id, solution=solution)
    reference = Reference(status="passed", message="", cpu_time_s=cpu_time_s)
    return Job(problem=problem, limits=limits, sample=sample, reference=reference)


@pytest.fixture
def examiner() -> Any:
    found = Examiner(detect_level())
    yield found
    found.close()


def test_samples_and_references_come_back_as_what_they_are(examiner: Examiner) -> None:
    assert isinstance(examiner.examine(job(None)), Reference)
    outcome = examiner.examine(job("f = lambda x: 5\n"))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.message) == ("failed", "failed: AssertionError: assert f(2) == 4")


def test_problems_with_one_id_and_other_tests_are_told_apart(examiner: Examiner) -> None:
    other = Problem(task_id="t", prompt="", tests="assert f(2) == 5\n", entry_point="f")
    assert [examiner.examine(job(problem=problem)).status for problem in (PROBLEM, other, PROBLEM)] == [
        "passed", "failed", "passed",
    ]  # fmt: skip


def test_a_process_forgets_problems_for_which_there_is_no_room(
    examiner: Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner_module, "_KEPT_CHARACTERS", 2 * len(PROBLEM.tests))
    others = [msgspec.structs.replace(PROBLEM, tests=f"assert f(2) == {number}\n") for number in (5, 7, 6)]
    problems = [PROBLEM, *others, PROBLEM, others[0]]
    verdicts = [examiner.examine(job(problem=problem)).passed for problem in problems]
    assert verdicts == [True, False, False, False, True, False]
    assert len(examiner._sent) == 2


def test_a_module_of_the_problem_may_need_numpy(examiner: Examiner) -> None:
    shelf = Module("shelf", "import numpy\n\ndef twice(x): return int(numpy.multiply(x, 2))\n")
    problem = msgspec.structs.replace(PROBLEM, modules=(shelf,), canonical_solution="from shelf import twice as f\n")
    limits = Limits(cpu_s=5, wall_s=10, memory_mib=2048)
    assert examiner.examine(job(None, problem, limits)).status == "passed"
    assert examiner.examine(job("import shelf\nf = shelf.twice\n", problem, limits)).status == "passed"


def test_a_dead_process_is_replaced_and_the_job_done_again(examiner: Examiner) -> None:
    assert examiner.examine(job()).status == "passed"
    assert examiner._process is not None
    os.kill(examiner._process.pid, 9)
    assert examiner.examine(job()).status == "passed"


def test_what_fails_twice_is_an_infrastructure_error(examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner_module.sys, "executable", "/bin/false")
    outcome = examiner.examine(job())
    assert outcome.status == "infrastructure_error"
    assert outcome.message.startswith("not judged: ")


def test_broken_tests_are_the_problems_fault(examiner: Examiner) -> None:
    broken = Problem(task_id="t", prompt="", setup="import no_such_module\n", tests="assert f(1)", entry_point="f")
    outcome = examiner.examine(job(None, broken))
    assert outcome.status == "failed"
    assert "ModuleNotFoundError" in outcome.message


def test_tests_that_never_end_are_killed_and_the_next_job_is_done(examiner: Examiner) -> None:
    # sum() of a huge range is C code: no signal gets into it, only the parent's deadline ends it.
    endless = Problem(task_id="t", prompt="", tests="assert sum(f(2)) == 4\n", entry_point="f")
    start = time.monotonic()
    outcome = examiner.examine(job("f = lambda x: range(10 ** 12)\n", endless))
    assert outcome.status == "timeout_wall"
    assert time.monotonic() - start < LIMITS.wall_s + 3
    assert examiner.examine(job()).status == "passed"


def test_nothing_is_left_after_closing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    examiner = Examiner("landlock")
    outcome = examiner.examine(job("import os; os.makedirs('a/b'); open('a/c', 'w')\nf = lambda x: 4\n"))
    assert outcome.status == "passed"
    process = examiner._process
    examiner.close()
    assert process is not None
    assert process.poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_the_pool_starts_with_what_takes_longest() -> None:
    costs = [0.0, 3.0, 1.0, 2.0]
    jobs = [(cost, job(problem=msgspec.structs.replace(PROBLEM), cpu_time_s=cost)) for cost in costs]
    with Pool(1, detect_level()) as pool:
        order = [cost for cost, _ in pool.run(jobs)]
        # The first may have been taken before the others were there.
        assert order[1:] == sorted(order[1:], reverse=True)
        assert list(pool.run([])) == []


def test_an_examiner_stays_with_a_problem_and_another_takes_another() -> None:
    problems = {name: msgspec.structs.replace(PROBLEM) for name in ("cheap", "dear")}
    costs = {"cheap": 0.0, "dear": 2.0}
    waiting, first, second = _Waiting(), Examiner("none"), Examiner("none")
    for name in ["cheap", "dear", "cheap", "dear", "dear"]:
        one = job(problem=problems[name], cpu_time_s=costs[name])
        waiting.put(_Order(one, threading.Event(), Future()))

    def taken(examiner: Examiner) -> str:
        order = waiting.get(examiner)
        assert order is not None
        return next(name for name, problem in problems.items() if problem is order.job.problem)

    assert [taken(first), taken(second), taken(first)] == ["dear", "cheap", "dear"]
    assert [taken(second), taken(second)] == ["cheap", "dear"]  # where its own are done, it helps
    waiting.close()
    assert waiting.get(first) is None


def test_a_folder_that_another_thread_has_removed_is_not_waited_for(tmp_path: Path) -> None:
    start = time.monotonic()
    examiner_module._remove(str(tmp_path / "gone"))
    assert time.monotonic() - start < 5


ENDLESS = "while True: pass\n"
WRONG = "f = lambda x: 5\n"
SLOW = Limits(cpu_s=30, wall_s=60, memory_mib=512)


def test_a_pool_goes_on_after_a_stream_that_was_closed_early() -> None:
    num_threads = threading.active_count()
    with Pool(1, detect_level()) as pool:
        assert [outcome.status for _, outcome in pool.run([(0, job())])] == ["passed"]
        busy = pool._examiners[0]._process

        def jobs() -> Iterator[tuple[int, Job]]:
            yield 0, job(ENDLESS, limits=SLOW)
            while pool._examiners[0]._busy_for is None:
                time.sleep(0.01)
            raise ValueError("the stream broke")

        start = time.monotonic()
        with pytest.raises(ValueError, match="the stream broke"):
            next(pool.run(jobs()))
        assert busy is not None
        busy.wait(timeout=5)
        solutions = [WRONG, "f = lambda x: 4\n", WRONG]
        outcomes = [next(pool.run([(0, job(solution))]))[1].status for solution in solutions]
        assert outcomes == ["failed", "passed", "failed"]
        assert time.monotonic() - start < 10
    assert threading.active_count() == num_threads


def test_threads_that_share_a_pool_get_their_own_verdicts() -> None:
    def judge(expected: str) -> list[str]:
        solution = WRONG if expected == "failed" else "f = lambda x: 4\n"
        return [outcome.status for _, outcome in pool.run((number, job(solution)) for number in range(40))]

    with Pool(1, detect_level()) as pool, ThreadPoolExecutor(2) as threads:
        passed, failed = threads.map(judge, ["passed", "failed"])
    assert passed == ["passed"] * 40
    assert failed == ["failed"] * 40


def test_closing_one_threads_stream_leaves_the_others_job_and_does_not_wait_for_it() -> None:
    slow = job("import time; time.sleep(2)\nf = lambda x: 4\n", limits=SLOW)
    with Pool(1, detect_level()) as pool, ThreadPoolExecutor(1) as threads:
        theirs = threads.submit(lambda: [outcome.status for _, outcome in pool.run([(0, slow)])])
        while pool._examiners[0]._busy_for is None:
            time.sleep(0.01)

        def broken() -> Iterator[tuple[int, Job]]:
            yield 0, job()
            raise ValueError("the stream broke")

        with pytest.raises(ValueError, match="the stream broke"):
            next(pool.run(broken()))
        assert not theirs.done()
        assert theirs.result() == ["passed"]


def test_an_answer_that_nobody_waited_for_is_not_the_next_jobs(
    examiner: Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examiner.examine(job()).status == "passed"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(messages, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            examiner.examine(job(WRONG))
    assert examiner.examine(job()).status == "passed"
