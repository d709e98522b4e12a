"""Tests of every form, judged as a plain interpreter would run them: the right verdict, and how strong it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest

from ibft.artifacts.rows import Problem
from ibft.execution import Pool, check_references, execute
from ibft.execution.inside import lockdown
from ibft.execution.python_problems import completed
from ibft.run.sections import JudgeConfig

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")

ADD = "def f(a, b):\n"
SUM, WRONG = "    return a + b\n", "    return a - b\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def verdict(pool: Pool, tests: str, source: str, *, solution: str | None = None, entry_point: str = "f") -> str:
    """What a program comes to: passed, failed, excluded, ...; with "weak" before it where it is."""
    problem = Problem(task_id="t", prompt="", tests=tests, canonical_solution=solution, entry_point=entry_point)
    outcome = execute(completed(problem), source, pool=pool)
    return f"weak {outcome.status}" if outcome.is_weak else outcome.status


UNITTEST = """
import unittest
class {name}(unittest.TestCase):
    def setUp(self):
        self.two = 2
    def test_sum(self):
        self.assertEqual(f(1, self.two), 3)
"""
FORMS = {
    "assert": "assert f(1, 2) == 3\n",
    "check": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "check, called": "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(f)\n",
    "if and raise": "if f(1, 2) != 3:\n    raise ValueError('wrong')\n",
    "exit code": "import sys\nsys.exit(0 if f(1, 2) == 3 else 1)\n",
    "unittest": UNITTEST.format(name="Sums"),
    "unittest, main": UNITTEST.format(name="Sums") + "if __name__ == '__main__':\n    unittest.main()\n",
    "unittest, verbosity": UNITTEST.format(name="Sums") + "unittest.main(verbosity=2, exit=False)\n",
    "unittest, inherited": UNITTEST.format(name="Base") + "class More(Base):\n    pass\n",
    "unittest, subtests": (
        "from unittest import TestCase\nclass T(TestCase):\n    def test_all(self):\n        for a in range(3):\n"
        "            with self.subTest(a=a):\n                self.assertEqual(f(a, 2), a + 2)\n"
    ),
    "unittest, async": (
        "from unittest import IsolatedAsyncioTestCase\nclass T(IsolatedAsyncioTestCase):\n"
        "    async def test_sum(self):\n        self.assertEqual(f(1, 2), 3)\n"
    ),
    "function": "def test_sum():\n    assert f(1, 2) == 3\n",
    "functions": "def test_type():\n    assert isinstance(f(1, 2), int)\n\ndef test_sum():\n    assert f(1, 2) == 3\n",
    "function, async": "async def test_sum():\n    assert f(1, 2) == 3\n",
    "pytest, parametrized": (
        "import pytest\n@pytest.mark.parametrize(('a', 'b', 'c'), [(1, 2, 3), (0, 2, 2)])\n"
        "def test_sum(a, b, c):\n    assert f(a, b) == c\n"
    ),
    "pytest, approx": "import pytest\ndef test_sum():\n    assert f(0.1, 0.2) == pytest.approx(0.3)\n",
    "pytest, fixture": (
        "import pytest\n@pytest.fixture\ndef two():\n    yield 2\ndef test_sum(two):\n    assert f(1, two) == 3\n"
    ),
    "pytest, class": "class TestSums:\n    def test_sum(self):\n        assert f(1, 2) == 3\n",
    "pytest, tmp_path": (
        "def test_sum(tmp_path):\n    (tmp_path / 'a').write_text('1')\n"
        "    assert f(int((tmp_path / 'a').read_text()), 2) == 3\n"
    ),
    "pytest, raises": (
        "import pytest\ndef test_type():\n    with pytest.raises(TypeError, match='unsupported'):\n"
        "        f(1, 'a')\ndef test_sum():\n    assert f(1, 2) == 3\n"
    ),
    "pytest, async": (
        "import pytest\n@pytest.mark.parametrize('a', [1])\nasync def test_sum(a):\n    assert f(a, 2) == 3\n"
    ),
    "pytest, main": (
        "import pytest\ndef test_sum():\n    assert f(1, 2) == 3\nraise SystemExit(pytest.main([__file__]))\n"
    ),
    "main": "def run():\n    assert f(1, 2) == 3\nif __name__ == '__main__':\n    run()\n",
    "async": "import asyncio\nasync def run():\n    assert f(1, 2) == 3\nasyncio.run(run())\n",
    "doctest": (
        ">>> f(1, 2)\n3\n>>> f(1, 'a')  # doctest: +ELLIPSIS\nTraceback (most recent call last):\nTypeError: ...\n"
    ),
    "doctest, in a string": '"""\n>>> f(1, 2)\n3\n"""\nimport doctest\ndoctest.testmod()\n',
    "pytest, main inside": (
        "def test_sum():\n    assert f(1, 2) == 3\nif __name__ == '__main__':\n    import pytest, sys\n"
        "    sys.exit(pytest.main([__file__]))\n"
    ),
    "pytest, with unittest's main": (
        "import pytest\n" + UNITTEST.format(name="Sums") + "if __name__ == '__main__':\n    unittest.main()\n"
    ),
    "pytest, in check": (
        "import pytest\ndef check(candidate):\n    with pytest.raises(TypeError):\n        candidate(1, 'a')\n"
        "    assert candidate(1, 2) == 3\n"
    ),
    "unittest, a class and subtests skipped": (
        "import unittest\nclass A(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n"
        "        raise unittest.SkipTest\n    def test_never(self):\n        pass\n"
        "class B(unittest.TestCase):\n    def test_some(self):\n        for a in (1, 2, 3):\n"
        "            with self.subTest(a=a):\n                if a > 1:\n                    self.skipTest('large')\n"
        "                self.assertEqual(f(a, 2), 3)\n"
    ),
    "a file of a package": "from package.solution import f\ndef test_sum():\n    assert f(1, 2) == 3\n",
    "its own module": "from solution import f\ndef test_sum():\n    assert f(1, 2) == 3\n",
    "its own module, by name": "import solution\ndef test_sum():\n    assert solution.f(1, 2) == 3\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_reference", [True, False])
def test_tests_of_every_form_decide(pool: Pool, form: str, has_reference: bool) -> None:
    solution = ADD + SUM if has_reference else None
    assert verdict(pool, FORMS[form], ADD + SUM, solution=solution) == "passed"
    for wrong in (WRONG, "    return None\n", "    raise NotImplementedError\n", "    raise SystemExit(0)\n"):
        assert verdict(pool, FORMS[form], ADD + wrong, solution=solution).endswith("failed")


@pytest.mark.parametrize(
    "tests",
    [
        "f(1, 2)\n",
        "f(1, 2) == 3\n",
        "print('PASS' if f(1, 2) == 3 else 'FAIL')\n",
        "def run_tests():\n    assert f(1, 2) == 3\n",
        "try:\n    assert f(1, 2) == 3\nexcept Exception:\n    pass\n",
        UNITTEST.format(name="T").replace("test_sum", "check_sum"),
        UNITTEST.format(name="T").replace("    def test_sum", "    @unittest.skip('later')\n    def test_sum"),
        "import pytest\n@pytest.mark.skip\ndef test_sum():\n    assert f(1, 2) == 3\n",
        "if __name__ == '__test__':\n    assert f(1, 2) == 3\n",
        "async def run():\n    assert f(1, 2) == 3\nrun().close()\n",
        "assert callable(f)\n",
        "assert f(1, 2) is None\n",
        "assert f\n",
        "assert (f(1, 2) == 3, 'a tuple is always true')\n",
    ],
)
def test_tests_that_decide_nothing_are_refused(pool: Pool, tests: str) -> None:
    assert verdict(pool, tests, ADD + SUM) in ("excluded", "failed")
    assert verdict(pool, tests, ADD + WRONG) in ("excluded", "failed")


class Case(NamedTuple):
    """Tests, a program that passes them, and ones that fail; `weak` where the tests run inside alone."""

    tests: str
    right: str
    wrong: tuple[str, ...]
    weak: bool = False
    weak_alone: bool = False  # without a reference
    entry_point: str = "f"


BAG = "class Bag:\n    def __init__(self, xs):\n        self.xs = {copy}\n    def items(self):\n        return {out}\n"
VECTOR = (
    "class Vector:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n"
    "    def __add__(self, o):\n        return Vector(self.x + o.x, self.y {sign} o.y)\n"
    "    def __eq__(self, o):\n        return (self.x, self.y) == (o.x, o.y)\n"
)
SEES = {
    "unchanged": Case(
        "a = [3, 1, 2]\nassert f(a) == [1, 2, 3]\nassert a == [3, 1, 2]\n",
        "def f(a): return sorted(a)\n",
        ("def f(a):\n    a.sort()\n    return a\n",),
    ),
    "unchanged, in a helper": Case(
        "def unchanged(xs):\n    before = list(xs)\n    f(xs)\n    return xs == before and f(xs) == 3\n"
        "assert unchanged([1, 2])\n",
        "def f(a): return sum(a)\n",
        ("def f(a):\n    s = sum(a)\n    a.clear()\n    return s\n",),
    ),
    "unchanged, over a table": Case(
        "rows = [[1, 2], [3]]\nfor row in rows:\n    assert f(row) == sum(row)\nassert rows == [[1, 2], [3]]\n",
        "def f(a): return sum(a)\n",
        ("def f(a):\n    s = 0\n    while a: s += a.pop()\n    return s\n",),
    ),
    "the same argument twice": Case(
        "a = [1, 2]\nassert all(f(a) == 3 for _ in range(2))\n",
        "def f(a): return sum(a)\n",
        ("def f(a):\n    s = 0\n    while a: s += a.pop()\n    return s\n",),
    ),
    "changed in place, by another name": Case(
        "g = f\na = [2, 1]\nassert g(a) is None\nassert a == [1, 2]\n",
        "def f(a): a.sort()\n",
        ("def f(a): return sorted(a)\n",),
        weak=True,
    ),
    "changed in place": Case(
        "a = [2, 1]\nassert f(a) is None\nassert a == [1, 2]\n",
        "def f(a): a.sort()\n",
        ("def f(a): return sorted(a)\n", "def f(a): a = sorted(a)\n"),
        weak_alone=True,
    ),
    "a copy is returned": Case(
        "a = [1]\nb = f(a)\nb.append(2)\nassert a == [1]\nassert b == [1, 2]\n",
        "def f(a): return a[:]\n",
        ("def f(a): return a\n",),
    ),
    "the same is returned": Case(
        "a = [1]\nassert f(a) is a\n", "def f(a): return a\n", ("def f(a): return a[:]\n",), weak=True
    ),
    "what was passed is copied": Case(
        "a = [1]\nb = Bag(a)\na.append(2)\nassert b.items() == [1]\n",
        BAG.format(copy="list(xs)", out="list(self.xs)"),
        (BAG.format(copy="xs", out="list(self.xs)"),),
        entry_point="Bag",
    ),
    "what is given is copied": Case(
        "b = Bag([1])\nb.items().append(2)\nassert b.items() == [1]\n",
        BAG.format(copy="list(xs)", out="list(self.xs)"),
        (BAG.format(copy="xs", out="self.xs"),),
        entry_point="Bag",
    ),
    "a fresh result each time": Case(
        "a = f()\na.append(1)\nassert f() == []\n", "def f(): return []\n", ("x = []\ndef f(): return x\n",)
    ),
    "a result that later calls change": Case(
        "a, b = f(1), f(2)\nassert a == [1]\nassert b == [2]\nassert [f(x) for x in (3, 4)] == [[3], [4]]\n",
        "def f(x): return [x]\n",
        ("kept = []\ndef f(x):\n    kept[:] = [x]\n    return kept\n",),
    ),
    "a row twice": Case(
        "assert f([[0] * 2] * 2) == [[1, 0], [0, 0]]\n",
        "def f(rows): return [[1, 0], [0, 0]]\n",
        ("def f(rows):\n    rows[0][0] = 1\n    return rows\n",),
    ),
    "unchanged, as one of many": Case(
        "def check_all(*functions):\n    for function in functions:\n        a = [2, 1]\n"
        "        assert function(dict(a=a)) == [1, 2]\n        assert a == [2, 1]\ncheck_all(f)\n",
        "def f(d): return sorted(d['a'])\n",
        ("def f(d):\n    d['a'].sort()\n    return d['a']\n",),
    ),
    "a default that is kept": Case(
        "assert f(1) == [1]\nassert f(2) == [2]\n",
        "def f(x): return [x]\n",
        ("def f(x, seen=[]):\n    seen.append(x)\n    return seen\n",),
    ),
    "docstring": Case(
        "assert f.__doc__\nassert f(1) == 1\n", "def f(x):\n    'Say.'\n    return x\n", ("def f(x): return x\n",)
    ),
    "name": Case(
        "assert f.__name__ == 'f'\nassert f(1) == 1\n", "def f(x): return x\n", ("f = lambda x: x\n",), weak=True
    ),
    "attribute": Case(
        "p = P(1)\nassert p.x == 1\np.x = 2\nassert p.double() == 4\n",
        "class P:\n    def __init__(self, x): self.x = x\n    def double(self): return 2 * self.x\n",
        ("class P:\n    def __init__(self, x): self.x = x\n    def double(self): return 2\n",),
        weak=True,
        entry_point="P",
    ),
    "operators": Case(
        "assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6)\n",
        VECTOR.format(sign="+"),
        (VECTOR.format(sign="-"),),
        weak=True,
        entry_point="Vector",
    ),
    "not equal": Case(
        "assert P(1) != P(2)\nassert P(1) == P(1)\n",
        "class P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n",
        ("class P:\n    def __init__(self, x): pass\n",),
        weak=True,
        entry_point="P",
    ),
    "identity": Case(
        "assert f() is f()\nassert f() == []\n", "x = []\ndef f(): return x\n", ("def f(): return []\n",), weak=True
    ),
    "callback": Case(
        "assert f([lambda v: v + 1, abs], -3) == [-2, 3]\n",
        "def f(fs, x): return [g(x) for g in fs]\n",
        ("def f(fs, x): return [-2, 4]\n",),
        weak=True,
    ),
    "no cause and no arguments": Case(
        "try:\n    f(1)\nexcept ValueError as error:\n    assert error.args == ()\nelse:\n    assert False\n",
        "def f(x): raise ValueError\n",
        ("def f(x): raise ValueError(x)\n", "def f(x): raise ValueError('')\n"),
    ),
    "the cause of an exception": Case(
        "try:\n    f('k')\nexcept ValueError as error:\n    assert isinstance(error.__cause__, KeyError)\n"
        "else:\n    assert False\n",
        "def f(x):\n    try:\n        {}[x]\n    except KeyError as error:\n        raise ValueError(x) from error\n",
        ("def f(x): raise ValueError(x)\n",),
        weak=True,
    ),
    "the end of an iteration": Case(
        "try:\n    f()\nexcept StopIteration:\n    pass\nelse:\n    assert False\n",
        "def f(): raise StopIteration\n",
        ("def f(): raise RuntimeError('the candidate raised StopIteration')\n",),
        weak=True,
    ),
    "its own exception": Case(
        "try:\n    f(-1)\nexcept Negative as error:\n    assert error.value == -1\nelse:\n    assert False\n",
        "class Negative(Exception):\n    def __init__(self, value): self.value = value\n"
        "def f(x):\n    if x < 0: raise Negative(x)\n",
        ("class Negative(Exception):\n    pass\ndef f(x):\n    if x < 0: raise Negative(x)\n",),
        weak=True,
    ),
    "an exception's arguments": Case(
        "try:\n    f(1)\nexcept KeyError as error:\n    assert error.args == (1,)\nelse:\n    assert False\n",
        "def f(x): raise KeyError(x)\n",
        ("def f(x): raise KeyError(str(x))\n", "def f(x): return x\n"),
        weak=True,
    ),
    "printed": Case(
        "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    f('Ada')\n"
        "assert out.getvalue() == 'Hello, Ada\\n'\n",
        "def f(name): print(f'Hello, {name}')\n",
        ("def f(name): return f'Hello, {name}'\n", "def f(name): print('Hello', name)\n"),
        weak=True,
    ),
    "nothing is printed": Case(
        "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    assert f(1) == 2\n"
        "assert out.getvalue() == ''\n",
        "def f(x): return 2 * x\n",
        ("def f(x):\n    print(x)\n    return 2 * x\n",),
    ),
    "warned": Case(
        "import pytest\ndef test_warning():\n    with pytest.warns(UserWarning):\n        assert f() == 1\n",
        "import warnings\ndef f():\n    warnings.warn('old')\n    return 1\n",
        ("def f(): return 1\n",),
        weak=True,
    ),
    "nothing is logged": Case(
        "import unittest\nclass T(unittest.TestCase):\n    def test_quiet(self):\n        with self.assertNoLogs():\n"
        "            self.assertEqual(f(), 1)\n",
        "def f(): return 1\n",
        ("import logging\ndef f():\n    logging.warning('loud')\n    return 1\n",),
    ),
    "precision": Case(
        "import decimal\ndecimal.getcontext().prec = 3\nassert f(1, 3) == decimal.Decimal('0.333')\n",
        "from decimal import Decimal\ndef f(a, b): return Decimal(a) / b\n",
        ("def f(a, b): return a / b\n",),
        weak=True,
    ),
    "a NaN": Case(
        "n = float('nan')\nassert f([n]) == [n]\n",
        "def f(a): return list(a)\n",
        ("def f(a): return [float('nan')]\n",),
        weak=True,
    ),
    "printed, pytest": Case(
        "def test_greeting(capsys):\n    f('Ada')\n    assert capsys.readouterr().out == 'Hello, Ada\\n'\n",
        "def f(name): print(f'Hello, {name}')\n",
        ("def f(name): print(name)\n",),
        weak=True,
    ),
    "read from a file": Case(
        "def test_lines(tmp_path):\n    (tmp_path / 'a').write_text('1\\n2\\n')\n    assert f(tmp_path / 'a') == 2\n",
        "def f(path): return len(open(path).readlines())\n",
        ("def f(path): return len(open(path).read())\n",),
        weak=True,
    ),
    "patched": Case(
        "from unittest.mock import patch\nwith patch('random.random', return_value=0.5):\n    assert f() == 1.0\n",
        "import random\ndef f(): return 2 * random.random()\n",
        ("import random\ndef f(): return random.random()\n",),
        weak=True,
    ),
    "large": Case(
        "assert f(list(range(3_000_000))) == 4499998500000\n",
        "def f(xs): return sum(xs)\n",
        ("def f(xs): return len(xs)\n",),
        weak=True,
    ),
    "a subclass": Case(
        "assert f(1, 2).x == 1\n",
        "import collections\nP = collections.namedtuple('P', 'x y')\ndef f(x, y): return P(x, y)\n",
        ("def f(x, y): return (x, y)\n",),
        weak=True,
    ),
    "not a subclass": Case(
        "assert type(f('ab')) is dict\nassert f('aab') == {'a': 2, 'b': 1}\n",
        "import collections\ndef f(s): return dict(collections.Counter(s))\n",
        ("import collections\ndef f(s): return collections.Counter(s)\n",),
    ),
    "an exact type": Case(
        "assert isinstance(f(2), int) and not isinstance(f(2), bool) and f(2) == 4\n",
        "def f(x): return 2 * x\n",
        ("def f(x): return 2.0 * x\n",),
    ),
    "a value of the tests' own class": Case(
        "class P:\n    x = 3\nassert f(P()) == 3\n", "def f(p): return p.x\n", ("def f(p): return 4\n",), weak=True
    ),
    "a value of a subclass": Case(
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\nassert f(P(1, 2)) == 3\n",
        "def f(p): return p.x + p.y\n",
        ("def f(p): return p.x\n",),
        weak=True,
    ),
    "a generator": Case(
        "g = f(3)\nassert next(g) == 0\nassert list(g) == [1, 2]\n",
        "def f(n):\n    yield from range(n)\n",
        ("def f(n):\n    return range(n)\n",),
    ),
    "numpy": Case(
        "import numpy as np\nassert f(np.array([1.0, 2.0])) == 3.0\n",
        "def f(a): return float(a.sum())\n",
        ("def f(a): return a.shape[0]\n",),
    ),
    "numpy, in place": Case(
        "import numpy as np\na = np.array([3, 1])\nassert f(a) is None\nassert a.tolist() == [1, 3]\n",
        "def f(a): a.sort()\n",
        ("def f(a): a = sorted(a)\n",),
        weak_alone=True,
    ),
    "numpy, type and shape": Case(
        "import numpy as np\na = f(np.array([200], dtype=np.uint8))\nassert a.dtype == np.uint8\n"
        "assert a.tolist() == [144]\nassert f(np.zeros((0, 3))).shape == (0, 3)\n",
        "def f(a): return a + a\n",
        ("def f(a): return (a + a).astype(int)\n", "import numpy as np\ndef f(a): return np.array(a.tolist()) * 2\n"),
    ),
    "numpy, text": Case(
        "import numpy as np\nassert f(np.array(['a', 'b'])).tolist() == ['aa', 'bb']\n",
        "import numpy as np\ndef f(a): return np.char.multiply(a, 2)\n",
        ("def f(a): return a\n",),
        weak=True,
    ),
    "numpy, text that is returned": Case(
        "import numpy as np\nassert f(2)[1] == 'a'\n",
        "import numpy as np\ndef f(n): return np.array(['a'] * n, dtype=object)\n",
        ("def f(n): return 'b' * n\n",),
    ),
    "numpy, masked": Case(
        "import numpy as np\nassert f().mask.tolist() == [True, False]\n",
        "import numpy as np\ndef f(): return np.ma.array([1, 2], mask=[1, 0])\n",
        ("import numpy as np\ndef f(): return np.array([1, 2])\n",),
        weak=True,
    ),
    "a deque": Case(
        "from collections import deque\na = deque([1, 2], maxlen=2)\nf(a)\nassert a == deque([2, 3])\n",
        "def f(a): a.append(3)\n",
        ("def f(a): a.appendleft(3)\n",),
        weak_alone=True,
    ),
    "a time zone": Case(
        "assert f().tzname() == 'X'\n",
        "from datetime import *\ndef f(): return datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1), 'X'))\n",
        ("from datetime import *\ndef f(): return datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1)))\n",),
        weak=True,
    ),
    "patched, what the channel uses": Case(
        "from unittest.mock import patch\nwith patch('json.loads', return_value=1):\n    assert f('2') == 1\n",
        "import json\ndef f(s): return json.loads(s)\n",
        ("def f(s): return 2\n",),
        weak=True,
    ),
    "seeded": Case(
        "import random\nrandom.seed(1)\na = f()\nrandom.seed(1)\nassert f() == a and 0 < a < 1\n",
        "import random\ndef f(): return random.random()\n",
        ("def f(): return 2\n",),
        weak=True,
    ),
    "a coroutine": Case(
        "import asyncio\nassert asyncio.run(f(2)) == 4\n",
        "async def f(x): return 2 * x\n",
        ("async def f(x): return x\n", "def f(x): return 4\n"),
        weak=True,
    ),
    "a context manager": Case(
        "with f() as x:\n    assert x == 1\n",
        "import contextlib\n@contextlib.contextmanager\ndef f():\n    yield 1\n",
        ("import contextlib\n@contextlib.contextmanager\ndef f():\n    yield 2\n",),
        weak=True,
    ),
    "many calls": Case(
        "assert sum(f(i) for i in range(20_000)) == 399980000\n",
        "def f(x): return 2 * x\n",
        ("def f(x): return x\n",),
    ),
}


@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("has_reference", [True, False])
def test_what_a_channel_cannot_carry_is_seen(pool: Pool, name: str, has_reference: bool) -> None:
    case = SEES[name]
    solution = case.right if has_reference else None
    passed = "weak passed" if case.weak or (case.weak_alone and not has_reference) else "passed"
    assert verdict(pool, case.tests, case.right, solution=solution, entry_point=case.entry_point) == passed
    for wrong in case.wrong:
        assert verdict(pool, case.tests, wrong, solution=solution, entry_point=case.entry_point).endswith("failed")


CHANGES = {
    "patches": "from unittest import mock\nmock.patch('builtins.open', side_effect=OSError).start()\n",
    "builtins": "import builtins\nbuiltins.open = None\n",
    "environment": "import os\nos.environ['PYTEST_ADDOPTS'] = '-k nothing'\nos.chdir('/usr')\n",
    "warnings": "import warnings\nwarnings.simplefilter('error')\n",
    "precision": "import decimal\ndecimal.getcontext().prec = 3\n",
    "limits": "import sys\nsys.setrecursionlimit(90)\nsys.path.insert(0, '/usr/lost')\n",
    "output": "import sys\nsys.stdout = sys.stderr = None\n",
    "modules": "import json, sys\njson.loads = None\nsys.modules['json'] = sys.modules['unittest'] = None\n",
}
UNCHANGED = """
import decimal, json, os, sys, unittest, warnings
with open(os.__file__) as file:
    assert file.read(1)
