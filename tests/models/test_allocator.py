"""What the C library keeps: measured in a process of its own, since the options hold for the whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import re, torch
from ibft.models.allocator import {name}
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
def blocks():
    return [torch.ones(5 * 2**18) for _ in range(40)]  # 40 x 5 MiB
with {name}():
    held = blocks()
    last = torch.ones(5 * 2**18)  # keeps the end of the heap in use
    before = resident()
    del held
    print(before - resident())
"""


def freed_mib(name: str) -> float:
    program = PROGRAM.format(name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
def test_freed_blocks_go_back_or_stay() -> None:
    assert freed_mib("returning_freed_memory") > 150
    assert freed_mib("keeping_freed_memory") < 20
