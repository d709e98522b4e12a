"""The eight flaw patterns of benchmarks that BenchJack found (arXiv 2605.12673), each tried against the whole judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibft import Pool, execute
from ibft.artifacts.rows import Case, Problem
from ibft.execution.inside import lockdown
from ibft.execution.python_problems import completed

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")

SOLUTION = "def f(x):\n    return x * x + 1\n"
DOUBLE = Problem(
    task_id="double",
    prompt="",
    io=(Case("2\n", "4\n"), Case("10\n", "20\n")),
    canonical_solution="print(2 * int(input()))\n",
)
FORMS = {
    "assert": "assert f(2) == 5\nassert f(3) == 10\n",
    "unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(2), 5)\n"
        "        self.assertEqual(f(3), 10)\n"
    ),
    "pytest": (
        "import pytest\n@pytest.mark.parametrize(('x', 'y'), [(2, 5), (3, 10)])\ndef test_f(x, y):\n"
        "    assert f(x) == y\n"
    ),
    "identity": "assert f(2) == 5 and f(3) == 10\nassert f(2) is not f(3)\n",
}
ISOLATION = {  # V1: nothing lies between the agent and what evaluates it
    "a conftest.py": (
        "open('conftest.py', 'w').write('def pytest_runtest_makereport(item, call): call.excinfo = None')\n"
        "def f(x): return 0\n"
    ),
    "pytest's own functions": (
        "try:\n    import pytest, _pytest.runner\n    pytest.main = lambda *a, **k: 0\n"
        "    _pytest.runner.CallInfo.from_call = None\nexcept ImportError: pass\ndef f(x): return 0\n"
    ),
    "unittest's own functions": (
        "import unittest\nunittest.TestCase.run = lambda self, result=None: result\n"
        "unittest.TestCase.assertEqual = lambda *a: None\ndef f(x): return 0\n"
    ),
    "a module that the tests import": (
        "import sys, types\nsys.modules['pytest'] = sys.modules['unittest'] = types.ModuleType('fake')\n"
        "def f(x): return 0\n"
    ),
    "an object that equals everything": (
        "class E(int):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "def f(x): return E(0)\n"
    ),
}
ANSWERS = {  # V2: the answers come with the test
    "frames": (
        "import sys\ndef f(x):\n    here = sys._getframe()\n    while here:\n"
        "        for value in here.f_locals.values():\n"
        "            if isinstance(value, str) and 'f(2)' in value: return 5\n"
        "        here = here.f_back\n"
    ),
    "all objects": "import gc\ndef f(x):\n    return next((o[1] for o in gc.get_objects() if o == (x, 5)), 0)\n",
    "files": (
        "import glob\ndef f(x):\n    for path in glob.glob('/**/*.jsonl*', recursive=True): return open(path).read()\n"
    ),
}
TRUSTED = {  # V7: what untrusted code says is believed
    "a printed verdict": "print('1 passed')\nprint('OK')\ndef f(x): print('passed')\n",
    "exit code 0": "import sys\ndef f(x): sys.exit(0)\n",
    "an end at once": "import os\nos._exit(0)\n",
    "a message on every descriptor": (
        "import os\ndef f(x):\n    for n in range(3, 20):\n        try: os.write(n, b'\\0\\0\\0\\x0c[\"ok\", true]')\n"
        "        except OSError: pass\n    os._exit(0)\n"
    ),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cheat", {**ISOLATION, **ANSWERS, **TRUSTED}.items(), ids=lambda cheat: cheat[0])
def test_no_cheat_passes_strongly(pool: Pool, form: str, cheat: tuple[str, str]) -> None:
    problem = Problem(
        task_id="t", prompt="", tests=FORMS[form], entry_point="f", canonical_solution=SOLUTION
    )  # its reference passes outside, so that no verdict on it is weak
    outcome = execute(completed(problem), cheat[1], pool=pool)
    assert not outcome.passed, outcome


def test_v3_answers_are_not_evaluated(pool: Pool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    problem = Problem(task_id="t", prompt="", tests="assert f(2) == 5\n", entry_point="f")
    assert not execute(problem, f"def f(x): return {code!r}\n", pool=pool).passed
    checker = "def check(input, output, expected): return eval(output) == int(expected)\n"
    checked = Problem(
        task_id="c", prompt="", io=DOUBLE.io, checker=checker, canonical_solution="print(2 * int(input()))\n"
    )
    assert execute(checked, "print(2 * int(input()))\n", pool=pool).passed
    assert not execute(checked, f"print({code!r})\n", pool=pool).passed
    assert not mark.exists()


def test_v4_no_model_judges() -> None:
    program = (
        "import sys; from ibft import Pool, execute; from ibft.problems.loading import load_problems\n"
        "execute(load_problems('humaneval')[0], '    return True'); print({'openai', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("answer", ["print(4, 20)", "print('4 20')", "print(4.0, '# 4')", "print('x4')", "print(40)"])
def test_v5_a_part_of_the_answer_is_not_enough(pool: Pool, answer: str) -> None:
    assert execute(DOUBLE, "print(2 * int(input()))", pool=pool).passed
    assert not execute(DOUBLE, answer, pool=pool).passed


@pytest.mark.parametrize("answer", ["", "{}", "pass", "None", "def f(x): pass"])
@pytest.mark.parametrize(
    "tests", ["f(2)\n", "assert True or f(2)\n", "def test():\n    return f(2)\n", *FORMS.values()]
)
def test_v6_tests_that_decide_nothing_and_empty_answers(pool: Pool, tests: str, answer: str) -> None:
    problem = completed(Problem(task_id="t", prompt="", tests=tests, entry_point="f"))
    assert execute(problem, answer, pool=pool).status in ("excluded", "no_code", "failed", "syntax_error")


@pytest.mark.parametrize(
    "deed",
    [
        "open('/tmp/ibft-flaw', 'w')",
        "__import__('socket').create_connection(('127.0.0.1', 22), 1)",
        "__import__('subprocess').run(['/bin/true'])",
        "__import__('os').fork()",
        "__import__('os').kill(1, 9)",
        "open('/etc/passwd').read()",
        "__import__('os').setuid(0)",
    ],
)
def test_v8_nothing_is_permitted_that_is_not_needed(pool: Pool, deed: str) -> None:
    problem = Problem(task_id="t", prompt="", tests="assert f(2) == 5\n", entry_point="f")
    source = f"def f(x):\n    try:\n        {deed}\n    except OSError:\n        return 5\n    return 'it worked'\n"
    outcome = execute(problem, source, pool=pool)
    assert outcome.passed, outcome  # every deed raises OSError