warnings.warn("not an error")
assert decimal.Decimal(1) / 3 != decimal.Decimal("0.333")
assert sys.getrecursionlimit() >= 1000 and "/usr/lost" not in sys.path and sys.stdout
assert json.loads("[1]") == [1] and os.getcwd() != "/usr"
def test_sum(tmp_path):
    assert f(1, 2) == 3
"""


@pytest.mark.parametrize("name", CHANGES)
def test_what_tests_change_ends_with_them(pool: Pool, name: str) -> None:
    for body in (WRONG, "    raise ValueError\n"):
        assert verdict(pool, f"{CHANGES[name]}assert f(1, 2) == 3\n", ADD + body).endswith("failed")
    assert verdict(pool, UNCHANGED, ADD + SUM) == "passed"


def test_a_class_whose_methods_do_nothing_decides_nothing(pool: Pool) -> None:
    tests = "b = Bag()\nb.add(1)\nb.remove(1)\n"
    assert verdict(pool, tests, BAG.format(copy="[]", out="[]"), entry_point="Bag") == "excluded"


@pytest.mark.parametrize(
    ("name", "statement"),
    [("np", "import numpy as np"), ("isclose", "from math import isclose"), ("math", "import math")],
)
def test_what_the_tests_borrow_from_a_library_is_to_be_imported(name: str, statement: str) -> None:
    tests, solution = f"assert {name}.allclose(f(1), 2)\n", f"{statement}\ndef f(x): return 2 * x\n"
    problem = Problem(task_id="t", prompt="", tests=tests, canonical_solution=solution, entry_point="f")
    with pytest.raises(ValueError, match=f"use {name} without importing it.*Add `{statement}`"):
        completed(problem)
    with_import = Problem(task_id="t", prompt="", tests=f"{statement}\n{tests}", entry_point="f")
    assert completed(with_import) == with_import


def test_a_candidate_that_is_not_deterministic_is_named(pool: Pool) -> None:
    source = "import os\ndef f(a): return 1 if os.getpid() % 2 else 2\n"
    problem = Problem(task_id="t", prompt="", tests="a = [1]\nassert f(a) == 1\nassert a == [1]\n", entry_point="f")
    messages = {execute(problem, f"{source}# {number}\n", pool=pool).message for number in range(12)}
    assert any("not deterministic" in message for message in messages), messages


@pytest.mark.parametrize("solution", ["def f(xs): return sorted(xs)\n", None])
def test_changed_arguments_help_nobody_to_a_strong_verdict(pool: Pool, solution: str | None) -> None:
    tests = "xs = [3, 1]\nassert f(xs) == sorted(xs)\n"
    assert verdict(pool, tests, "def f(xs): return sorted(xs)\n", solution=solution) == "passed"
    cheat = "def f(xs):\n    xs.clear()\n    return xs\n"
    assert verdict(pool, tests, cheat, solution=solution) == "weak passed"  # as a plain interpreter says, too


def test_packages_are_there_where_they_are_asked_for() -> None:
    problem = Problem(
        task_id="t",
        prompt="",
        entry_point="f",
        tests="assert abs(f([1.0, 2.0, 4.0]) - 1.5275) < 1e-3\n",
        canonical_solution="from scipy import stats\ndef f(x):\n    return float(stats.tstd(x))\n",
    )
    statuses = [
        reference.status
        for packages in ((), ("scipy",))
        for reference in check_references([problem], JudgeConfig(workers=1, packages=packages)).values()
    ]
    assert statuses == ["failed", "passed"]


def test_values_only_saves_the_second_run_and_sees_no_more(pool: Pool) -> None:
    case = SEES["unchanged"]
    problem = Problem(task_id="t", prompt="", tests=case.tests, entry_point="f", values_only=True)
    changes = "def f(a):\n    b = sorted(a)\n    a.clear()\n    return b\n"
    assert execute(problem, changes, pool=pool).passed
    assert not execute(msgspec.structs.replace(problem, values_only=False), changes, pool=pool).passed
