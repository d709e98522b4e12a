"""Icarus itself is tried out, and stand-ins. 11.0, 12.0 and 13.0 of Debian were recorded; 10.3 and 14.0 are guessed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ibft.cli.doctor import _icarus
from ibft.errors import UserError
from ibft.execution.icarus import installed_icarus
from ibft.execution.isolation import detect_level
from ibft.execution.languages.verilog import VERILOG

VERSIONS = {
    "10.3": "Icarus Verilog version 10.3 (stable) ()",
    "11.0": "Icarus Verilog version 11.0 (stable) ()",
    "12.0": "Icarus Verilog version 12.0 (stable) ()",
    "13.0": "Icarus Verilog version 13.0 (stable) (v13_0)",
    "14.0": "Icarus Verilog version 14.0 (devel) (s20260113-12-gabcdef)",
}
Installer = Callable[[str, str, str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Put an `iverilog` and a `vvp` of shell scripts first on the search path."""

    def installer(printed: str, compiler: str, simulator: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        version = f'if [ "$1" = -V ]; then echo "{printed}"; exit 0; fi\n'
        for name, script in (("iverilog", version + compiler), ("vvp", simulator)):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        installed_icarus.cache_clear()
        return folder

    yield installer
    installed_icarus.cache_clear()


@pytest.mark.verilog
def test_the_installed_version_is_tried_out() -> None:
    VERILOG.try_out(detect_level())
    check = _icarus()
    assert check.found
    assert check.detail.startswith(f"version {installed_icarus().version}, judges")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_form_of_the_version_is_read(install: Installer, version: str) -> None:
    folder = install(VERSIONS[version], "", "")
    assert installed_icarus() == (f"{folder}/iverilog", f"{folder}/vvp", version)


@pytest.mark.parametrize(
    ("compiler", "simulator", "reason"),
    [
        # What 13.0 says of a name that is used before its declaration; the others are guessed.
        (
            "echo \"testbench.sv:16: error: Unable to bind wire/reg/memory \\`tb_mismatch' in \\`tb'\" >&2; exit 1",
            "",
            "Unable to bind wire/reg/memory",
        ),
        ("echo 'testbench.sv:8: syntax error' >&2; exit 2", "", "testbench.sv:8: syntax error"),
        ("echo 'testbench.sv:8: sorry: packed structures are not supported' >&2; exit 1", "", "sorry: packed"),
        ("exit 0", "exit 0", "did not come to its end"),
        ("exit 0", "echo 'vvp: unknown option -n' >&2; exit 1", "unknown option"),
        ("exit 0", "exit 139", "exit status 139"),
        ("echo 'testbench.sv:3: warning: a new one' >&2", "exit 0", "did not come to its end"),
    ],
)
def test_a_version_that_cannot_be_judged_with_is_refused(
    install: Installer, compiler: str, simulator: str, reason: str
) -> None:
    install(VERSIONS["14.0"], compiler, simulator)
    with pytest.raises(UserError, match=r"nothing can be judged with Icarus Verilog 14\.0") as refusal:
        VERILOG.try_out(detect_level())
    assert reason in str(refusal.value)
    check = _icarus()
    assert not check.found
    assert reason in check.detail


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("compiler", "simulator", "reason"),
    [
        (
            "{iverilog} \"$@\" && echo 'a.sv:1: warning: of a kind that is new' >&2",
            '{vvp} "$@"',
            "Icarus warns: a.sv:1",
        ),
        ('{iverilog} "$@"', '{vvp} "$@" | sed "s/ in / of /"', "did not come to its end"),
        ('{iverilog} "$@"', '{vvp} "$@" | grep -v trace', "the answers were not recorded"),
        ('{iverilog} "$@" || exit 0', '{vvp} "$@"', "a design that is syntax_error was judged"),
    ],
)
def test_what_a_new_version_may_change_is_noticed(
    install: Installer, compiler: str, simulator: str, reason: str
) -> None:
    installed_icarus.cache_clear()
    real = installed_icarus()
    paths = {"iverilog": real.compiler, "vvp": real.simulator}
    install(VERSIONS["14.0"], compiler.format(**paths), simulator.format(**paths))
    with pytest.raises(UserError) as refusal:
        VERILOG.try_out(detect_level())
    assert reason in str(refusal.value)
