import ast
import subprocess
import sys

import pytest

from ibft.data.code import Unit, code_of, code_tokens, jaccard, shingles, units, whole

ORIGINAL = '''\
def total_price(items: list[int], rate=0.2) -> float:
    """The price of all items."""
    result = 0
    for item in items:
        result += item * (1 + rate)  # with tax
    return round(result, 2)
'''


def fingerprint(code: str) -> str:
    [unit] = units(code)
    return unit.fingerprint


@pytest.mark.parametrize(
    "same",
    [
        ORIGINAL.replace("total_price", "f").replace("items", "xs").replace("result", "acc"),
        ORIGINAL.replace('    """The price of all items."""\n', "").replace("  # with tax", ""),
        ORIGINAL.replace(": list[int]", "").replace(" -> float", ""),
        ORIGINAL.replace("item * (1 + rate)", "item * (\n            1 + rate\n        )"),
        ORIGINAL.replace("\n", "\r\n"),
        "\n".join("    " + line for line in ORIGINAL.splitlines()),
    ],
    ids=["renamed", "no docstring or comment", "no annotations", "reformatted", "windows", "indented"],
)
def test_equal_code_has_an_equal_fingerprint(same: str) -> None:
    assert fingerprint(same) == fingerprint(ORIGINAL)


@pytest.mark.parametrize(
    "other",
    [
        ORIGINAL.replace("1 + rate", "1 - rate"),
        ORIGINAL.replace("round", "abs"),
        ORIGINAL.replace("0.2", "0.3"),
        ORIGINAL.replace("return round(result, 2)", "return round(items, 2)"),
        ORIGINAL.replace("1 + rate", "rate + 1"),
        ORIGINAL.replace("    for", "    print()\n    for"),
    ],
    ids=["operator", "callee", "constant", "another variable", "order", "one more statement"],
)
def test_different_code_has_another_fingerprint(other: str) -> None:
    assert fingerprint(other) != fingerprint(ORIGINAL)


def test_attributes_and_names_from_outside_are_not_renamed() -> None:
    assert fingerprint("def f(x):\n    x.append(1)\n") != fingerprint("def f(x):\n    x.extend(1)\n")
    assert fingerprint("def f(x):\n    return bisect_left(x)\n") != fingerprint(
        "def f(x):\n    return bisect_right(x)\n"
    )
    assert fingerprint("def f(x):\n    return g(a=x)\n") != fingerprint("def f(x):\n    return g(b=x)\n")


def test_units_are_functions_and_methods_with_their_own_text() -> None:
    code = (
        "import re\n\x0c\nclass A:\n    def first(self):\n        return 1\n\n"
        "if True:\n    def second():\n        def inner(): pass\n"
    )
    found = {unit.name: unit.text for unit in units(code)}
    assert found == {
        "first": "    def first(self):\n        return 1",
        "second": "    def second():\n        def inner(): pass",
    }


def test_code_without_functions_is_one_unit_also_where_nothing_parses() -> None:
    assert [unit.name for unit in units("x = 1\ny = 2\n")] == [""]
    [broken] = units("def f(x):\n    return x +\n")
    assert broken.tokens == ["def", "f", "(", "x", ")", ":", "return", "x", "+"]


def test_tokens_agree_with_pythons_own_but_for_comments_docstrings_and_quotes() -> None:
    import io
    import tokenize

    code = ORIGINAL + "x = f'a{1}' + r\"\\d\" + b'q' # end\ny = [1.5e-3, 0x1F, a.b]\n"
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tree = ast.parse(code)
    docstring = ast.get_docstring(tree.body[0], clean=False)  # type: ignore[arg-type]
    expected = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type not in layout and docstring not in (token.string.strip('"'),)
    ]
    # Python joins operators (`+=`); here each character stands alone.
    assert "".join(code_tokens(code)) == "".join(expected)
    assert code_tokens("x = 'a'") == code_tokens('x  =  "a"')
    assert code_tokens("x = 'a'") != code_tokens("x = 'b'")


VERILOG = """\
module top_module (input a, input [3:0] b, output reg q); // the header
  /* a block
     comment */
  always @(posedge a) q <= b == 4'b10x1;
endmodule
"""


def test_verilog_modules_are_equal_but_for_names_and_comments() -> None:
    renamed = VERILOG.replace("top_module", "m").replace(" q", " out_1").replace(" // the header", "")
    assert fingerprint(renamed.replace("/* a block\n     comment */\n", "")) == fingerprint(VERILOG)
    assert fingerprint(VERILOG.replace("4'b10x1", "4'b1001")) != fingerprint(VERILOG)
    assert fingerprint(VERILOG.replace("posedge", "negedge")) != fingerprint(VERILOG)
    two = units(f"// module x\n{VERILOG}wire w;\n{VERILOG.replace('top_module', 'second')}")
    assert [unit.name for unit in two] == ["top_module", "second"]
    assert two[0].fingerprint == two[1].fingerprint
    assert two[0].text.startswith("module top_module")


def test_the_code_of_an_example_is_fenced_or_continues_its_prompt_or_stands_alone() -> None:
    assert code_of("Do it.", "Sure:\n```python\nx = 1\n```\nand\n```\ny = 2\n") == ("x = 1\n", "y = 2\n")
    assert code_of("def f(x):\n", "    return x\n") == ("def f(x):\n    return x\n",)
    assert code_of("def f(x):", "    return x\n") == ("def f(x):\n    return x\n",)
    assert code_of("Write f.", "def f(x):\n    return x\n") == ("def f(x):\n    return x\n",)
    assert code_of("module m(input a);", "assign b = a;\nendmodule") == (
        "module m(input a);\nassign b = a;\nendmodule",
    )
    assert code_of("Write a module.", VERILOG) == (VERILOG,)


def test_shingles_are_the_same_in_every_process() -> None:
    code = "from ibft.data.code import *; print(sorted(shingles('a b c d e f g'.split())))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


def test_jaccard_of_shingles_by_hand() -> None:
    a, b = shingles(list("abcdefg")), shingles(list("abcdefX"))
    assert (len(a), len(b), len(a & b)) == (3, 3, 2)
    assert jaccard(a, b) == pytest.approx(2 / 4)
    assert jaccard(a, a) == 1
    assert jaccard(set(), set()) == 0
    assert shingles([]) == set()
    assert len(shingles(["a", "b"])) == 1


def test_hostile_text_is_taken_as_it_is() -> None:
    for code in ("\x00", "def f(:\n", "(" * 5000, "\ud800", '"""' * 1000, "endmodule", "module", "'" * 999, ""):
        assert all(isinstance(unit, Unit) for unit in units(code))
        assert isinstance(whole(code), Unit)
