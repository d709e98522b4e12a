"""The sandbox from outside: levels, processes and their ends, and that nothing is left. Attacks: attacks/."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibft.errors import UserError
from ibft.execution.inside import lockdown
from ibft.execution.inside.candidate import SET_UP
from ibft.execution.inside.messages import ChannelClosed
from ibft.execution.isolation import detect_level
from ibft.execution.sandbox import Limits, PythonProcess, Sandbox, SandboxError

LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)
LEVELS = ["bubblewrap", "landlock", "none"]

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")


@pytest.fixture(scope="module", params=LEVELS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with Sandbox(request.param) as sandbox:
        yield sandbox


def start(sandbox: Sandbox, source: str, limits: Limits = LIMITS, name: str = "") -> PythonProcess:
    """A process that loads a program, of which it will say what one name stands for."""
    process = sandbox.run_python(limits)
    process.write(process.framed(["load", source, [name], []]))
    assert process.receive() == SET_UP
    return process


def load(sandbox: Sandbox, source: str, name: str = "") -> tuple[PythonProcess, Any]:
    """A process with its program loaded, and the answer to that."""
    process = start(sandbox, source, name=name)
    return process, process.receive()


def value_of(sandbox: Sandbox, source: str, name: str) -> Any:
    """What a name stands for in a program, as plain data."""
    process, answer = load(sandbox, source, name)
    process.finish()
    match answer:
        case ["ok", {"d": [[str(key), value]]}] if key == name:
            return value
    raise AssertionError(answer)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def server_pids() -> set[int]:
    """The servers that run below this process, under bubblewrap or not."""
    found = {os.getpid()}
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended meanwhile
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def test_a_program_is_loaded_and_asked(sandbox: Sandbox) -> None:
    process, answer = load(sandbox, "def f(x): return 2 * x\n", "f")
    assert answer == ["ok", {"d": [["f", {"h": 0}]]}]
    process.write(process.framed(["call", {"h": 0}, {"t": [3]}, {"d": []}]))
    assert process.receive() == ["ok", 6]
    end = process.finish()
    assert end.exit_code in (None, 0)  # it was still running, or has seen the channel close
    assert end.timed_out == ""
    assert 0 < end.cpu_time_s < 2
    assert 0 < end.wall_time_s < 10


def test_a_program_that_ends_says_how(sandbox: Sandbox) -> None:
    process = start(sandbox, "import os; os._exit(7)", LIMITS)
    with pytest.raises(ChannelClosed):
        process.receive()
    assert process.finish(is_lost=True).exit_code == 7


def test_the_cpu_limit_ends_a_program(sandbox: Sandbox) -> None:
    process = start(sandbox, "while True: pass", Limits(cpu_s=0.2, wall_s=20, memory_mib=512))
    if sandbox.level == "none":
        assert process.finish().timed_out == ""  # no limits at all there
        return
    with pytest.raises(ChannelClosed):
        process.receive()
    end = process.finish(is_lost=True)
    assert end.timed_out == "cpu"
    assert 0.1 < end.cpu_time_s < 1.2


def test_the_wall_limit_ends_a_program(sandbox: Sandbox) -> None:
    process = start(sandbox, "import time; time.sleep(60)", Limits(cpu_s=2, wall_s=0.2, memory_mib=512))
    with pytest.raises(ChannelClosed):
        process.receive()
    end = process.finish(is_lost=True)
    assert (end.timed_out, end.cpu_time_s < 0.2) == ("wall", True)


def test_one_program_after_another_in_one_server(sandbox: Sandbox) -> None:
    load(sandbox, "")[0].finish()
    servers = server_pids()
    for number in range(5):
        source = f"import os; open('{number}', 'w').write('x'); files = os.listdir('.')"
        assert value_of(sandbox, source, "files") == [str(number)]
    assert server_pids() == servers


def test_home_and_temporary_files_are_in_the_work_folder(sandbox: Sandbox) -> None:
    source = (
        "import os, tempfile\nwith tempfile.NamedTemporaryFile() as file: folder = os.path.dirname(file.name)\n"
        "same = os.path.realpath(folder) == os.path.realpath(os.path.expanduser('~')) == os.getcwd()\n"
    )
    assert value_of(sandbox, source, "same") is True


def test_environment_is_empty_and_standard_input_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    source = "import os, sys; seen = [sorted(set(os.environ) - {'LC_CTYPE'}), sys.stdin.read()]"
    assert value_of(sandbox, source, "seen") == [["HOME", "TMPDIR"], ""]


def test_set_order_and_random_numbers_are_the_same_in_every_server() -> None:
    source = "import random; seen = list({'a', 'b', 'c', 'd', 'e'}) + [random.random()]"
    answers = []
    for _ in range(3):
        with Sandbox("landlock") as fresh:
            answers.append(value_of(fresh, source, "seen"))
    assert answers[0] == answers[1] == answers[2]


def test_a_killed_server_is_replaced(sandbox: Sandbox) -> None:
    process, _ = load(sandbox, "")
    assert sandbox._process is not None
    sandbox._process.kill()
    sandbox._process.wait()
    with contextlib.suppress(SandboxError):  # what runs inside of it may answer before it ends, too
        process.finish()
    assert value_of(sandbox, "x = 1", "x") == 1


def test_a_killed_server_takes_its_program_along() -> None:
    with Sandbox("landlock") as fresh:
        fresh.start()
        before = server_pids()
        start(fresh, "import time; time.sleep(60)", Limits(cpu_s=20, wall_s=20, memory_mib=512))
        (candidate,) = server_pids() - before
        assert fresh._process is not None
        os.kill(fresh._process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 2
        while is_running(candidate) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_running(candidate)


@pytest.mark.parametrize("level", LEVELS)
def test_close_ends_a_running_program_and_leaves_nothing(
    level: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if level == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = server_pids()
    sandbox = Sandbox(level)
    start(sandbox, "open('x', 'w')\nwhile True: pass", Limits(cpu_s=20, wall_s=60, memory_mib=512))
    sandbox.close()
    assert server_pids() == before
    assert list(tmp_path.iterdir()) == []
    sandbox.close()  # a second time does nothing


def test_close_from_another_thread_ends_a_conversation() -> None:
    sandbox = Sandbox("landlock")
    process = start(sandbox, "import time; time.sleep(60)", Limits(cpu_s=20, wall_s=60, memory_mib=512))
    threading.Timer(0.1, sandbox.close).start()
    with pytest.raises(ChannelClosed):
        process.receive()


def test_a_scratch_folder_holds_all_files(tmp_path: Path) -> None:
    with Sandbox("landlock", scratch=str(tmp_path)) as sandbox:
        load(sandbox, "")[0].finish()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_level_without_bubblewrap_is_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert detect_level.__wrapped__() == "landlock"


def test_level_where_namespaces_are_blocked_is_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert detect_level.__wrapped__() == "landlock"


def test_without_landlock_nothing_runs_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockdown, "landlock_abi", lambda: 0)
    with pytest.raises(UserError, match=r"no Landlock .*--sandbox none"):
        detect_level.__wrapped__()


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UserError, match="riscv64"):
        detect_level.__wrapped__()


@pytest.mark.parametrize("machine", sorted(lockdown.FILTERED_MACHINES))
@pytest.mark.parametrize("processes", [True, False])
@pytest.mark.parametrize("programs", [True, False])
def test_filters_end_in_a_refusal_and_jump_only_within_themselves(
    monkeypatch: pytest.MonkeyPatch, machine: str, processes: bool, programs: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    program = bytes(lockdown.build_filter(processes=processes, programs=programs)._program)
    steps = [program[start : start + 8] for start in range(0, len(program), 8)]
    for position, step in enumerate(steps):
        if step[0] & 0x07 == 0x05:  # a jump
            assert max(position + 1 + step[2], position + 1 + step[3]) < len(steps)
    assert steps[-1] == lockdown._REFUSE
    assert len(steps) < 4096  # the kernel's limit
