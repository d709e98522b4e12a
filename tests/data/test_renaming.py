"""Other names, the same program: on programs that are run, on real code, and against what must stay."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from ibft.data.functions import function_pairs
from ibft.data.renaming import rename_identifiers
from ibft.text.names import free_names


def all_names(code: str) -> dict[str, str]:
    """Each name that the code binds, under a name that it does not have."""
    bound = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)} - free_names(code)
    bound |= {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.arg)}
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bound |= {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, definitions)}
    return {name: f"{name}_ß{number}" for number, name in enumerate(sorted(bound))}


def names(tree: ast.AST, *kinds: type[ast.AST]) -> Counter[str]:
    fields = {ast.Attribute: "attr", ast.alias: "name"}
    return Counter(getattr(node, fields[type(node)]) for node in ast.walk(tree) if isinstance(node, kinds))


def test_what_is_named_changes_and_nothing_else() -> None:
    code = "def total(values, start=0):\n    return sum(values) + start  # values of total\n\n\ntotal([1], start=2)\n"
    assert rename_identifiers(code, {"values": "items", "start": "first", "missing": "x"}) == (
        "def total(items, first=0):\n    return sum(items) + first  # values of total\n\n\ntotal([1], first=2)\n"
    )
    assert rename_identifiers(code, {"total": "f", "sum": "g"}) == code.replace("total(", "f(").replace("sum", "g")
    assert rename_identifiers(code, {}) == code


PROGRAMS = [
    ("def f(x, y=2):\n    def g(z):\n        nonlocal x\n        x += z\n        return x\n    return g(y) + x\n",
     "(5)"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\n", "(6)"),
    ("def f(items):\n    try:\n        return [a + b for a, (b, *c) in items]\n    except TypeError as error:\n"
     "        return repr(error)\n", "([(1, (2, 3)), (4, 5)])"),
    ("import math as m\ndef f(radius: float, word: str) -> str:\n"
     "    text = f'{radius:>{int(radius)}} {m.pi:.2f} {{radius}}'\n    return text + 'radius' + word\n", "(9, 'a')"),
    ("def add(left, right=1):\n    return left - right\n\n"
     "def f(left):\n    return add(right=left, left=3) + add(left)\n", "(7)"),
    ("class Box:\n    size = 2\n    def __init__(self, width, size=3):\n        self.width = width * Box.size + size\n"
     "    def grow(self, width):\n        self.width += width\n        return self\n\n"
     "def f(width):\n    box = Box(width, size=1)\n    return box.grow(width=4).width, box.size\n", "(5)"),
    ("from functools import partial\ndef power(base, exponent):\n    return base ** exponent\n"
     "def f(base):\n    square = partial(power, exponent=2)\n    return square(base=base)\n", "(7)"),
    ("COUNT = 0\ndef f(step):\n    global COUNT\n    COUNT += step\n    return COUNT\n", "(4)"),
    ("def f(first):\n    def g(level=0, name=''):\n        return name * level\n"
     "    return g(**{'level': first, 'name': 'ä'})\n", "(2)"),
    ("def f(größe):\n    é = 'ü'; weite = größe; return é * weite\n", "(3)"),
    ("def f(command):\n    match command:\n        case [action, *rest] if rest:\n            return action, rest\n"
     "        case {'x': value}:\n            return value\n    return command\n", "([1, 2])"),
    ("def f(data):\n    return '%(data)s {data}'.format(data=data) % {'data': data}\n", "(1)"),
    ("def twice(function):\n    return lambda **values: function(**values) * 2\n\n"
     "@twice\ndef g(value):\n    return value\n\ndef f(x):\n    return g(value=x)\n", "(3)"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "arguments"), PROGRAMS)
def test_a_renamed_program_does_the_same(code: str, arguments: str) -> None:
    renamed = rename_identifiers(code, all_names(code))
    results = []
    for text in (code, renamed):
        namespace: dict[str, object] = {}
        exec(text, namespace)
        function = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)][-1].name
        results.append(eval(f"{function}{arguments}", namespace))
    assert renamed != code
    assert results[0] == results[1]


def test_on_real_functions_names_alone_differ() -> None:
    num_changed = 0
    pairs = function_pairs("stdlib")[::10]
    for pair in pairs:
        before = f"{pair.prompt}{pair.completion}"
        after = rename_identifiers(before, all_names(before))
        num_changed += before != after
        assert re.sub(r"_ß\d+", "", after) == before, pair.id
        assert names(ast.parse(before), ast.Attribute, ast.alias) == names(ast.parse(after), ast.Attribute, ast.alias)
        assert free_names(before) == free_names(after)
    assert num_changed > 0.95 * len(pairs)


def test_what_stays() -> None:
    code = (
        "import os\n\n@route('/<user>')\ndef page(user, level):\n"
        "    user.level = level\n    return os.path.join(ROOT, user.name, sep=level)  # level\n"
    )
    new = {"os": "x1", "user": "x2", "level": "x3", "path": "x4", "name": "x5", "sep": "x6", "page": "x7"}
    assert rename_identifiers(code, new) == code.replace("page(", "x7(")
    assert rename_identifiers(code.replace("@route('/<user>')\n", ""), new) == (
        "import os\n\ndef x7(x2, x3):\n    x2.level = x3\n    return os.path.join(ROOT, x2.name, sep=x3)  # level\n"
    )


@pytest.mark.parametrize("new", ["b", "c", "1x", "for", "a b"])
def test_a_name_that_would_change_the_program_is_refused(new: str) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        rename_identifiers("def f(a, b):\n    return a + b.c\n", {"a": new})
    with pytest.raises(ValueError, match="each given once"):
        rename_identifiers("def f(a, b):\n    return a + b\n", {"a": "x", "b": "x"})


def test_what_is_not_python_is_refused() -> None:
    with pytest.raises(ValueError, match="not Python"):
        rename_identifiers("module m; endmodule\n", {"m": "n"})
