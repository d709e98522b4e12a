"""Each test attacks one property of the process sandbox."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibft.judging.sandbox import Limits, Outcome, ProcessSandbox, Program

LIMITS = Limits(cpu_s=1, wall_s=20, memory_mib=512)
ROOMY = Limits(cpu_s=20, wall_s=60, memory_mib=512)
TESTS = "assert f() == 1\n"
RIGHT = "def f():\n    return 1\n"

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    with ProcessSandbox() as sandbox:
        yield sandbox


def run(sandbox: ProcessSandbox, candidate: str, tests: str = TESTS, limits: Limits = LIMITS) -> Outcome:
    return sandbox.run(Program(candidate=candidate, tests=tests), limits)


def is_running(marker: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                pass  # it ended meanwhile
    return False


def test_right_answer_passes(sandbox: ProcessSandbox) -> None:
    outcome = run(sandbox, RIGHT)
    assert (outcome.status, outcome.message) == ("passed", "passed")
    assert 0 < outcome.cpu_time_s < 1
    assert outcome.wall_time_s > 0


def test_wrong_answer_fails_and_says_where(sandbox: ProcessSandbox) -> None:
    outcome = run(sandbox, "def f():\n    return 2\n")
    assert (outcome.status, outcome.message) == ("failed", "failed: AssertionError")
    assert '"<tests>", line 1' in outcome.stderr_tail


def test_exception_is_named(sandbox: ProcessSandbox) -> None:
    assert run(sandbox, "def f():\n    return {}['x']\n").message == "failed: KeyError: 'x'"


@pytest.mark.parametrize("candidate", ["def f(:\n", "s = '''", "x = 1\0", "return 1", "(" * 10_000])
def test_what_does_not_compile_is_a_syntax_error(sandbox: ProcessSandbox, candidate: str) -> None:
    assert run(sandbox, candidate, tests="").status in ("syntax_error", "memory")


def test_open_string_cannot_swallow_the_tests(sandbox: ProcessSandbox) -> None:
    assert run(sandbox, RIGHT + 's = """', tests='"""\nassert False\n').status == "syntax_error"


def test_infinite_loop_ends_at_the_cpu_limit(sandbox: ProcessSandbox) -> None:
    outcome = run(sandbox, "while True: pass")
    assert outcome.status == "timeout"
    assert "CPU" in outcome.message
    assert 0.5 < outcome.cpu_time_s < 2.5  # the kernel accounts CPU time in ticks


def test_cpu_limit_holds_below_the_whole_seconds_of_the_system(sandbox: ProcessSandbox) -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass\n"
    limits = Limits(cpu_s=0.2, wall_s=20, memory_mib=512)
    assert run(sandbox, RIGHT + work, limits=limits).status == "timeout"
    assert run(sandbox, RIGHT + work).status == "passed"


def test_sleep_ends_at_the_wall_limit(sandbox: ProcessSandbox) -> None:
    start = time.monotonic()
    outcome = run(sandbox, "import time; time.sleep(60)", limits=Limits(cpu_s=1, wall_s=0.5, memory_mib=512))
    assert outcome.status == "timeout"
    assert outcome.cpu_time_s < 0.5
    assert time.monotonic() - start < 10


def test_memory_bomb_ends_at_the_limit(sandbox: ProcessSandbox) -> None:
    assert run(sandbox, "x = bytearray(1 << 30)").status == "memory"
    assert run(sandbox, "x = []\nwhile True: x.append(bytearray(1 << 24))", limits=ROOMY).status == "memory"
    just_fits = "x = bytearray(200 << 20)\n" + RIGHT
    assert run(sandbox, just_fits, limits=ROOMY).status == "passed"


@pytest.mark.parametrize(
    "leave", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "import os; os.abort()"]
)
def test_leaving_early_is_no_pass(sandbox: ProcessSandbox, leave: str) -> None:
    assert run(sandbox, leave).status == "failed"
    assert run(sandbox, f"def f():\n    {leave}\n").status == "failed"


@pytest.mark.parametrize("text", ["passed", "ready:", "0" * 32])
def test_writing_to_the_verdict_channel_is_no_pass(sandbox: ProcessSandbox, text: str) -> None:
    outcome = run(
        sandbox,
        f"import os\nfor n in range(1, 20):\n  try: os.write(n, {text.encode()!r})\n  except OSError: 0\nos._exit(0)",
    )
    assert outcome.status == "cheating_refused"
    outcome = run(sandbox, f"import os\nos.write(3, {text.encode()!r})\n{RIGHT}")
    assert outcome.status == "cheating_refused"


def test_pretending_that_the_process_was_never_set_up_fails(sandbox: ProcessSandbox) -> None:
    assert run(sandbox, "import os\nos.close(3)\nos._exit(70)").status == "failed"


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGTERM", "SIGRTMIN + 3"])
def test_death_by_a_signal_is_a_failure(sandbox: ProcessSandbox, number: str) -> None:
    outcome = run(sandbox, f"import os\nfrom signal import *\nos.kill(os.getpid(), {number})")
    assert outcome.status == "failed"
    assert "killed by signal" in outcome.message


def test_stdin_is_empty_and_the_environment_has_nothing_of_ours(
    sandbox: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    candidate = "import os, sys\ndef f(): return (sys.stdin.read(), 'SECRET_TOKEN' in os.environ)\n"
    with ProcessSandbox() as fresh:
        assert run(fresh, candidate, "assert f() == ('', False), f()").status == "passed"


def test_folder_is_private_and_removed(sandbox: ProcessSandbox) -> None:
    candidate = "import os\nopen('left', 'w').write('x')\nraise ValueError(os.getcwd())"
    first, second = run(sandbox, candidate), run(sandbox, candidate)
    folders = [outcome.message.removeprefix("failed: ValueError: ") for outcome in (first, second)]
    assert folders[0] != folders[1]
    assert not any(Path(folder).exists() for folder in folders)
    assert all(folder.startswith(tempfile.gettempdir()) for folder in folders)


def test_large_files_are_refused(sandbox: ProcessSandbox) -> None:
    outcome = run(sandbox, "open('big', 'w').write('x' * (2 << 20))")
    assert (outcome.status, "File too large" in outcome.message) == ("failed", True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_flood_neither_blocks_nor_fills_memory(sandbox: ProcessSandbox, stream: str) -> None:
    flood = f"import sys\nfor _ in range(200): sys.{stream}.write('x' * 100_000)\n"
    outcome = run(sandbox, flood + RIGHT)
    assert outcome.status == "passed"
    assert len(outcome.stderr_tail) <= 4096


def test_surrogates_in_output_and_errors_are_no_failure_of_ours(sandbox: ProcessSandbox) -> None:
    assert run(sandbox, "print('\\ud800')\n" + RIGHT).status == "passed"
    outcome = run(sandbox, "raise ValueError('\\ud800')")
    assert outcome.status == "failed"


def test_hostile_exception_text(sandbox: ProcessSandbox) -> None:
    candidate = "class E(Exception):\n  def __str__(self): raise SystemExit\nraise E"
    assert run(sandbox, candidate).message == "failed: E"
    assert len(run(sandbox, "raise ValueError('x' * 10**6)").message) < 300


@linux
@pytest.mark.parametrize("ending", ["", "while True: pass", "os._exit(0)"])
def test_children_that_became_daemons_are_killed(sandbox: ProcessSandbox, ending: str) -> None:
    marker = f"ibft-left-behind-{os.getpid()}-{len(ending)}"
    candidate = (
        "import os, subprocess, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"    subprocess.Popen([*command, {marker!r}], start_new_session=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n" + RIGHT + ending
    )
    assert run(sandbox, candidate).status == {"": "passed", "os._exit(0)": "failed"}.get(ending, "timeout")
    assert not is_running(marker)


def test_nothing_passes_from_one_sample_to_the_next(sandbox: ProcessSandbox) -> None:
    spoil = "import builtins, math, os\nbuiltins.len = math.sqrt = None\nos.environ['X'] = '1'\n"
    assert run(sandbox, spoil + RIGHT).status == "passed"
    assert (
        run(sandbox, RIGHT, "import math, os\nassert len('a') == math.sqrt(1) and 'X' not in os.environ").status
        == "passed"
    )


def test_set_order_and_random_numbers_are_the_same_in_every_sandbox() -> None:
    candidate = "import random\nraise ValueError(list({'a', 'b', 'c', 'd', 'e'}), random.random())"
    messages = set()
    for _ in range(3):
        with ProcessSandbox() as fresh:
            messages.add(run(fresh, candidate).message)
    assert len(messages) == 1


def test_dataclasses_work_and_main_blocks_do_not_run(sandbox: ProcessSandbox) -> None:
    candidate = "from dataclasses import dataclass\n@dataclass\nclass P:\n  x: int\n"
    assert (
        run(sandbox, candidate + "if __name__ == '__main__': raise SystemExit\n", "assert P(1) == P(1)").status
        == "passed"
    )


@linux
def test_killing_the_server_is_an_infrastructure_error_and_the_next_sample_is_judged(sandbox: ProcessSandbox) -> None:
    outcome = run(sandbox, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    assert outcome.status == "infrastructure_error"
    assert "died" in outcome.message
    assert run(sandbox, RIGHT).status == "passed"


def test_close_ends_a_running_sample_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sandbox = ProcessSandbox()
    outcomes: list[Outcome] = []
    slow = Limits(cpu_s=20, wall_s=60, memory_mib=512)
    thread = threading.Thread(target=lambda: outcomes.append(run(sandbox, "while True: pass", limits=slow)))
    thread.start()
    while not list(tmp_path.glob("*/*")):
        time.sleep(0.01)
    sandbox.close()
    thread.join(timeout=5)
    assert [outcome.status for outcome in outcomes] == ["infrastructure_error"]
    assert list(tmp_path.iterdir()) == []
    assert run(sandbox, RIGHT).status == "infrastructure_error"


def test_a_sample_costs_far_less_than_an_interpreter(sandbox: ProcessSandbox) -> None:
    run(sandbox, RIGHT)
    start = time.monotonic()
    for _ in range(20):
        run(sandbox, RIGHT)
    assert (time.monotonic() - start) / 20 < 0.1
