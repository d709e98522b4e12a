import builtins

import pytest

from ibft.text.names import bound_names, free_names


@pytest.mark.parametrize(
    ("source", "free"),
    [
        ("assert f(1) == len(x)", {"f", "len", "x"}),
        ("def check(candidate):\n    assert candidate(1) == helper\ncheck(f)", {"helper", "f"}),
        ("import a.b, c as d\nfrom e import g as h\na, d, h, c, b, g", {"c", "b", "g"}),
        ("x = 1\ndef f():\n    y = x + z\n    def g():\n        return y + w\n    return g", {"z", "w"}),
        ("[i for i in range(n) if (last := i)]\nlast", {"range", "n"}),
        ("lambda a, *b, c=d, **e: a + b + c + e + q", {"d", "q"}),
        ("class A(Base):\n    field = other\n    def m(self):\n        return A, field", {"Base", "other", "field"}),
        ("def f():\n    global made\n    made = 1\nmade", set()),
        ("try:\n    pass\nexcept E as error:\n    error", {"E"}),
        ("with open(p) as f:\n    f\nfor k, (v, *w) in m:\n    k, v, w", {"open", "p", "m"}),
        ("x.attribute.other = 1\ny[i] += 1\nz += 1", {"x", "y", "i"}),
        ("@decorator\ndef f(a: Type = default) -> Result: ...", {"decorator", "Type", "default", "Result"}),
        ("match v:\n    case Point(x=0, y=q): q\n    case [first, *rest]: first, rest", {"v", "Point"}),
        ("f'{a!r:>{width}}'", {"a", "width"}),
        ("use(later)\nlater = 1", {"use"}),
        ("", set()),
    ],
)
def test_free_names(source: str, free: set[str]) -> None:
    assert free_names(source) == free


def test_names_that_are_free_are_what_running_the_program_misses() -> None:
    source = "import math\ndef check(c):\n    assert math.isclose(c(poly(2)), 4)\ncheck(double)\n"
    missing = free_names(source) - set(dir(builtins))
    assert missing == {"poly", "double"}
    exec(source, {"poly": lambda x: x, "double": lambda x: 2 * x})
    for left_out in missing:
        with pytest.raises(NameError, match=left_out):
            exec(source, {name: lambda x: x for name in missing - {left_out}})


def test_bound_names() -> None:
    imports = "import a.b\nfrom c import d as e\n"
    source = imports + "x = y = 1\nx.z = 2\ndef f(g):\n    global h\n    h = i = 1\nclass C:\n    j = 1"
    assert bound_names(source) == {"a", "e", "x", "y", "f", "h", "C"}


def test_deep_nesting_is_no_error() -> None:
    assert free_names("f(" * 60 + "x" + ")" * 60) == {"f", "x"}
    deep = "lambda: " * 60 + "x"
    assert free_names(deep) == {"x"}


@pytest.mark.parametrize("function", [free_names, bound_names])
def test_what_does_not_compile_is_refused(function: object) -> None:
    for source in ("def", "a\0b"):
        with pytest.raises((SyntaxError, ValueError)):
            function(source)  # type: ignore[operator]
