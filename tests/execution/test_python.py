"""Judging one Python sample: what each kind of program and of test comes to."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from ibft.artifacts.rows import Module, Problem, Sample
from ibft.execution.inside import codec, lockdown, messages
from ibft.execution.isolation import detect_level
from ibft.execution.languages.python import PYTHON
from ibft.execution.outcome import Job, Outcome
from ibft.execution.packages import mentions
from ibft.execution.python_run import run_python
from ibft.execution.sandbox import Limits, Sandbox

LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)
Judge = Callable[..., Outcome]

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(detect_level()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def numpy_sandbox() -> Iterator[Sandbox]:
    codec.know_numpy()
    with Sandbox(detect_level(), packages=["numpy"]) as sandbox:
        yield sandbox


@pytest.fixture
def judge(sandbox: Sandbox) -> Judge:
    def run(
        source: str,
        tests: str,
        *,
        setup: str = "",
        limits: Limits = LIMITS,
        inside: bool = False,
        entry_point: str = "f",
        modules: tuple[Module, ...] = (),
    ) -> Outcome:
        problem = Problem(task_id="t", prompt="", tests=tests, setup=setup, entry_point=entry_point, modules=modules)
        return run_python(PYTHON.prepare(problem), source, sandbox, limits, inside=inside).outcome

    return run


def test_right_answer_passes_and_says_what_it_took(judge: Judge) -> None:
    outcome = judge("def f(x): return 2 * x\n", "assert f(2) == 4\n")
    assert (outcome.status, outcome.message, outcome.is_weak) == ("passed", "passed", False)
    assert 0 < outcome.cpu_time_s < 1
    assert 0 < outcome.wall_time_s < 5


def test_wrong_answer_shows_the_line_that_failed(judge: Judge) -> None:
    outcome = judge("def f(x): return x\n", "y = 2\nassert f(0) == 0\nassert f(y) == 4\n")
    assert (outcome.status, outcome.message) == ("failed", "failed: AssertionError: assert f(y) == 4")


def test_message_of_an_assertion_is_kept(judge: Judge) -> None:
    outcome = judge("def f(x): return x\n", "assert f(2) == 4, 'two and two'\n")
    assert outcome.message == "failed: AssertionError: two and two"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(x): return {}['x']\n", "failed: KeyError: "),
        ("def f(x): return 1 / 0\n", "failed: ZeroDivisionError: division by zero"),
        ("class Odd(Exception): pass\ndef f(x): raise Odd('a\\n  b')\n", "failed: Odd: a b"),
        ("raise ValueError\n", "failed: ValueError"),
        ("def f(): return 4\n", "failed: TypeError: f() takes 0 positional arguments but 1 was given"),
        ("def g(x): return 4\n", "failed: NameError: name 'f' is not defined"),
        ("import sys\nsys.exit(3)\n", "failed: SystemExit: 3"),
        ("import os\nos._exit(3)\n", "failed: the program ended with exit code 3 before its tests did"),
        ("import ctypes\nctypes.string_at(0)\n", "failed: killed by signal 11 (Segmentation fault)"),
        ("import os\nos.close(3)\n", "failed: the program ended with exit code"),
        ("import no_such_module\n", "failed: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_failures_say_what_happened(judge: Judge, source: str, message: str) -> None:
    outcome = judge(source, "assert f(2) == 4\n")
    assert outcome.status == "failed"
    assert outcome.message.startswith(message)


@pytest.mark.parametrize(
    "source", ["def f(:\n", "s = '''", "x = 1\0", "return 1", "  x = 1\n y = 2", "await x", "é = \udc80"]
)
def test_what_does_not_compile_is_a_syntax_error(judge: Judge, source: str) -> None:
    assert judge(source, "assert f(2) == 4\n").status == "syntax_error"


def test_program_too_large_for_the_channel_is_no_failure_of_the_sandbox(judge: Judge) -> None:
    outcome = judge("#" * messages.MAX_ANSWER_BYTES + "\ndef f(x): return 4\n", "assert f(2) == 4\n")
    assert (outcome.status, outcome.message) == ("syntax_error", "syntax error: the program is larger than 16 MiB")


SHELF = Module("shelf", "from math import floor\n\ndef half(x):\n    return floor(x / 2)\n")


@pytest.mark.parametrize(
    "source",
    [
        "from shelf import *\ndef f(x): return half(x)\n",
        "from __future__ import annotations\nimport shelf\ndef f(x: No): return shelf.half(x)\n",
        "def f(x):\n    from shelf import half as h\n    return h(x)\n",
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_program_can_import_the_modules_of_its_problem(judge: Judge, source: str, inside: bool) -> None:
    outcome = judge(source, "assert f(5) == 2\n", modules=(SHELF,), inside=inside)
    assert (outcome.status, outcome.is_weak) == ("passed", inside)
    wrong = judge(source, "assert f(5) == 3\n", modules=(SHELF,), inside=inside)
    assert wrong.status == "failed"


def test_modules_are_there_to_be_imported_and_for_one_problem_alone(judge: Judge) -> None:
    assert "NameError: name 'half'" in judge("def f(x): return half(x)\n", "f(5)\n", modules=(SHELF,)).message
    assert "No module named 'shelf'" in judge("from shelf import *\ndef f(x): pass\n", "f(5)\n").message


def test_modules_can_use_each_other_in_their_order(judge: Judge) -> None:
    quarter = Module("quarter", "from shelf import half\n\ndef quarter(x):\n    return half(half(x))\n")
    source = "from quarter import quarter as f\n"
    assert judge(source, "assert f(9) == 2\n", modules=(SHELF, quarter)).status == "passed"


@pytest.mark.parametrize("source", ["while True: pass\n", "def f(x):\n    while True: pass\n"])
def test_busy_loop_meets_the_cpu_limit(judge: Judge, source: str) -> None:
    outcome = judge(source, "f(2)\n", limits=Limits(cpu_s=0.2, wall_s=20, memory_mib=512))
    assert (outcome.status, outcome.message) == ("timeout_cpu", "timed out: more than 0.2 s of CPU time")
    assert outcome.wall_time_s < 10


def test_limit_holds_below_a_second(judge: Judge) -> None:
    work = "import time\ndef f(x):\n    while time.process_time() < 0.3: pass\n    return 4\n"
    outcomes = [judge(work, "assert f(2) == 4\n", limits=Limits(cpu_s=s, wall_s=20, memory_mib=512)) for s in (0.15, 2)]
    assert [outcome.status for outcome in outcomes] == ["timeout_cpu", "passed"]


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: None"])
def test_program_that_ignores_the_timer_ends_within_a_second_of_its_limit(judge: Judge, handler: str) -> None:
    source = f"import signal\nsignal.signal(signal.SIGPROF, {handler})\nwhile True: pass\n"
    outcome = judge(source, "f(2)\n", limits=Limits(cpu_s=0.2, wall_s=20, memory_mib=512))
    assert outcome.status == "timeout_cpu"
    assert outcome.cpu_time_s <= 1.2


@pytest.mark.parametrize("source", ["import time\ntime.sleep(60)\n", "import time\ndef f(x): time.sleep(60)\n"])
def test_sleep_meets_the_wall_limit(judge: Judge, source: str) -> None:
    start = time.monotonic()
    outcome = judge(source, "f(2)\n", limits=Limits(cpu_s=1, wall_s=0.4, memory_mib=512))
    assert outcome.status == "timeout_wall"
    assert time.monotonic() - start < 1.4


@pytest.mark.parametrize("tests", ["while True: pass\n", "import time\ntime.sleep(60)\n", "for _ in f: pass\n"])
def test_tests_that_never_end_meet_the_wall_limit(judge: Judge, tests: str) -> None:
    outcome = judge(
        "import itertools\nf = itertools.count()\n", tests, limits=Limits(cpu_s=20, wall_s=0.4, memory_mib=512)
    )
    assert outcome.status == "timeout_wall"


def test_tests_cannot_swallow_the_end_of_their_time(judge: Judge) -> None:
    tests = "import time\nfor _ in range(3):\n    try: time.sleep(60)\n    except Exception: pass\n"
    assert judge("f = 1\n", tests, limits=Limits(cpu_s=1, wall_s=0.3, memory_mib=512)).status == "timeout_wall"


def test_alarm_is_put_back(judge: Judge) -> None:
    before = signal.getsignal(signal.SIGALRM)
    judge("def f(x): return 4\n", "assert f(2) == 4\n")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("source", ["x = bytearray(1 << 30)\n", "def f(x): return [0] * (1 << 29)\n"])
def test_memory_bomb_is_named_so(judge: Judge, source: str) -> None:
    outcome = judge(source, "f(2)\n")
    assert (outcome.status, outcome.message) == ("memory", "out of memory")


def test_memory_within_the_limit_is_there(judge: Judge) -> None:
    assert judge("x = bytearray(200 << 20)\ndef f(x): return 4\n", "assert f(2) == 4\n").status == "passed"


def test_writing_to_the_channel_is_refused(judge: Judge) -> None:
    outcome = judge("import os\nos.write(3, b'\\0\\0\\0\\x08\"passed\"')\n", "assert f(2) == 4\n")
    assert outcome.status == "cheating_refused"


# --- What tests may do with what they get.


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): raise ValueError('no')\n",
         "try: f(2)\nexcept ValueError as e: assert str(e) == 'no'\nelse: assert 0\n"),
        ("class E(KeyError): pass\ndef f(x): raise E(3)\n", "try: f(2)\nexcept LookupError: pass\nelse: assert 0\n"),
        ("import decimal\ndef f(x): return 1 / decimal.Decimal(0)\n",
         "try: f(2)\nexcept ZeroDivisionError: pass\nelse: assert 0\n"),
        ("def f(x): yield from range(x)\n", "assert list(f(3)) == [0, 1, 2]\nassert next(f(1)) == 0\n"),
        ("def f(x): return iter([x])\n", "it = f(3)\nassert next(it) == 3\nassert next(it, 'end') == 'end'\n"),
        ("def f(x): return map(str, x)\n", "assert sorted(f([2, 1])) == ['1', '2']\n"),
        ("from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return P(x, [P(1, 2)])\n",
         "assert f(1) == (1, [(1, 2)])\na, b = f(1)\n"),
        ("from collections import Counter, OrderedDict\ndef f(x): return Counter(x), OrderedDict(a=1)\n",
         "assert f('aab') == ({'a': 2, 'b': 1}, {'a': 1})\n"),
        ("def f(*args, key=None, **rest): return args, key, rest\n",
         "assert f(1, (2,), key={3}, other=[4]) == ((1, (2,)), {3}, {'other': [4]})\n"),
        ("def f(x): return lambda y: x + y\n", "assert f(1)(2) == 3\nadd = f(10)\nassert add(y=5) == 15\n"),
        ("class A:\n    def __init__(self, x): self.x = x\n    def twice(self): return 2 * self.x\nf = A\n",
         "a = f(2)\nassert a.x == 2 and a.twice() == 4\nassert f(3).x == 3\n"),
        ("class A:\n    def __len__(self): return 3\n    def __getitem__(self, i): return i * 2\n"
         "    def __str__(self): return 'A!'\n    def __bool__(self): return False\ndef f(x): return A()\n",
         "a = f(2)\nassert len(a) == 3 and a[2] == 4 and str(a) == f'{a}' == 'A!' and not a\n"),
        ("class A:\n    n = 0\n    def up(self): self.n += 1; return self\ndef f(x): return A()\n",
         "a = f(0)\nassert a.up().up().n == 2\nassert not hasattr(a, 'down')\n"),
        ("def f(x): return x\nclass A: pass\n", "a = A()\nassert f(a) is not None\n"),
        ("x = 5\ndef f(): return x\n", "assert x == 5 and f() == 5\n"),
        ("def f(x): return {1, 2}, frozenset({x}), b'a', 1j, None, ..., range(3), 10 ** 40, float('inf')\n",
         "assert f(3) == ({1, 2}, frozenset({3}), b'a', 1j, None, ..., range(3), 10 ** 40, float('inf'))\n"),
        ("state = []\ndef f(x):\n    state.append(x)\n    return state\n",
         "first = f(1)\nassert f(2) == [1, 2]\nassert first == [1]\n"),
        ("import random\ndef f(): return random.random()\n", "value = f()\nassert value != f()\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x)\n",
         "assert f(2).x == 2\n"),
        ("def f(x): return 4\nif __name__ == '__main__': raise SystemExit\n", "assert f(2) == 4\n"),
        ("print('\\ud800', flush=True)\ndef f(x): return '\\ud800'\n", "assert f(2) == '\\ud800'\n"),
        ("def f(x):\n    import sys\n    return sys.stdin.read(), input.__name__\n", "assert f(2) == ('', 'input')\n"),
    ],
)  # fmt: skip
def test_honest_programs_pass(judge: Judge, source: str, tests: str) -> None:
    outcome = judge(source, tests)
    assert outcome.status == "passed", outcome.message


def test_wrong_exception_fails(judge: Judge) -> None:
    outcome = judge("def f(x): raise TypeError('no')\n", "try: f(2)\nexcept ValueError: pass\n")
    assert outcome.message == "failed: TypeError: no"


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): x.append(1)\n", "a = [0]\nf(a)\nassert a == [0, 1]\n"),
        ("def f(x): x.sort()\n", "a = b = [2, 1]\nf(a)\nassert b == [1, 2]\n"),
        ("def f(x): x[0].append(1)\n", "row = []\nf((row, 2))\nassert row == [1]\n"),
        ("def f(x): x[0].pop(); del x[1]\n", "row = [1]\na = [row, 2]\nf(a)\nassert (row, a) == ([], [[]])\n"),
        ("def f(x): x['b'] = x.pop('a')\n", "a = {'a': [1]}\nf(x=a)\nassert a == {'b': [1]}\n"),
        ("def f(x): x['a'].add(2)\n", "s = {1}\na = {'a': s}\nf(a)\nassert s == {1, 2}\n"),
        ("def f(x): x.clear()\n", "a = bytearray(b'ab')\nf(a)\nassert not a\n"),
        ("def f(x): pass\n", "a = [0]\nf(a)\nassert a == [0]\n"),
    ],
)
def test_arguments_change_as_the_candidate_changes_them(sandbox: Sandbox, source: str, tests: str) -> None:
    prepared = PYTHON.prepare(Problem(task_id="t", prompt="", tests=tests, entry_point="f"))
    in_place, copied = (run_python(prepared, source, sandbox, LIMITS, in_place=in_place) for in_place in (True, False))
    assert in_place.outcome.message == "passed"
    assert copied.outcome.passed == ("pass" in source)
    assert copied.has_changed_arguments != copied.outcome.passed


def test_functions_cannot_be_handed_over(judge: Judge) -> None:
    outcome = judge("def f(g): return g(2)\n", "assert f(lambda x: 2 * x) == 4\n")
    assert (outcome.status, "cannot cross into the sandbox" in outcome.message) == ("failed", True)


def test_entry_point_may_be_named_like_a_builtin(judge: Judge) -> None:
    outcome = judge("def sum(a, b): return a * b\n", "assert sum(3, 4) == 12\n", entry_point="sum")
    assert outcome.status == "passed"


def test_setup_is_the_benchmarks_own_and_runs_once(judge: Judge) -> None:
    setup = "runs = []\nruns.append(1)\ndef helper(x): return x + 1\n"
    tests = "assert helper(f(1)) == 3 and runs == [1]\n"
    assert judge("def f(x): return 2\ndef helper(x): return 3\nruns = 0\n", tests, setup=setup).status == "passed"
    assert judge("def f(x): return 9\ndef helper(x): return 3\n", tests, setup=setup).status == "failed"


@pytest.mark.parametrize("part", ["setup", "tests"])
def test_broken_problems_say_so_when_they_are_prepared(part: str) -> None:
    problem = {"tests": "assert f(2) == 4\n", "setup": ""} | {part: "def :\n"}
    with pytest.raises(SyntaxError):
        PYTHON.prepare(Problem(task_id="t", prompt="", entry_point="f", **problem))


# --- Inside: where only the candidate's own interpreter will do.


@pytest.mark.parametrize(("answer", "status"), [("x.append(4)", "passed"), ("x.append(5)", "failed")])
def test_tests_inside_see_changes_of_arguments_and_are_weak(judge: Judge, answer: str, status: str) -> None:
    outcome = judge(f"def f(x): {answer}\n", "a = [0]\nf(a)\nassert a == [0, 4]\n", inside=True)
    assert (outcome.status, outcome.is_weak) == (status, True)


def test_inside_setup_comes_after_the_program(judge: Judge) -> None:
    tests = "assert apply(f, 2) == 4\n"
    setup = "def apply(g, x): return g(x)\n"
    assert judge("def f(x): return 4\ndef apply(g, x): return 0\n", tests, setup=setup, inside=True).status == "passed"


def test_an_early_answer_inside_does_not_pass(judge: Judge) -> None:
    source = "import os, struct\ntext = b'[\"ok\",true]'\nos.write(3, (struct.pack('!I', len(text)) + text) * 2)\n"
    assert judge(source, "assert f(2) == 4\n", inside=True).status == "cheating_refused"


def reference(sandbox: Sandbox, solution: str | None, tests: str, inside: bool | None = None) -> tuple[str, bool]:
    problem = Problem(task_id="t", prompt="", tests=tests, entry_point="f", canonical_solution=solution, inside=inside)
    found = PYTHON.reference(Job(problem=problem, limits=LIMITS), PYTHON.prepare(problem), lambda **_: sandbox)
    return found.status, found.is_weak


def test_references_run_outside_if_they_can(sandbox: Sandbox) -> None:
    assert reference(sandbox, "def f(x): return 2 * x\n", "assert f(2) == 4\n") == ("passed", False)


_PRINTED = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as out:
    f(2)
assert out.getvalue() == "2\\n"
"""


