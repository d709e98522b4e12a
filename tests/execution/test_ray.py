"""A Ray cluster as a pool: verdicts are those of this machine, and what a lost node was doing is done by another."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ibft
from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Problem, Sample
from ibft.execution import Job, Limits, Outcome, Pool, Reference, execute_all
from ibft.execution.inside import lockdown
from ibft.execution.isolation import detect_level
from ibft.execution.ray import JudgeHost, RayPool, _Judging, _Message, scaled

LIMITS = Limits(cpu_s=3, wall_s=15, memory_mib=512)
PROBLEM = Problem(
    task_id="t/0", prompt="", tests="assert f(2) == 4\n", entry_point="f", canonical_solution="f = lambda x: 2 * x\n"
)
BROKEN = msgspec.structs.replace(PROBLEM, task_id="t/1", canonical_solution="f = lambda x: 5\n")
ENDLESS = "while True: pass\n"
needs_sandbox = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def reference(cpu_time_s: float) -> Reference:
    return Reference(status="passed", message="passed", cpu_time_s=cpu_time_s)


@pytest.mark.parametrize(
    ("there", "here", "factor"), [(0.1, 0.3, 3), (0.3, 0.1, 1), (0.001, 0.5, 10), (0.0, 0.5, 1), (0.2, 0.2, 1)]
)
def test_a_slow_node_gives_samples_as_much_more_time_as_its_reference_took(
    there: float, here: float, factor: float
) -> None:
    limits = scaled(LIMITS, reference(there), reference(here))
    assert (limits.cpu_s, limits.wall_s) == pytest.approx((3 * factor, 15 * factor))
    assert limits.memory_mib == 512


@needs_sandbox
def test_a_host_goes_by_its_own_reference() -> None:
    host = JudgeHost(1)
    problems = {"sound": PROBLEM, "broken": BROKEN}
    host._problems.update(problems)
    half_second = "def f(x):\n    import time\n    while time.process_time() < 0.5: pass\n    return 2 * x\n"

    def do(problem: str, solution: str | None, there: float = 1.0, cpu_s: float = 3.0) -> Any:
        sample = None if solution is None else Sample(task_id="t", solution=solution)
        limits = msgspec.structs.replace(LIMITS, cpu_s=cpu_s)
        given = None if solution is None else reference(there)
        return host.do(0, _Message(detect_level(), [problem], limits, sample, given))

    try:
        assert do("sound", None).status == "passed"
        assert do("broken", None).status == "failed"
        outcome = do("broken", "f = lambda x: 4\n")  # which passed elsewhere: this node must not judge it
        assert outcome.status == "infrastructure_error"
        assert "the reference solution does not pass on" in outcome.message
        assert do("sound", half_second, cpu_s=0.2).status == "timeout_cpu"
        assert do("sound", half_second, there=1e-6, cpu_s=0.2).status == "passed"  # ten times slower here
    finally:
        host.close()


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, None, ""),
        ({"versions": {"ibft": "9.9", "python": ""}}, None, "ibft 9.9, and this machine"),
        ({"level": "landlock"}, "landlock", ""),
        ({"level": "landlock"}, "bubblewrap", "its strongest sandbox is landlock, not bubblewrap"),
        ({"level": "none", "problem": "this kernel has no Landlock"}, None, "this kernel has no Landlock"),
        ({"level": "none", "problem": "this kernel has no Landlock"}, "none", ""),
    ],
)
def test_nodes_that_would_judge_otherwise_are_refused_in_words(change: Any, level: Any, words: str) -> None:
    description = {**JudgeHost(1).describe(), "problem": "", "level": "bubblewrap", **change}
    refusal = _Judging(level).refusal(description)
    assert words in refusal
    assert bool(refusal) == bool(words)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, to which the tests add nodes."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=80 << 20)


@needs_ray
@needs_sandbox
@pytest.mark.slow
def test_a_node_that_is_killed_loses_no_sample_and_changes_no_verdict(cluster: Any) -> None:
    nodes = [add_node(cluster), add_node(cluster)]
    sources = [f"def f(x):\n    import time; time.sleep(0.05)\n    return {i % 3 + 2}  # {i}\n" for i in range(120)]
    answers: list[tuple[Problem, str | Sample]] = [(PROBLEM, source) for source in sources]
    answers += [(BROKEN, "f = lambda x: 4\n"), (PROBLEM, ""), (PROBLEM, "def f(:\n")]
    with Pool() as pool:
        expected = [(outcome.status, outcome.message) for outcome in execute_all(answers, pool=pool)]
    ended: list[str] = []
    with RayPool(cluster.address) as pool:
        assert (pool.num_workers, pool.level) == (2, detect_level())
        start = time.monotonic()
        killer = threading.Timer(1.5, lambda: (cluster.remove_node(nodes[0], allow_graceful=False), ended.append("")))
        killer.start()
        outcomes = execute_all(answers, pool=pool)
        killer.join()
        assert ended
        assert time.monotonic() - start > 1.5  # it was judging then
        assert [(outcome.status, outcome.message) for outcome in outcomes] == expected

        # What is closed early ends: the only slot is free for the next job, long before the limit of the first.
        slow = msgspec.structs.replace(LIMITS, cpu_s=60, wall_s=120)
        endless = Job(
            problem=PROBLEM, limits=slow, sample=Sample(task_id="t", solution=ENDLESS), reference=reference(1)
        )
        running = pool.submit(endless)
        time.sleep(1)
        assert running.cancel()
        start = time.monotonic()
        assert execute_all([(PROBLEM, "f = lambda x: 4\n")], pool=pool)[0].passed
        assert time.monotonic() - start < 20
    cluster.remove_node(nodes[1])


@needs_ray
@needs_sandbox
@pytest.mark.slow
def test_a_node_that_joins_while_there_is_none_takes_over(cluster: Any) -> None:
    node = add_node(cluster)
    with RayPool(cluster.address) as pool:
        cluster.remove_node(node, allow_graceful=False)
        job = Job(problem=PROBLEM, limits=LIMITS, sample=Sample(task_id="t", solution="f = lambda x: 4\n"),
                  reference=reference(1))  # fmt: skip
        future = pool.submit(job)
        node = add_node(cluster)
        outcome = future.result(timeout=60)
        assert isinstance(outcome, Outcome)
        assert outcome.status == "passed"
    cluster.remove_node(node)


@needs_ray
@needs_sandbox
@pytest.mark.slow
def test_the_command_judges_on_the_cluster_and_says_where_there_is_none(cluster: Any, tmp_path: Path) -> None:
    node = add_node(cluster)
    write_rows(tmp_path / "problems.jsonl", [PROBLEM])
    write_rows(tmp_path / "samples.jsonl", [Sample(task_id="t/0", solution="f = lambda x: 4\n", index=0)])

    def judge(address: str, out: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ibft.cli", "judge", "--problems", "problems.jsonl", "--samples"]
        command += ["samples.jsonl", "--k", "1", "--no-cache", "--out", out, "--ray", address]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = judge(cluster.address, "out")
    assert done.returncode == 0, done.stderr
    assert '"passed":true' in (tmp_path / "out/results.jsonl").read_text()
    refused = judge("127.0.0.1:1", "nowhere")
    assert refused.returncode == 2, refused.stderr
    assert "cannot connect to '127.0.0.1:1'" in refused.stderr
    assert "Traceback" not in refused.stderr
    cluster.remove_node(node)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ibft.errors.UserError, match=r"pip install 'ibft\[ray\]'"), RayPool():
        pass
