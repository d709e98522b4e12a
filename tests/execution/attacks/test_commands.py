"""Attacks by commands: what a broken into compiler or simulator could do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hostile.baits import Baits, descendants, left_behind

from hostile import Arena
from ibft.execution.isolation import detect_level
from ibft.execution.sandbox import CommandResult, Limits, Sandbox

LIMITS = Limits(cpu_s=0.5, wall_s=1.5, memory_mib=512)
Shell = Callable[[str], CommandResult]


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest, arena: Callable[..., Arena]) -> Iterator[Sandbox]:
    if request.param == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with Sandbox(request.param, tools=["/bin/sh"]) as sandbox:
        sandbox.start()
        yield sandbox


@pytest.fixture(scope="module")
def baits() -> Iterator[Baits]:
    with Baits() as baits:
        yield baits


@pytest.fixture
def shell(sandbox: Sandbox, baits: Baits) -> Iterator[Shell]:
    """Runs a script; afterwards nothing may have changed, nobody may run, and an honest command must work."""

    def run(script: str, limits: Limits = LIMITS) -> CommandResult:
        script = baits.fill_in(script)
        return sandbox.run_commands({"script": script.encode()}, [["/bin/sh", "script"]], limits)[0]

    run("true")
    before, processes = baits.look(), {*descendants()}
    yield run
    assert baits.effects(before) == []
    assert left_behind({*processes, baits.victim.pid}) == []
    result = run("ls; echo $HOME | grep -c work; umask; exec 2>&1; cat < /dev/null; echo done")
    assert (result.exit_code, result.stdout.split()[0], result.stdout.split()[-1]) == (0, b"script", b"done")


@pytest.mark.parametrize(
    "script",
    [
        "touch '@MARK@'",
        "touch /tmp/@MARK_NAME@ /dev/shm/@MARK_NAME@ /var/tmp/@MARK_NAME@ ../../@MARK_NAME@",
        "ln -s '@SECRET@' link; echo x >> link",
        "ln '@SECRET@' link; echo x >> link",
        "chmod 777 '@SECRET@'; touch '@SECRET@'; chown 9:9 '@SECRET@'",
        "rm -rf '@HOME@'",
        "mv '@SECRET@' own; cp own '@MARK@'",
        "kill -9 @VICTIM@ @EXAMINER@ $PPID; kill -0 -1 && echo EFFECT",
        "renice 19 -p @VICTIM@; taskset -p 1 @VICTIM@; prlimit --nofile=9 --pid @VICTIM@",
        "exec 3<>/dev/tcp/127.0.0.1/@TCP@; echo x >&3",
        "bash -c 'echo x > /dev/udp/127.0.0.1/@UDP@; echo x > /dev/tcp/127.0.0.1/@TCP@'",
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) and print qq(EFFECT)'",
        "mount -t tmpfs none '@HOME@'; unshare -Ur true && echo EFFECT; chroot / true && echo EFFECT",
        "cat /proc/@EXAMINER@/environ /proc/$PPID/environ '@SECRET@' && echo EFFECT",
        "cat '@SECRET@' '@HOME@/.ssh/id_rsa'; env; set",
        "su -c true && echo EFFECT; sudo -n true && echo EFFECT",
    ],
)
def test_script_achieves_nothing(shell: Shell, baits: Baits, script: str) -> None:
    result = shell(script)
    assert b"EFFECT" not in result.stdout
    assert baits.token.encode() not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60 &",
        "(sleep 0 &); (sleep 60 &); sleep 0.05",  # an orphan that has ended must not hide one that has not
        "setsid sh -c 'setsid sleep 60 &' &",
        "trap '' TERM INT HUP; (trap '' TERM; sleep 60) & exit 0",
        "for n in 1 2 3 4 5 6 7 8 9; do (sh -c 'sleep 60 & exit' &) ; done; exit 1",
        "nohup sleep 60 >/dev/null 2>&1 & kill -9 $$",
    ],
)
def test_script_leaves_no_process(shell: Shell, script: str) -> None:
    shell(script)


def test_busy_loop_ends_at_the_cpu_limit(shell: Shell) -> None:
    result = shell("while :; do :; done", Limits(cpu_s=0.3, wall_s=20, memory_mib=512))
    assert result.timed_out == "cpu"
    assert result.cpu_time_s < 1.5


def test_sleep_ends_at_the_wall_limit(shell: Shell) -> None:
    result = shell("sleep 60", Limits(cpu_s=0.5, wall_s=0.3, memory_mib=512))
    assert result.timed_out == "wall"
    assert result.wall_time_s < 5


def test_output_is_cut_and_never_blocks(shell: Shell) -> None:
    result = shell(
        "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", Limits(cpu_s=5, wall_s=20, memory_mib=512)
    )
    assert (result.exit_code, len(result.stdout), len(result.stderr)) == (0, 1 << 20, 64 << 10)


def test_large_files_are_refused(shell: Shell) -> None:
    assert shell("head -c 3000000 /dev/zero > own; wc -c < own").stdout.strip() in (b"", str(1 << 20).encode())


def test_memory_is_limited(shell: Shell) -> None:
    assert shell("x=$(head -c 900000000 /dev/zero | tr '\\0' x); echo ${#x}", LIMITS).stdout.strip() == b""


def test_files_of_one_script_are_gone_for_the_next(shell: Shell) -> None:
    shell("mkdir -p a/b; echo x > a/b/c; ln -s / d; mkdir -m 0 e; touch ./-f")
    assert shell("ls -A").stdout.split() == [b"script"]


def test_commands_stop_at_the_first_that_fails(sandbox: Sandbox, shell: Shell) -> None:
    commands = [["/bin/sh", "-c", f"echo {n}; exit {n}"] for n in (0, 3, 0)]
    results = sandbox.run_commands({}, commands, LIMITS)
    assert [(result.exit_code, result.stdout) for result in results] == [(0, b"0\n"), (3, b"3\n")]
