"""How far test programs reach, by reading them: what may be judged by values alone, and what may not."""

from __future__ import annotations

import pytest

from ibft.execution.python_reach import Reach, find_reach

VALUES = [
    "assert f(1, 2) == 3",
    "assert f([1], {2: [3]}, (4, {5})) == [6]",
    "def check(candidate):\n    assert candidate([1]) == [2]\ncheck(f)",
    "def check(candidate, /):\n    assert candidate([1]) == [2]\ncheck(f)",
    "for a, b in [([1], 2), ([2], 3)]:\n    assert f(a) == b",
    "import copy\na = [1]\nassert f(copy.deepcopy(a)) == 1 and a == [1]",
    "assert f(list(range(3)), dict(a=1), [0] * 3, [-1] * 2 * 2, 2 * 3) == [1]",
    "assert abs(f(1) - 0.5) < 1e-6",
    "import numpy as np\nassert np.allclose(f(np.array([1.0])), [1.0])",
    "r = f(1)\nassert r == [1]\nassert len(r) == 1\nr = 2\nassert f(2) == [2]",
    "def same(out, exp):\n    assert out == exp\nsame(f(1), [1])\nsame(f(2), [2])",
    "def is_near(a, b):\n    return abs(a - b) < 1\ndef same(out, exp):\n    assert is_near(out, exp)\nsame(f(1), 1)",
    "assert f(1) == [1] and f(2) == [2]",
    "assert f(1) == [1], f'{f(1)} is wrong'",
    "assert all(f(x) == [1] for x in range(3))",
    "assert f(1) is None",
    "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'x'",
    "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.x = 1\n    def test_a(self):\n"
    "        self.assertEqual(f(1), [1])",
    "for input, expected in [([1], 2)]:\n    assert f(input) == expected",
]
KEPT_ARGUMENT = [
    "a = [1]\nassert f(a) == 1\nassert a == [1]",
    "a = [1]\nassert f([a, a]) == 1",
    "s = [1]\nassert f(dict(a=s)) == 1\nassert s == [1]",
    "assert f([[0]] * 2) == 1",
    "x = [[0]]\nassert f(x * 2) == 1",
    "a, b = [[]] * 2\nassert f(a) == 1 and b == []",
    "a = [1]\nassert all(f(a) == 1 for _ in range(2))",
    "def t(a):\n    assert f(a) == 1\nx = [1]\nt(x)\nt(x)",
    "def array():\n    return rows\nrows = []\nassert f(array()) == 1",
    "def t(g, /):\n    a = [1]\n    assert g(a) == 1 and a == [1]\nt(f)",
    "class T:\n    a = [1]\n    assert f(a) == 1\nassert T.a == [1]",
    "a = b = [1]\nassert f(a) == b",
]
KEPT_RESULT = [
    "r = f(1)\nr.append(1)\nassert f(1) == [1]",
    "a = f(1)\nb = f(2)\nassert a == [1] and b == [2]",
    "assert f(1) == f(2)",
    "assert [f(1), f(2)] == [[1], [2]]",
    "assert [f(x) for x in range(3)] == [[0], [1], [2]]",
    "r = f() or []\nr.append(1)",
    "def assert_same(x, y):\n    x.sort()\n    assert x == y\nassert_same(f(), [1])",
    "def same(x, y):\n    f(0)\n    assert x == y\nsame(f(1), [1])",
    "def same(x, y):\n    assert x == y\nsame(f(1), f(2))",
    "def later():\n    f(2)\nr = f(1)\nlater()\nassert r == [1]",
    "r = None\nfor x in range(3):\n    assert x == 0 or r == [x - 1]\n    r = f(x)",
    "def give():\n    return f(1)\nassert give() == [1]",
    "rows = []\nrows.append(f(1))\nassert rows == [[1]]",
]
NOT_WHOLE = [
    "assert f.__doc__",
    "g = f\nassert g(1) == 1",
    "assert callable(f)",
    "def check(*fs):\n    for g in fs:\n        assert g([1]) == 1\ncheck(f)",
    "def check(g):\n    assert g([1]) == 1\ncheck(*[], f)",
    "def check(g):\n    assert g(1) == 1\ncheck(f)\ndef check(h):\n    pass\ncheck(f)",
    "a = [1]\nassert f(a) is a",
    "assert id(f(1)) == id(f(1))",
    "assert f('a') == hash('a')",
    "n = float('NaN')\nassert f([n]) == [n]",
    "import math\nassert f([math.nan]) == [math.nan]",
    "import sys\nassert f(1) == 1",
    "import random\nrandom.seed(1)\nassert f(1) == 1",
    "from random import setstate\nassert f(1) == 1",
    "import random\nrandom.random = lambda: 1\nassert f(1) == 1",
    "import decimal\ndecimal.getcontext().prec = 3\nassert f(1) == 1",
    "from decimal import localcontext\nwith localcontext(prec=3):\n    assert f(1) == 1",
    "import pytest\ndef test_a():\n    with pytest.warns(UserWarning):\n        f(1)",
    "import pytest\n@pytest.mark.usefixtures('capsys')\ndef test_a():\n    assert f(1) == 1",
    "def test_a(capsys):\n    assert f(1) == 1",
    "import unittest\nclass T(unittest.TestCase):\n    def t(self):\n        with self.assertNoLogs(): f(1)",
    "from unittest import mock\nassert f(1) == 1",
    "try:\n    f(1)\nexcept ValueError as error:\n    assert error.__cause__ is None",
    "async def t():\n    assert f(1) == 1",
    "assert open('a').read() == f(1)",
]


def reach(tests: str) -> Reach:
    return find_reach(tests, "", frozenset({"f"}))


@pytest.mark.parametrize("tests", VALUES)
def test_calls_and_comparisons_see_values_alone(tests: str) -> None:
    assert reach(tests) == Reach(is_whole=True, passes_fresh=True, keeps_results=False)


@pytest.mark.parametrize("tests", KEPT_ARGUMENT)
def test_an_argument_that_can_be_looked_at_again_is_not_fresh(tests: str) -> None:
    assert not reach(tests).passes_fresh


@pytest.mark.parametrize("tests", KEPT_RESULT)
def test_a_result_that_outlives_another_call_or_may_be_changed_is_kept(tests: str) -> None:
    assert reach(tests).keeps_results


@pytest.mark.parametrize("tests", NOT_WHOLE)
def test_whatever_sees_more_than_values_is_not_whole(tests: str) -> None:
    assert not reach(tests).is_whole


def test_setup_is_read_too() -> None:
    setup = "def same(x, y):\n    x.sort()\n    return x == y\n"
    assert find_reach("assert same(f(1), [1])", setup, frozenset({"f"})).keeps_results
    assert not find_reach("assert f(1) == 1", "import os\n", frozenset({"f"})).is_whole
