import ast
import re
from collections import Counter

import pytest

from ibft.artifacts.rows import Message, Pair
from ibft.data.code import units
from ibft.data.functions import function_pairs
from ibft.data.name_pool import NamePool
from ibft.data.renaming import rename_identifiers
from ibft.text.names import free_names

MERGE = Pair(
    "merge",
    'def merge_counts(first, second, *, step=1):\n    """Add the counts of second to first.\n\n    first: a dict; '
    '`step` scales. merge_counts({}, {}) is {}.\n    """\n',
    "    total = dict(first)  # first stays\n"
    "    for key, value in second.items():\n"
    "        total[key] = total.get(key, 0) + value * step\n"
    "    return sorted(total.items(), key=lambda item: item[1])\n",
)


FUNCTIONS = function_pairs("stdlib")[::10]
POOL = NamePool(FUNCTIONS)


def renamed(pair: Pair, seed: int = 0) -> Pair:
    variant = rename_identifiers(pair, POOL, seed)
    assert variant is not None
    assert variant.id == f"{pair.id}~renamed"
    return variant


def code(source: str) -> str:
    return renamed(Pair("code", "", source)).completion


def names(tree: ast.AST, *kinds: type[ast.AST]) -> Counter[str]:
    fields = {ast.Attribute: "attr", ast.keyword: "arg", ast.alias: "name", ast.Name: "id", ast.arg: "arg"}
    return Counter(getattr(node, fields[type(node)]) for node in ast.walk(tree) if isinstance(node, kinds))


def test_names_change_everywhere_alike_and_nothing_else_does():
    variant = renamed(MERGE)
    before, after = f"{MERGE.prompt}{MERGE.completion}", f"{variant.prompt}{variant.completion}"
    places = r"[A-Za-z_]\w*"
    assert re.sub(places, "", before) == re.sub(places, "", after)
    changed = dict(zip(re.findall(places, before), re.findall(places, after), strict=True))
    kept = {old for old, new in changed.items() if old == new}
    own = {"merge_counts", "first", "second", "step", "total", "value", "item"}
    assert changed.keys() - kept == own
    # `key` is renamed too, but as the keyword of a function from elsewhere it stays.
    assert variant.completion.splitlines()[1].split()[1] != "key,"
    assert "sorted(" in variant.completion
    assert ", key=lambda" in variant.completion
    pairs = set(zip(re.findall(places, before), re.findall(places, after), strict=True))
    assert len([old for old, _ in pairs if old in own]) == len(own)


def test_the_seed_decides():
    assert renamed(MERGE, 1) == renamed(MERGE, 1)
    assert len({renamed(MERGE, seed).completion for seed in range(5)}) == 5


def test_properties_on_real_functions():
    variants = [(pair, rename_identifiers(pair, POOL, 3)) for pair in FUNCTIONS]
    found = [(pair, variant) for pair, variant in variants if variant is not None]
    assert len(found) > 0.95 * len(FUNCTIONS)
    for pair, variant in found:
        before, after = f"{pair.prompt}{pair.completion}", f"{variant.prompt}{variant.completion}"
        assert before != after
        assert [unit.fingerprint for unit in units(before)] == [unit.fingerprint for unit in units(after)], pair.id
        old, new = ast.parse(before), ast.parse(after)
        kinds = ast.Attribute, ast.keyword, ast.alias
        assert names(old, *kinds) == names(new, *kinds)
        assert free_names(before) == free_names(after)
        fresh = names(new, ast.Name, ast.arg).keys() - names(old, ast.Name, ast.arg).keys()
        assert not fresh & set(re.findall(r"\w+", before))
        assert before.count("\n") == after.count("\n")
        assert abs(len(after) - len(before)) < 0.1 * len(before) + 5


