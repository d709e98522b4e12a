"""The examples of docs/judging.md run as they stand, and print what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ibft.execution.inside import lockdown

PAGE = Path(__file__).parent.parent.parent / "docs" / "judging.md"
EXAMPLES = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8").split("## On many machines")[0], re.DOTALL
)
PRINTED = [
    "failed failed: AssertionError",
    "[False, True]",
    "passed\ntimeout",  # by the wall clock on a machine that is very busy
    "[0.0, 1.0]",
    "20",
]


@pytest.mark.slow
@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
@pytest.mark.parametrize(("example", "printed"), [*zip(EXAMPLES, PRINTED, strict=True)])
def test_the_example_runs(example: str, printed: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(printed)
