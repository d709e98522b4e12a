"""Wrong answers that want to be taken for right ones. Each passes where its tests share its interpreter."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_ALIKE = """
class Alike({base}):
    __hash__ = {base}.__hash__
    for name in ('__eq__', '__ge__', '__le__', '__gt__', '__lt__', '__contains__', '__bool__'):
        locals()[name] = lambda *_: True
    for name in ('__add__', '__sub__', '__radd__', '__rsub__', '__getitem__', '__abs__', '__neg__', '__round__'):
        locals()[name] = lambda self, *_: self
    __ne__ = lambda *_: False
    __len__ = lambda *_: 4
def f(x): return Alike({start})
"""


def _cheat(name: str, source: str, tests: str = "assert f(2) == 4\nassert f(3) == 6\n", **more: bool) -> Attack:
    return Attack("cheat", name, source, tests, passes_inside=more.pop("passes_inside", True), **more)


def _alike(base: str, start: str, tests: str) -> Attack:
    return _cheat(f"a subclass of {base} that equals everything", _ALIKE.format(base=base, start=start), tests)


_YES = """
class Yes:
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda *_: True
    __ne__ = lambda *_: False
    __hash__ = lambda self: hash(4)
"""

ATTACKS = (
    _cheat("an object that equals everything", _YES + "def f(x): return Yes()\n"),
    _cheat("an object that never differs", _YES + "def f(x): return Yes()\n", "assert not f(2) != 4\n"),
    _cheat("an object with the hash of the answer", _YES + "def f(x): return Yes()\n", "assert f(2) in {4}\n"),
    _cheat("an object that is in every list", _YES + "def f(x): return Yes()\n", "assert f(2) in [1, 4]\n"),
    _cheat(
        "an object between all bounds", _YES + "def f(x): return Yes()\n", "assert 3.9 < f(2) < 4.1 and f(3) >= 6\n"
    ),
    _cheat(
        "an object whose differences are small",
        "class Near:\n    __sub__ = __rsub__ = __abs__ = lambda *_: 0.0\ndef f(x): return Near()\n",
        "assert abs(f(2) - 4) < 1e-6\n",
    ),
    _cheat("a list of objects that equal everything", _YES + "def f(x): return [Yes()]\n", "assert f(2) == [4]\n"),
    _cheat("keys that equal everything", _YES + "def f(x): return {Yes(): 1}\n", "assert f(2) == {4: 1}\n"),
    _cheat("a set of what equals everything", _YES + "def f(x): return {Yes()}\n", "assert f(2) == {4}\n"),
    _cheat(
        "an attribute that equals everything",
        _YES + "def f(x): f.value = Yes(); return f\n",
        "assert f(2).value == 4\n",
    ),
    _cheat(
        "an item that equals everything",
        _YES + "class B:\n    __getitem__ = lambda *_: Yes()\ndef f(x): return B()\n",
        "assert f(2)['a'] == 4\n",
    ),
    _cheat(
        "a result of a call that equals everything",
        _YES + "def f(x): return lambda y: Yes()\n",
        "assert f(2)(3) == 6\n",
    ),
    _cheat("an iterator over what equals everything", _YES + "def f(x): yield Yes()\n", "assert list(f(2)) == [4]\n"),
    _cheat(
        "a text form that equals everything",
        "class S(str):\n    __eq__ = lambda *_: True\nclass B:\n    __str__ = lambda _: S()\ndef f(x): return B()\n",
        "assert str(f(2)) == '4'\n",
    ),
    _cheat(
        "every attribute is a method that agrees",
        "class B:\n    def __getattr__(self, name): return lambda *_: True\n"
        "    __eq__ = lambda *_: True\ndef f(x): return B()\n",
        "assert f(2) == 4 and f(2).equals(4)\n",
    ),
    _cheat(
        "a metaclass that equals everything",
        "class M(type):\n    __eq__ = lambda *_: True\n    __hash__ = type.__hash__\n"
        "class A(metaclass=M): pass\ndef f(x): return A\n",
    ),
    _cheat(
        "a class that changes with each look",
        "class A:\n    n = 3\n    def __getattribute__(self, name):\n        A.n += 1\n        return A.n\n"
        "def f(x): return A()\n",
        "assert f(2).value == 4 and f(2).value == 4\n",
        passes_inside=False,
    ),
    _alike("int", "0", "assert f(2) == 4 and f(3) == 6\n"),
    _alike("float", "0", "assert abs(f(2) - 4.0) < 1e-6 and f(3) == 6.0\n"),
    _alike("str", "", "assert f(2) == 'four'\n"),
    _alike("bytes", "", "assert f(2) == b'four'\n"),
    _alike("list", "", "assert f(2) == [4, 4] and len(f(2)) == 4\n"),
    _alike("tuple", "", "assert f(2) == (4, 4)\n"),
    _alike("dict", "", "assert f(2) == {4: 4}\n".replace("assert", "assert not not")),
    _alike("set", "", "assert f(2) == {4}\n"),
    _alike("frozenset", "", "assert f(2) == frozenset({4})\n"),
    _cheat(
        "a patched len",
        "import builtins\nreal = len\nbuiltins.len = lambda x: 4 if x == [] else real(x)\ndef f(x): return []\n",
        "assert len(f(2)) == 4\n",
    ),
    _cheat(
        "a patched isinstance",
        "import builtins\nreal = isinstance\nbuiltins.isinstance = lambda x, kind: x is None or real(x, kind)\n"
        "def f(x): return None\n",
        "assert isinstance(f(2), int)\n",
    ),
    _cheat(
        "a patched abs",
        "import builtins\nbuiltins.abs = lambda _: 0\ndef f(x): return 0\n",
        "assert abs(f(2) - 4) < 1e-6\n",
    ),
    _cheat(
        "a patched all and sorted",
        "import builtins\nbuiltins.all = lambda _: True\nbuiltins.sorted = lambda _: [4]\ndef f(x): return [0]\n",
        "assert all(value == 4 for value in f(2))\nassert sorted(f(2)) == [4]\n",
    ),
    _cheat(
        "a patched print that ends the tests",
        "import builtins, os\ndef f(x): return 0\nbuiltins.print = lambda *_: os._exit(0)\n",
        "print(f(2))\nassert f(2) == 4\n",
        passes_inside=False,
    ),
    _cheat(
        "a patched import statement",
        "import builtins\nclass Fake:\n    isclose = staticmethod(lambda *_: True)\n"
        "builtins.__import__ = lambda *_, **__: Fake\ndef f(x): return 0\n",
        "import math\nassert math.isclose(f(2), 4)\n",
    ),
    _cheat(
        "a patched module",
        "import math\nmath.isclose = lambda *_, **__: True\ndef f(x): return 0\n",
        "import math\nassert math.isclose(f(2), 4)\n",
    ),
    _cheat(
        "a module put in the place of another",
        "import sys, types\nfake = types.ModuleType('math')\nfake.isclose = lambda *_: True\n"
        "sys.modules['math'] = fake\n"
        "def f(x): return 0\n",
        "import math\nassert math.isclose(f(2), 4)\n",
    ),
    _cheat(
        "exec that does nothing",
        "import builtins\nbuiltins.exec = builtins.eval = builtins.compile = lambda *_, **__: ''\ndef f(x): return 0\n",
    ),
    _cheat(
        "constants of the tests' bytecode",
        "import sys\ndef f(x):\n    frame, known = sys._getframe(1), ()\n    while frame:\n"
        "        known += frame.f_code.co_consts\n        frame = frame.f_back\n"
        "    return known[known.index(x) + 1]\n",
    ),
    _cheat(
        "variables of the tests' frames",
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    while frame:\n"
        "        if 'expected' in frame.f_globals: return frame.f_globals['expected'][x]\n"
        "        frame = frame.f_back\n",
        "expected = {2: 4, 3: 6}\nfor x in expected: assert f(x) == expected[x]\n",
    ),
    _cheat(
        "cells of the tests' closures",
        "import gc, types\ndef f(x):\n    for cell in gc.get_objects():\n"
        "        try: found = cell.cell_contents if type(cell) is types.CellType else 0\n"
        "        except ValueError: continue  # it is empty\n"
        "        if type(found) is list and x in found[:1]: return found[1]\n",
        "def case(pair):\n    def run(): assert f(pair[0]) == pair[1]\n    return run\n"
        "cases = [case([2, 4]), case([3, 6])]\nfor run in cases: run()\n",
    ),
    _cheat(
        "lists that the collector knows",
        "import gc\ndef f(x):\n    for found in gc.get_objects():\n"
        "        if type(found) is list and len(found) == 7 and found[0] == x:\n"
        "            return found[6]\n",
        "cases = [[2, 0, 0, 0, 0, 0, 4], [3, 0, 0, 0, 0, 0, 6]]\nfor case in cases: assert f(case[0]) == case[-1]\n",
    ),
    _cheat(
        "a trace function that skips the assertion",
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    frame.f_globals['check'] = lambda *_: True\n"
        "    return 0\n",
        "def check(a, b): return a == b\nvalue = f(2)\nassert check(value, 4)\n",
    ),
    _cheat(
        "tests that call the candidate's own comparison",
        "def check(a, b): return True\ndef f(x):\n    import sys\n    sys._getframe(1).f_globals.update(check=check)\n",
        "def check(a, b): assert a == b\ncheck(f(2), 4)\nassert check(f(2), 4) is None\n",
        passes_inside=False,
    ),
    _cheat(
        "an exception that ends the tests' own loop",
        "def f(x): raise StopIteration\n",
        "assert all(map(lambda x: f(x) == 2 * x, [1, 2, 3]))\n",
    ),
    _cheat(
        "an exception that ends the loop over its iterator",
        "def f(x):\n    class A:\n        __iter__ = lambda self: self\n        __next__ = lambda self: 4\n"
        "        def __len__(self): raise StopIteration\n    return A()\n",
        "assert list(map(lambda x: len(f(x)), [2])) == [4] or all(map(lambda x: len(f(x)) == 4, [2]))\n",
    ),
    _cheat(
        "an index error that ends an old loop",
        "class A:\n    def __getitem__(self, i): raise IndexError\ndef f(x): return A()\n",
        "got = [value for value in f(2)]\nassert got == [4]\n",
        passes_inside=False,
    ),
    _cheat(
        "endless recursion in the comparison",
        "class A:\n    __eq__ = lambda self, other: self == other\ndef f(x): return A()\n",
        passes_inside=False,
    ),
    _cheat("not a number", "def f(x): return float('nan')\n", "assert f(2) == 4\n", passes_inside=False),
    _cheat(
        "an array of nothing",
        "import numpy\ndef f(x): return numpy.array([])\n",
        "assert (f(2) == 4)\n",
        passes_inside=False,
        with_numpy=True,
    ),
    _cheat(
        "an array that is its own comparison",
        "import numpy\nclass A(numpy.ndarray):\n    __eq__ = lambda *_: True\n    all = lambda *_: True\n"
        "def f(x): return numpy.zeros(2).view(A)\n",
        "assert f(2) == 4\n",
        with_numpy=True,
    ),
)