PROGRAMS = [
    ("def f(x, y=2):\n    def g(z):\n        nonlocal x\n        x += z\n        return x\n    return g(y) + x\n",
     "(5)"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\n", "(6)"),
    ("def f(items):\n    try:\n        return [a + b for a, (b, *c) in items]\n    except TypeError as error:\n"
     "        return repr(error)\n", "([(1, (2, 3)), (4, 5)])"),
    ("import math as m\ndef f(radius: float) -> str:\n    text = f'{radius:>{int(radius)}} {m.pi:.2f} {{radius}}'\n"
     "    return text + 'radius'\n", "(9)"),
    ("def add(left, right=1):\n    return left - right\n\n"
     "def f(left):\n    return add(right=left, left=3) + add(left)\n",
     "(7)"),
    ("class Box:\n    size = 2\n    def __init__(self, width, size=3):\n        self.width = width * Box.size + size\n"
     "    def grow(self, width):\n        self.width += width\n        return self\n\n"
     "def f(width):\n    box = Box(width, size=1)\n    return box.grow(width=4).width, box.size\n", "(5)"),
    ("from functools import partial\ndef power(base, exponent):\n    return base ** exponent\n"
     "def f(base):\n    square = partial(power, exponent=2)\n    return square(base=base)\n", "(7)"),
    ("COUNT = 0\ndef f(step):\n    global COUNT\n    COUNT += step\n    return COUNT\n", "(4)"),
    ("def f(**options):\n    def g(level=0, name=''):\n        return name * level\n    return g(**options)\n",
     "(level=2, name='ä')"),
    ("def f(größe):\n    é = 'ü'; weite = größe; return é * weite\n", "(3)"),
    ("def f(command):\n    match command:\n        case [action, *rest] if rest:\n            return action, rest\n"
     "        case {'x': value}:\n            return value\n    return command\n", "([1, 2])"),
    ("def f(data):\n    return '%(data)s {data}'.format(data=data) % {'data': data}\n", "(1)"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "arguments"), PROGRAMS)
def test_does_the_same_when_run(source, arguments):
    results = []
    for text in (source, code(source)):
        namespace: dict[str, object] = {}
        exec(text, namespace)
        function = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)][-1].name
        results.append(eval(f"{function}{arguments}", namespace))
    assert source != text
    assert results[0] == results[1]


def test_what_stays():
    variant = code(
        "import os\n\n@route('/<user>')\ndef page(user, *args):\n    return os.path.join(ROOT, user.name, sep=user)\n"
    )
    assert re.fullmatch(
        r"import os\n\n@route\('/<user>'\)\ndef (?!page\b)\w+\(user, \*args\):\n"
        r"    return os\.path\.join\(ROOT, user\.name, sep=user\)\n",
        variant,
    )


def test_names_behind_other_than_ascii():
    assert not re.search("größe|weite", code("def f(größe):\n    é = 'ü'; weite = größe; return é * weite\n"))


def test_a_keyword_of_an_imported_function_stays_and_its_value_changes():
    variant = code("from a import b\n\ndef f(level):\n    return b(level=level)\n")
    assert re.search(r"def \w\((\w+)\):\n    return b\(level=\1\)", variant)
    assert "(level)" not in variant


def test_a_fence_in_a_docstring_is_no_markdown():
    source = 'def f(level):\n    """Use:\n    ```\n    f(1)\n    ```\n    """\n    return level\n'
    assert "level" not in code(source)


def test_style_and_length():
    source = "def f(maxValue, _hidden, LIMIT_A, x1, n):\n    return maxValue, _hidden, LIMIT_A, x1, n\n"
    style = r"def [a-z]\([a-z]+[A-Z]\w+, _[a-z]\w+, [A-Z_\d]+, [a-z]\w, [a-z]\):"
    before, after = re.search(style, source).group(), re.search(style, code(source)).group()
    for old, new in zip(re.findall(r"\w+", before)[1:], re.findall(r"\w+", after)[1:], strict=True):
        assert old != new
        assert abs(len(old) - len(new)) <= len(old) // 3


