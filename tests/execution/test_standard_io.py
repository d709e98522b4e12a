"""Programs that read standard input and print: what each kind of output, end and checker comes to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ibft.artifacts.rows import Case, Problem, Sample
from ibft.execution.inside import lockdown
from ibft.execution.isolation import detect_level
from ibft.execution.languages.python import PYTHON
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.outputs import difference
from ibft.execution.sandbox import Limits
from ibft.execution.workplace import Workplace

LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)
CASES = (Case("2\n", "4\n"), Case("5\n", "10\n"))
DOUBLE = "print(int(input()) * 2)\n"
CHECK = "def check(input, output, expected):\n    "
PROGRAM = "import sys\ninput, expected, output = [open(name, newline='').read() for name in sys.argv[1:]]\n"

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with contextlib.ExitStack() as cleanup:
        yield Workplace(detect_level(), str(tmp_path_factory.mktemp("scratch")), cleanup)


@pytest.fixture
def judge(workplace: Workplace) -> Callable[..., Outcome]:
    def run(source: str, cases: tuple[Case, ...] = CASES, limits: Limits = LIMITS, **fields: object) -> Outcome:
        problem = Problem(task_id="t", prompt="", io=cases, **fields)  # type: ignore[arg-type]
        outcome = workplace.do(Job(problem=problem, limits=limits, sample=Sample(task_id="t", solution=source)))
        assert isinstance(outcome, Outcome)
        return outcome

    return run


@pytest.fixture
def reference(workplace: Workplace) -> Callable[..., Reference]:
    def run(cases: tuple[Case, ...] = CASES, **fields: object) -> Reference:
        problem = Problem(task_id="t", prompt="Words.\n", io=cases, **fields)  # type: ignore[arg-type]
        outcome = workplace.do(Job(problem=problem, limits=LIMITS))
        assert isinstance(outcome, Reference)
        return outcome

    return run


@pytest.mark.parametrize(
    ("comparison", "expected", "output", "is_right"),
    [
        ("exact", "1 2\n3\n", "1 2  \r\n3\n\n", True),
        ("exact", "1 2\n3\n", "1 2\n3", True),
        ("exact", "1 2\n3\n", "1 2 3\n", False),
        ("exact", "  1\n", "1\n", False),
        ("exact", "1\n", "1.0\n", False),
        ("exact", "a\n\nb\n", "a\nb\n", False),
        ("lines", "1\n2.50\n", " 1.0 \n2.5\n", True),
        ("lines", "1 2\n", "1\n2\n", False),
        ("lines", "50000000000000000\n", "50000000000000001\n", False),
        ("lines", "yes\n", "Yes\n", False),
        ("lines", "nan\n", "snan\n", False),
        ("tokens", "1 2\n3\n", "1\n2\t3", True),
        ("tokens", "1 2 3", "1 2", False),
        ("tokens", "1 2", "1 2 3", False),
        ("tokens", "1.0", "1", False),
        ("tokens", "1", "", False),
        ("floats", "0.333333", "0.3333335", True),
        ("floats", "0.333333", "0.33334", False),
        ("floats", "1000000.0", "1000000.9", True),  # relative
        ("floats", "1000000.0", "1000001.1", False),
        ("floats", "10000000", "10000001", False),  # integers exactly
        ("floats", f"{'9' * 5000}", f"{'9' * 4999}8", False),
        ("floats", "7", "+007", True),
        ("floats", "0", "-0", True),
        ("floats", "3", "3.0000000001", True),
        ("floats", "1e3", "1000.0", True),
        ("floats", "nan inf -inf", "NaN Infinity -INF", True),
        ("floats", "inf", "-inf", False),
        ("floats", "1.0", "nan", False),
        ("floats", "1.0", "inf", False),
        ("floats", "9" * 400, "inf", False),  # both are infinite as floats
        ("floats", "9" * 400, "1e400", True),
        ("floats", "9" * 400, "1.1e400", False),
        ("floats", "9" * 400, "1e9999999", False),
        ("floats", "1.0", "1e9999999999999999999", False),
        ("floats", "x 1.0", "X 1.0", False),
        ("floats", "1.5", "1_0.5e-1", False),
        ("floats", "1.5", "١.٥", False),
        ("floats", "1.5", "1" * 1_000_000 + "x", False),  # in no time
    ],
)
def test_when_an_output_counts_as_right(comparison: str, expected: str, output: str, is_right: bool) -> None:
    problem = Problem(task_id="t", prompt="", comparison=comparison)  # type: ignore[arg-type]
    assert (difference(problem, expected, output) == "") is is_right


def test_differences_are_named_shortly_and_without_control_characters() -> None:
    problem = Problem(task_id="t", prompt="")
    assert difference(problem, "1 2", "1 \x1b[31m") == "word 2 is '\\x1b[31m', expected '2'"
    assert difference(problem, "1 2", "1") == "1 words, expected 2"
    assert len(difference(problem, "1", "x" * 10_000)) < 100


@pytest.mark.parametrize(
    "source",
    [
        DOUBLE,
        "import sys\nsys.stdout.write(str(int(sys.stdin.read()) * 2))",
        "def main():\n    print(int(input()) * 2)\n\nif __name__ == '__main__':\n    main()\n",
        f"{DOUBLE}exit()",
        f"{DOUBLE}import sys; sys.stderr.write('x' * 10 ** 6)",
        f"{DOUBLE}import sys; sys.stdout.close()",
        "import os\nos.write(1, b'%d' % (int(os.read(0, 99)) * 2))\nos._exit(0)",
        "import atexit\nn = input()\natexit.register(lambda: print(int(n) * 2))",
        "import io, os, sys\nsys.stdin = io.StringIO(os.read(0, os.fstat(0).st_size).decode())\nprint(2*int(input()))",
        "print(int(open(0).read()) * 2, end='\\r\\n\\n\\n')",
        "import sys\nsys.__stdout__.write(f'{2 * int(next(sys.stdin))}')",
        "from __future__ import annotations\nprint(int(input()) * 2)",
    ],
)
def test_right_programs_pass(judge: Callable[..., Outcome], source: str) -> None:
    outcome = judge(source)
    assert (outcome.status, outcome.message, outcome.reached) == ("passed", "passed", "case 2 of 2")
    assert not outcome.is_weak


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("print(4)", "failed", "failed: case 2 of 2: word 1 is '4', expected '10'"),
        ("", "failed", "failed: case 1 of 2: 0 words, expected 1"),
        (f"{DOUBLE}1 / 0", "failed", "case 1 of 2: exit code 1, 'ZeroDivisionError: division by zero'"),
        (f"{DOUBLE}exit(3)", "failed", "failed: case 1 of 2: exit code 3"),
        ("input(); input()", "failed", "'EOFError: EOF when reading a line'"),
        (f"{DOUBLE}import os; os.kill(os.getpid(), 9)", "failed", "PermissionError"),
        ("import os; print(4); os.abort()", "failed", "case 1 of 2:"),
        ("print(4", "syntax_error", "syntax error: \"SyntaxError: '(' was never closed (<candidate>, line 1)\""),
        ("return", "syntax_error", "'return' outside function"),
        ("\0", "syntax_error", "null byte"),
        ("while True: pass", "timeout_cpu", "timed out: case 1 of 2: more than 0.5 s of CPU time"),
        ("import time; time.sleep(100)", "timeout_wall", "timed out: case 1 of 2: still running after 2 s"),
        ("x = bytearray(10 ** 10)", "memory", "out of memory: case 1 of 2: 'MemoryError'"),
        ("print('4\\n' * 10 ** 6)", "failed", "it printed more than 1 MiB"),
        ("while True: pass\nprint('4')", "timeout_cpu", "more than 0.5 s of CPU time"),
        ("import sys; sys.stdout.buffer.write(b'\\xff4')", "failed", "word 1 is '\\udcff4', expected '4'"),
        ("import os\nwhile True: os.fork()", "failed", "PermissionError"),
        ("import subprocess; subprocess.run(['/bin/echo', '4'])", "failed", "PermissionError"),
        ("import socket; socket.socket()", "failed", "PermissionError"),
        ("print(open('/etc/passwd').read())", "failed", "Error"),
        ("open('x', 'w').write('4' * 2 ** 21)", "failed", "File too large"),
        ("import os; os.close(1); print(4)", "failed", "0 words, expected 1"),
        ("import sys; sys.exit('4')", "failed", "exit code 1, '4'"),
        ("import os; os.write(1, b'4'); os.write(3, b'4')", "failed", "Bad file descriptor"),
        ("import gc; print([o for o in gc.get_objects() if o == '10\\n'] and 4)", "failed", "word 1 is '[]'"),
    ],
)
def test_wrong_and_hostile_programs_fail(judge: Callable[..., Outcome], source: str, status: str, message: str) -> None:
    outcome = judge(source, limits=Limits(cpu_s=0.5, wall_s=2, memory_mib=512))
    assert (outcome.status, message in outcome.message) == (status, True), outcome.message
    assert judge(DOUBLE).passed  # and nothing is left for the next one


def test_a_flood_of_output_ends_at_once(judge: Callable[..., Outcome]) -> None:
    outcome = judge("while True: print('x' * 10 ** 5)", limits=Limits(cpu_s=60, wall_s=300, memory_mib=512))
    assert outcome.message == "failed: case 1 of 2: it printed more than 1 MiB"
    assert outcome.cpu_time_s < 1


def test_inputs_and_outputs_of_several_megabytes(judge: Callable[..., Outcome]) -> None:
    numbers = "\n".join(map(str, range(1_000_000))) + "\n"
    copy = "import sys\nsys.stdout.write(sys.stdin.read())"
    for comparison in ("exact", "lines", "tokens", "floats"):
        assert judge(copy, (Case(numbers, numbers),), comparison=comparison).passed
    assert judge(copy, (Case(numbers, numbers),), checker=f"{CHECK}return output == expected").passed
    assert judge("print(sum(map(int, open(0))))", (Case(numbers, "499999500000"),)).passed
    assert not judge(f"{copy[:-1]}[:-10])", (Case(numbers, numbers),)).passed


def test_limits_hold_for_each_case_and_times_are_sums(judge: Callable[..., Outcome]) -> None:
    source = "import time\nwhile time.process_time() < 0.2: pass\nprint(1)"
    outcome = judge(source, (Case("", "1"),) * 3, limits=Limits(cpu_s=0.4, wall_s=5, memory_mib=512))
    assert outcome.passed
    assert 0.6 <= outcome.cpu_time_s < 1.2


@pytest.mark.parametrize(
    ("checker", "source", "message"),
    [
        (f"{CHECK}return int(output) == int(expected)", DOUBLE, "passed"),
        (f"{CHECK}print('no'); return int(output) == 2 * int(input)", "print('+', int(input()) * 2, sep='')", "passed"),
        (f"{CHECK}return int(output) == int(expected)", "print(4)", "case 2 of 2: its checker says that it is wrong"),
        (f"{CHECK}assert int(output) == 4", "print(4)", "case 1 of 2: its checker says that it is wrong"),  # None
        (f"{CHECK}return int(output) > 0", "print('x')", 'its checker: exit code 1, "ValueError: invalid literal'),
        (f"{CHECK}return eval(output)", "print('__import__(\"os\")._exit(0)')", "its checker printed 'nothing'"),
        (f"{CHECK}return eval(output)", "print('open(\"/etc/passwd\").read()')", "its checker: exit code 1"),
        (f"{CHECK}return len(range(int(output)) and list(range(int(output))))", "print(10 ** 12)", "'MemoryError'"),
        (f"{CHECK}\n    while output: pass", "print(4)", "its checker: more than 0.5 s of CPU time"),
        ("import numpy as np\n" + f"{CHECK}return np.isclose(float(output), float(expected))", DOUBLE, "passed"),
        (f"{PROGRAM}print('compared'); print(int(int(output) == int(expected)))", DOUBLE, "passed"),
        (f"{PROGRAM}print(100 if input.strip() else 0)", DOUBLE, "passed"),
        (f"{PROGRAM}print(0)", DOUBLE, "its checker says that it is wrong"),
        (f"{PROGRAM}sys.exit(output != '4\\n')", "print(5)", "its checker: exit code 1"),
        (f"{PROGRAM}", DOUBLE, "its checker printed 'nothing', not a score"),
        (f"{PROGRAM}print('ok')", DOUBLE, "its checker printed 'ok', not a score"),
        (f"{PROGRAM}print('nan')", DOUBLE, "its checker says that it is wrong"),
        (f"{PROGRAM}print(1)", "print('\\xff'.encode('latin-1'))\n1 / 0", "exit code 1, 'ZeroDivisionError"),
        (f"{PROGRAM}print(1)", "import os; os.write(1, b'\\xff')", "UnicodeDecodeError"),
        (f"{CHECK}return True", "import os; os.write(1, b'\\xff' * 15_000_000)", "more than its checker can be given"),
    ],
)
def test_a_checker_decides(judge: Callable[..., Outcome], checker: str, source: str, message: str) -> None:
    outcome = judge(source, checker=checker, limits=Limits(cpu_s=0.5, wall_s=10, memory_mib=512))
    assert message in outcome.message
    assert outcome.passed is (message == "passed")


def test_a_program_finds_no_files_of_the_checker(judge: Callable[..., Outcome]) -> None:
    assert judge("import os\nprint(os.listdir('.'))", checker=f"{PROGRAM}print(int(output == '[]\\n'))").passed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"canonical_solution": DOUBLE}, "passed"),
        ({}, "it has no reference solution"),
        ({"checker": f"{CHECK}return int(output) == int(expected)"}, "it has no reference solution"),
        ({"canonical_solution": "print(4)"}, "failed: case 2 of 2: word 1 is '4', expected '10'"),
        ({"cases": (Case("1\n", "\n"), Case("2\n", ""))}, "an empty program passes its tests"),
        ({"checker": f"{CHECK}return True"}, "an empty program passes its tests"),
        ({"checker": f"{CHECK}return True", "canonical_solution": DOUBLE}, "an empty program passes its tests"),
        ({"checker": f"{CHECK}return bomb"}, 'case 1 of 2: its expected output: its checker: exit code 1, "NameError'),
        ({"checker": f"{CHECK}return bomb", "canonical_solution": DOUBLE}, "case 1 of 2: its checker: exit code 1"),
        ({"checker": f"{CHECK}return output == '4\\n'"}, "case 2 of 2: its expected output: its checker says that"),
        ({"cases": (Case("1\n", ""),), "checker": f"{CHECK}return output == input"}, "it has no reference solution"),
        ({"cases": (Case("1\n", ""), Case("2\n", "3"))}, "it has no reference solution"),  # one case decides
    ],
)
def test_problems_that_decide_nothing_or_that_nobody_could_solve_are_excluded(
    reference: Callable[..., Reference], fields: dict[str, object], message: str
) -> None:
    verdict = reference(**fields)
    assert message in verdict.message
    assert verdict.passed is (message in ("passed", "it has no reference solution"))


def test_the_costliest_case_of_the_reference_scales_the_limits(reference: Callable[..., Reference]) -> None:
    wait = "import time\nwhile time.process_time() < 0.2: pass\nprint(1)"
    verdict = reference((Case("", "1"),) * 3, canonical_solution=wait)
    assert 0.2 <= verdict.cpu_time_s < 0.4


@pytest.mark.parametrize(
    ("prompt", "completion", "is_prompt_kept"),
    [
        ('"""\nDouble it.\n"""\n', DOUBLE, True),
        ("import sys\n", "print(2 * int(sys.stdin.read()))\n", True),
        ("def main():\n", "    print(2 * int(input()))\nmain()\n", True),
        ("Double it.\n", DOUBLE, False),
        ("Double\n", DOUBLE, False),  # compiles, and is words
        ("def solve(n):\n", DOUBLE, False),
    ],
)
def test_a_completion_continues_a_prompt_of_code_and_is_whole_behind_words(
    judge: Callable[..., Outcome], prompt: str, completion: str, is_prompt_kept: bool
) -> None:
    problem = Problem(task_id="t", prompt=prompt, io=CASES)
    source = PYTHON.source(problem, Sample(task_id="t", completion=completion))
    assert source == (prompt if is_prompt_kept else "") + completion
    assert judge(source).passed


def test_a_preamble_is_put_in_front_of_every_program(workplace: Workplace, tmp_path: Path) -> None:
    problem = Problem(task_id="t", prompt="", io=CASES, preamble="from math import *\nx = 2\n")
    for source in ("print(int(input()) * x)", "from __future__ import annotations\nprint(floor(x * int(input())))"):
        assert workplace.do(Job(problem=problem, limits=LIMITS, sample=Sample(task_id="t", solution=source))).passed
