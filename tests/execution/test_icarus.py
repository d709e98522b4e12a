from __future__ import annotations

import subprocess

import pytest

from ibft.errors import UserError
from ibft.execution import icarus
from ibft.execution.icarus import abnormal_end, icarus_warning, installed_icarus
from ibft.execution.sandbox import CommandResult


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Icarus Verilog version 11.0 (stable) ()\n\nCopyright 1998-2020", "11.0"),
        ("Icarus Verilog version 13.0 (devel) (s20221226-498-g52d049b51)", "13.0"),
    ],
)
def test_version_is_parsed(monkeypatch: pytest.MonkeyPatch, printed: str, version: str) -> None:
    monkeypatch.setattr(icarus.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(icarus.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess([], 0, stdout=printed))
    assert installed_icarus.__wrapped__() == ("/bin/iverilog", "/bin/vvp", version)


def test_old_versions_have_a_warning() -> None:
    assert icarus_warning("12.0") is None
    assert "review2015_fancytimer" in (icarus_warning("11.0") or "")


def test_missing_icarus_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icarus.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"iverilog is not on the search path.*apt install iverilog"):
        installed_icarus.__wrapped__()


def test_something_else_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout="GNU bash, version 5.2")
    monkeypatch.setattr(icarus.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(icarus.subprocess, "run", lambda *a, **k: answer)
    with pytest.raises(UserError, match="/bin/iverilog -V names no version"):
        installed_icarus.__wrapped__()


@pytest.mark.parametrize(
    ("result", "tool", "end"),
    [
        (CommandResult(0, 0, 0, "", b"", b"warning"), "compiler", None),
        (CommandResult(-9, 0, 0, "cpu", b"", b""), "simulator", ("timeout_cpu", "used more than its CPU time")),
        (CommandResult(-9, 0, 0, "wall", b"", b""), "simulator", ("timeout_wall", "limit on elapsed time")),
        (CommandResult(134, 0, 0, "", b"", b"what():  std::bad_alloc"), "compiler", ("memory", "its memory")),
        (CommandResult(2, 0, 0, "", b"", b"a: note\nb: error: c\n"), "compiler", ("syntax_error", "says: b: error: c")),
        (CommandResult(-11, 0, 0, "", b"", b""), "simulator", ("failed", "exit status -11")),
    ],
)
def test_endings(result: CommandResult, tool: str, end: tuple[str, str] | None) -> None:
    found = abnormal_end(result, tool)
    if end is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == end[0]
        assert end[1] in found[1]
