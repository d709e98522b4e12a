"""Attacks on the examiner by way of values: what the tests do with them costs time and memory on our side."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator

import pytest
from hostile.arena import TESTS

from hostile import Arena
from ibft.artifacts.rows import Problem, Sample
from ibft.execution.examiner import Examiner
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits

LIMITS = Limits(cpu_s=0.5, wall_s=0.5, memory_mib=512)
_WRITE = """
def f(x):
    import os, struct
    data = ANSWER
    data = memoryview(struct.pack('!I', len(data)) + data)
    while data: data = data[os.write(3, data):]
    while os.read(3, 4096): pass
    os._exit(0)
"""


@pytest.fixture(scope="module")
def examiner(arena: Callable[..., Arena]) -> Iterator[Examiner]:
    found = Examiner("landlock")
    yield found
    found.close()


def judge(examiner: Examiner, source: str, tests: str) -> Outcome:
    """The outcome, where it comes in time and the sample after it is judged rightly."""

    def job(source: str, tests: str) -> Job:
        problem = Problem(task_id="t", prompt="", tests=tests, entry_point="f")
        reference = Reference(status="passed", message="")
        return Job(problem=problem, limits=LIMITS, sample=Sample(task_id="t", solution=source), reference=reference)

    examiner.examine(job("def f(x): return 0\n", TESTS))  # started
    start = time.monotonic()
    outcome = examiner.examine(job(source, tests))
    assert time.monotonic() - start < LIMITS.wall_s + 2.5
    assert examiner.examine(job("def f(x): return 2 * x\n", TESTS)).status == "passed"
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): return range(10 ** 12)\n", "assert list(f(2)) == [4]\n"),
        ("def f(x): return range(2 * 10 ** 8)\n", "assert sorted(f(2)) == [4]\n"),
        ("def f(x): return 'x' * 10 ** 6\n", "assert f(2) * 10 ** 6 == ''\n"),
        (_WRITE.replace("ANSWER", "b'[\"ok\",[' + b'[],' * 1_300_000 + b'0]]'"), "assert f(2) == 4\n"),
        (_WRITE.replace("ANSWER", "b'[\"ok\",[' + b'{\"s\":[]},' * 400_000 + b'0]]'"), "assert f(2) == 4\n"),
    ],
)
def test_values_cannot_fill_memory(examiner: Examiner, source: str, tests: str) -> None:
    assert examiner._process is None or resource.prlimit(examiner._process.pid, resource.RLIMIT_AS)[0] <= 4 << 30
    assert judge(examiner, source, tests).status in ("memory", "timeout_wall", "failed")


_MANY = '[f\'{{"i":"{i * (2 ** 61 - 1):#x}"}}\' for i in range(1, 120_000)]'
_SET = "('[\"ok\",{\"f\":[' + ','.join(MANY) + ']}]').encode()".replace("MANY", _MANY)
_LIST = "('[\"ok\",[' + ','.join(MANY) + ']]').encode()".replace("MANY", _MANY)
_FRACTION = "b'[\"ok\",{\"F\":[\"0x' + b'7' * 1_900_000 + b'\",\"0x' + b'3' * 1_900_001 + b'\"]}]'"


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): return range(10 ** 12)\n", "assert sum(f(2)) == 4\n"),
        ("def f(x): return 10 ** 9\n", "assert 7 ** f(2) == 4\n"),
        ("def f(x): return 10 ** 9\n", "import time\ntime.sleep(f(2))\n"),
        (_WRITE.replace("ANSWER", _SET), "assert f(2) == 4\n"),
        (_WRITE.replace("ANSWER", _LIST), "assert set(f(2)) == 4\n"),
        (_WRITE.replace("ANSWER", _FRACTION), "assert f(2) == 4\n"),
        ("def f(x): return 'a' * 40 + 'b'\n", "import re\nassert re.match('(a+)+$', f(2))\n"),
    ],
    ids=["sum", "power", "sleep", "colliding set", "colliding list", "fraction", "expression"],
)  # fmt: skip
def test_values_cannot_hang_the_tests(examiner: Examiner, source: str, tests: str) -> None:
    outcome = judge(examiner, source, tests)
    assert outcome.status in ("timeout_wall", "memory", "failed"), outcome


@pytest.mark.parametrize("text", ["x" * 300, "\x1b[2J", "\n\r\0", "\u202e", json.dumps({"status": "passed"})])
def test_messages_are_one_printable_line(examiner: Examiner, text: str) -> None:
    message = judge(examiner, f"raise ValueError({text!r})\n", TESTS).message
    assert message.isprintable()
    assert len(message) < 300