def test_mentions_in_docstrings_and_comments():
    variant = code(
        'def f(path, a):\n    """Return a path, e.g. `a`, or path.join."""\n    return path + a  # a path\'s end\n'
    )
    path, letter = re.findall(r"\((\w+), (\w)\)", variant)[0]
    assert f'"""Return a {path}, e.g. `{letter}`, or {path}.join."""' in variant
    assert variant.endswith(f"return {path} + {letter}  # a {path}'s end\n")


def test_chats_with_fenced_code():
    prompt = "Write `add_two(n)`, the sum of n and two. Add no list.\n```python\nassert add_two(1) == 3\n```"
    answer = (
        "The value n:\n\n```python\ndef add_two(n):\n    value = n + 2\n    return value\n```\nUse `value` of add_two."
    )
    variant = renamed(Pair("chat", (Message("system", "Hi."), Message("user", prompt)), answer))
    function, letter, value = re.search(r"def (\w+)\((\w)\):\n    (\w+) =", variant.completion).groups()
    assert "add_two" not in f"{variant.prompt}{variant.completion}"
    assert [turn.role for turn in variant.prompt] == ["system", "user"]
    assert variant.prompt[1].content.startswith(f"Write `{function}({letter})`, the sum of n and two.")
    assert f"assert {function}(1) == 3" in variant.prompt[1].content
    assert variant.completion.startswith("The value n:")
    assert variant.completion.endswith(f"    return {value}\n```\nUse `{value}` of {function}.")


def test_prose_prompt_and_program():
    variant = renamed(
        Pair("plain", "Write is_even(number) for me, a number.", "def is_even(number):\n    return number % 2 == 0")
    )
    function = re.search(r"def (\w+)", variant.completion).group(1)
    assert variant.prompt == f"Write {function}(number) for me, a number."


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("", "no code (at all)"),
        ("", "print(1)\n"),
        ("module top(input a);", "assign b = a;\nendmodule"),
        ("def f(x):\n", "    return eval('x')\n"),
        ("def f(x):\n", "    return '%(x)s' % locals()\n"),
        ("", "Look:\n```verilog\nmodule top; endmodule\n```"),
        ("def f(x):\n", "    return x +\n"),
        ("def f(x):\n", "    return f'{x=}'\n"),
        ("", "x = '\0'"),
        ("def f(a):\n", f"    return {' + '.join(['a'] * 1_200)}\n"),
        ("def f(a):\n", f"    return a{'[0]' * 1_200}\n"),
        ("def f(a):\n", f"    return {'-' * 2_000}a\n"),
        ("def f(a):\n", f"    return {'-' * 100_000}a\n"),
        ("def f(a):\n", "    if a: pass\n" + "    elif a: pass\n" * 300),
        ("def f(a):\n", f"    return 0x{'f' * 5_000}\n"),
    ],
)
def test_none_where_nothing_can_be_renamed(prompt, completion):
    assert rename_identifiers(Pair("none", prompt, completion), POOL, 0) is None


def test_depth_counts_and_not_who_calls():
    def from_below(frames, source):
        if frames:
            return from_below(frames - 1, source)
        return rename_identifiers(Pair("deep", "", source), POOL, 0) is None

    for depth, is_left_out in ((150, False), (250, True)):
        source = f"def f(a):\n    return {'-' * depth}a\n"
        assert {from_below(frames, source) for frames in (0, 200)} == {is_left_out}


def test_code_of_any_depth_and_long_numbers_can_be_compared():
    deep = f"def f(a):\n    return {'-' * 2_000}a\n"
    long, other = (f"def f(a):\n    return a + 0x{digit * 5_000}\n" for digit in "ef")
    fingerprints = [unit.fingerprint for code in (deep, long, other) for unit in units(code)]
    assert len(set(fingerprints)) == 3
    assert units("def f():\n    return 1\n")[0].fingerprint != units("def f():\n    return True\n")[0].fingerprint


def test_windows_line_ends_and_form_feeds():
    assert re.fullmatch(
        r"def (\w)\((\w)\):\r\n    \f\r\n    return \1\(\2\)\r\n", code("def f(x):\r\n    \f\r\n    return f(x)\r\n")
    )
