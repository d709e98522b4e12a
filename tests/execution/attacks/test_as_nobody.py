"""The attacks that a user's rights could matter to, as a user without any: for test runs as root."""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
from pathlib import Path

import pytest
from hostile.run import command_as_nobody

from ibft.execution.isolation import detect_level

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks are written for x86_64")


@pytest.mark.parametrize("level", ["bubblewrap", "landlock"])
def test_attacks_achieve_nothing_as_nobody(level: str) -> None:
    if level == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        found = command_as_nobody(Path(folder))
        if isinstance(found, str):
            pytest.skip(found)
        command, environment = found
        families = ["file", "network", "process", "secret"]
        run = subprocess.run(
            [*command, "-m", "hostile.run", "--level", level, "--families", *families],
            env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(rows) > 150
    wrong = [
        row for row in rows if any(row[key] for key in ("false_pass", "wrong_verdict", "effects", "left", "after"))
    ]
    assert wrong == []