@pytest.mark.parametrize(
    ("solution", "tests"),
    [
        ("def f(x): print(x)\n", _PRINTED),
        ("def f(g): return g(2)\n", "assert f(lambda x: 2 * x) == 4\n"),
        ("class A:\n    def __eq__(self, other): return True\ndef f(x): return A()\n", "assert f(2) == 4\n"),
    ],
)
def test_references_that_need_the_same_interpreter_run_inside(sandbox: Sandbox, solution: str, tests: str) -> None:
    assert reference(sandbox, solution, tests) == ("passed", True)
    assert reference(sandbox, solution, tests, inside=False)[0] == "failed"
    assert reference(sandbox, solution, tests, inside=True) == ("passed", True)


def test_broken_references_are_not_passed(sandbox: Sandbox) -> None:
    assert reference(sandbox, "def f(x): return 5\n", "assert f(2) == 4\n") == ("failed", False)
    assert reference(sandbox, None, "assert f(2) == 4\n") == ("passed", False)


# --- NumPy


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): return np.arange(x)\n", "assert f(3).tolist() == [0, 1, 2]\n"),
        ("def f(x): return np.float64(x) / 2\n", "assert f(3) == 1.5 and type(f(3)) is float\n"),
        ("def f(x): return x.sum(axis=0)\n", "import numpy\nassert (f(numpy.ones((2, 3))) == [2, 2, 2]).all()\n"),
        ("def f(x): return {np.int64(1): [np.bool_(True)]}\n", "assert f(0) == {1: [True]}\n"),
        ("def f(x): return bool(np.isnan(np.nan)), np.linalg.det(np.eye(2))\n", "assert f(0) == (True, 1.0)\n"),
    ],
)
def test_numpy_values_arrive(numpy_sandbox: Sandbox, source: str, tests: str) -> None:
    problem = Problem(task_id="t", prompt="", tests=tests, entry_point="f")
    outcome = run_python(
        PYTHON.prepare(problem), f"import numpy as np\n{source}", numpy_sandbox, LIMITS, inside=False
    ).outcome
    assert outcome.status == "passed", outcome.message


def test_numpy_is_missed_only_where_it_is_not_loaded(judge: Judge) -> None:
    assert "No module named 'numpy'" in judge("import numpy\n", "assert f(2) == 4\n").message
    assert "numpy" in mentions("from numpy.linalg import det")
    assert "numpy" not in mentions("numpyro = 1")


def test_completions_continue_the_prompt_and_solutions_stand_alone() -> None:
    problem = Problem(task_id="t", prompt="def f(x):\n", tests="")
    assert PYTHON.source(problem, Sample(task_id="t", completion="    return 4\n")) == "def f(x):\n    return 4\n"
    assert PYTHON.source(problem, Sample(task_id="t", solution="f = 4\n")) == "f = 4\n"
