"""Threads and processes of a sample: refused as a rule, allowed where a control group bounds them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution import Pool, cgroup, execute
from ibft.execution.isolation import detect_level
from ibft.execution.sandbox import CommandResult, Limits, Sandbox
from ibft.execution.settings import resolve_settings
from ibft.run.sections import JudgeConfig

pytestmark = pytest.mark.skipif(not cgroup._works(), reason="no control group can be made here")

LIMITS = Limits(cpu_s=1, wall_s=10, memory_mib=256, threads=True)
SQUARES = Problem(task_id="t", prompt="def f(xs):\n", tests="assert f([1, 2, 3]) == [1, 4, 9]\n", entry_point="f")
HONEST = {
    "threads": "    from concurrent.futures import ThreadPoolExecutor\n"
    "    with ThreadPoolExecutor(4) as pool: return list(pool.map(lambda x: x * x, xs))\n",
    "asyncio": "    import asyncio\n    async def all_of_them():\n"
    "        return await asyncio.gather(*(asyncio.to_thread(pow, x, 2) for x in xs))\n"
    "    return list(asyncio.run(all_of_them()))\n",
    "processes": "    import multiprocessing\n"
    "    with multiprocessing.Pool(2) as pool: return pool.map(abs, [x * x for x in xs])\n",
    "executor": "    from concurrent.futures import ProcessPoolExecutor\n"
    "    with ProcessPoolExecutor(2) as pool: return list(pool.map(abs, [x * x for x in xs]))\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("kind", HONEST)
def test_threads_and_processes_work_where_they_are_allowed(pool: Pool, kind: str) -> None:
    if kind in ("processes", "executor") and detect_level() != "bubblewrap":
        pytest.skip("locks between processes need bubblewrap")
    sample = Sample(task_id="t", completion=HONEST[kind])
    allowed = execute(SQUARES, sample, limits=LIMITS, pool=pool)
    assert allowed.status == "passed", allowed
    refused = execute(SQUARES, sample, limits=Limits(cpu_s=1, wall_s=5, memory_mib=512), pool=pool)
    assert refused.status == "failed"


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[str], CommandResult]]:
    if request.param == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with Sandbox(request.param, group_memory_mib=256) as sandbox:
        yield lambda source: sandbox.run_program(source, "", LIMITS)
        assert sandbox.run_program("print(1)", "", LIMITS).stdout == b"1\n"


def test_all_cpu_time_counts(run: Callable[[str], CommandResult]) -> None:
    source = "import os\nfor _ in range(3): os.fork()\nwhile True: pass\n"
    start = time.monotonic()
    result = run(source)
    assert result.timed_out == "cpu"
    assert result.cpu_time_s < 2
    assert time.monotonic() - start < 8


@pytest.mark.parametrize(
    "source",
    [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
        "import os, time\nfor _ in range(20):\n"
        "    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)\nprint(1)\n",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n",
        "import os, signal\nos.kill(-1, signal.SIGKILL)\n",
        "import subprocess\nprint(subprocess.run(['/bin/echo', 'x']))\n",
        "import os\nif os.fork() == 0: os.execv('/bin/sh', ['sh', '-c', 'sleep 60'])\n",
    ],
)
def test_hostile_programs_are_contained(run: Callable[[str], CommandResult], source: str) -> None:
    result = run(source)
    assert b"returncode" not in result.stdout
    group = cgroup._files("x").folders[0].parent
    left = [path for path in group.glob(f"ibft-{os.getpid()}-*/cgroup.procs") if path.read_text().strip()]
    assert left == []


def test_memory_of_all_processes_together_is_bounded(run: Callable[[str], CommandResult]) -> None:
    hungry = (
        "import os, time\nfor _ in range(2): os.fork()\nx = b'x' * (@ << 20)\ntime.sleep(2)\nos.write(1, b'.')\n"
        "while True:\n    try: os.wait()\n    except OSError: break\n"
    )
    assert len(run(hungry.replace("@", "20")).stdout) == 4
    assert len(run(hungry.replace("@", "100")).stdout) < 4
    assert run("x = b'x' * (400 << 20)").exit_code == -9


def test_groups_are_removed() -> None:
    parent = cgroup._files("x").folders[0].parent
    before = {*parent.glob(f"ibft-{os.getpid()}-*")}
    with Sandbox(detect_level(), group_memory_mib=64) as sandbox:
        sandbox.run_program("import os; os.fork()", "", LIMITS)
        assert len({*parent.glob(f"ibft-{os.getpid()}-*")} - before) == 1
    assert {*parent.glob(f"ibft-{os.getpid()}-*")} - before == set()


def test_threads_are_refused_in_words_where_nothing_bounds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_works", lambda: False)
    with pytest.raises(UserError, match=r"judge\.threads: .*control group.*without judge\.threads"):
        resolve_settings(JudgeConfig(threads=True))
