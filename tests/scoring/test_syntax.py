import ast
import re
import sys
from collections import Counter

import pytest

from ibft.data.functions import function_pairs
from ibft.errors import UserError
from ibft.scoring import lexing
from ibft.scoring.syntax import forced_characters, forced_tokens

PYTHON = '''    for a, b in zip(x, y):
        if a not in b:  # a (comment) in it
            d = {k: v if v else 0 for k in "abc"}

        else:
            def g(self, x: int = 3) -> None:
                """Doc (string) else: in it."""
                return [f(1), lambda u: u[1:2]]
        x: int = 3; y = r'a\\'b'
    return d
'''
HAS_HEADER = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.AsyncFor, ast.While, ast.If, ast.With),
    *(ast.AsyncWith, ast.Try, ast.ExceptHandler, ast.Lambda, ast.Match, ast.match_case),
)
VERILOG = """module top(input clk, output reg [3:0] q);
`ifdef FAST
  always @(posedge clk) begin
    if (!r) q <= 4'b10?0; // end (of it);
    else case (q)
      2'd0: q <= a ? b : c;
      default: $display("a;%d\\n", q);
    endcase
  end
`endif
endmodule
"""


def symbols(text: str, **options: str) -> list[str]:
    """The runs of forced characters, without white space."""
    forced = forced_characters(text, **options)
    assert len(forced) == len(text)
    return re.findall(r"\S+", "".join(character if mark else " " for character, mark in zip(text, forced, strict=True)))


def layout(text: str, **options: str) -> str:
    """The white space: ¶ and · where it is forced, _ and newlines where it is free; x for all else."""
    names = {("\n", 1): "¶", (" ", 1): "·", (" ", 0): "_", ("\n", 0): "\n"}
    forced = forced_characters(text, **options)
    return "".join(names.get((character, mark), "x") for character, mark in zip(text, forced, strict=True))


def test_what_python_forces():
    expected = ["in", "):", "in", ":", "else", "in", '"}', ":", "(", ")", ":", '"""', ")", ":", "]]", "'"]
    assert symbols(PYTHON, context="def f(x, y):\n") == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from a import b\nimport c", ["import"]),
        ("x = 1; from a import b", ["import"]),
        ("x = a if b else c", ["else"]),
        ("try: x = 1\nexcept E as e: pass\nelse: y\nfinally: z", [":"] * 4),
        ("x: int = {1: 2}[a:b]", ["}", "]"]),
        ("f = lambda x, y=lambda: {1: 2}: x", [":", "}:"]),
        ("async def f(): pass", ["():"]),
        ("while (x := 3): y: int", ["):"]),
        ("match x:\n    case {1: 2}: pass", [":", "}:"]),
        ("a = b in c, b not in c, b is not c", ["in"]),
        ("[x for x in y if x in z]", ["in", "]"]),
        ("print(f\"{x['a']} (in) {y!r:>{z}}\", '')", ['"', "')"]),
    ],
)
def test_python_statements(code, expected):
    assert "".join(symbols(code, language="python")) == "".join(expected)


def expected_counts(tree: ast.Module, code: str) -> Counter[str]:
    """How often each symbol is forced, from the tree; what is inside of an f-string is text."""
    counts: Counter[str] = Counter()
    lines = code.encode().split(b"\n")
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr):
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            counts["("] += 1
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension, ast.NotIn)):
            counts["in"] += 1
        elif isinstance(node, ast.IfExp):
            counts["else"] += 1
        elif isinstance(node, ast.ImportFrom):
            counts["import"] += 1
        if isinstance(node, HAS_HEADER):
            counts[":"] += 1
        branch = getattr(node, "orelse", None)
        if isinstance(branch, list) and branch:
            first = branch[0]
            is_elif = isinstance(first, ast.If) and lines[first.lineno - 1][first.col_offset :].startswith(b"elif")
            counts[":"] += not is_elif
        counts[":"] += bool(getattr(node, "finalbody", None))
    return counts


def test_agrees_with_the_syntax_tree_of_real_functions():
    for pair in function_pairs("stdlib")[::20]:
        code = f"{pair.prompt}{pair.completion}"
        forced = forced_characters(code, "python")
        words = re.finditer(r"[A-Za-z_]\w*|[(:]", code)
        found = Counter(one.group() for one in words if 0 not in forced[one.start() : one.end()])
        assert found == expected_counts(ast.parse(code), code), pair.id


def test_the_context_is_read_but_not_marked():
    for pair in function_pairs("stdlib")[::100]:
        both = forced_characters(f"{pair.prompt}{pair.completion}", "python")
        assert forced_characters(pair.completion, "python", str(pair.prompt)) == both[len(pair.prompt) :]
    # Without the context, which opened the bracket, the line break would end a statement.
    assert layout("1,\n     2)\n", context="def g():\n  x = f(0,\n") == "xx\n_____xx¶"


def test_layout_of_python():
    code = "if a:\n    b = [1,\n  2]\n\n    c  # d\nelse:\n    e"
    assert layout(code, language="python") == "xx_xx¶····x_x_xxx\n__xx¶\n····x__x_x¶xxxxx¶····x"
    # Where a block is left, that it is left here, and not another one, was the author's choice.
    assert layout("for a in b:\n  if c:\n    d\n  e\n", language="python") == "xxx_x_xx_xx¶··xx_xx¶····x¶__x¶"


def test_what_verilog_forces():
    expected = ["]", ");", ")", "(", ")", ";", "(", ")", ":", ";", '"', ");", "endcase", "end", "`endif", "endmodule"]
    assert symbols(VERILOG) == expected
    assert symbols(VERILOG, language="verilog") == expected
    assert layout(" begin\n  a;\n  b;\n\n end\n c", language="verilog") == "·xxxxx¶··xx¶··xx¶\n·xxx¶·x"
    assert layout("  a;\n b;", language="verilog") == "··xx¶_xx"


def test_other_languages_by_name():
    assert symbols("int f(int a[]) { return '}' + g(); }", language="c") == ["])", "'", ");", "}"]
    assert symbols("if x; then\n  echo $(y)\nfi\n", language="bash") == [";", ")", "fi"]
    assert symbols("int endian = done;", language="c") == [";"]
    assert symbols("let x := f(g(1),2);", language="ampl") == [")", ");"]  # Pygments gives this as one "),"
    assert symbols('x = "a"', language="c") == ['"']


def test_prose_is_never_forced():
    for text in ("It returns x (the input): see above.\n", 'Say "it" (now), [then] in time; else:\n\nDon\'t (ever).'):
        assert not symbols(text)
        assert not symbols(text, language="python")
        assert not symbols(text, context="def f(x):\n    return x\n")
        assert not symbols(text, context="module top(input a);\n")
    assert not any(forced_characters("Some (text).\n", "other"))
    assert not symbols("So:\n  - call (f)\n", language="python")


def test_only_code_inside_of_fences():
    text = f"It (is):\n```verilog\n{VERILOG}```\nor (this)\n~~~\ndef f():\n    g(1)\n~~~\n```text\nf(1)\n```\n(End.)"
    inside = text.index("module"), text.index("```\nor")
    forced = forced_characters(text)
    assert forced[inside[0] : inside[1]] == forced_characters(VERILOG)
    assert not any(forced[: inside[0]])
    code = text.index("def f"), text.index("~~~\n```")
    assert forced[code[0] : code[1]] == forced_characters("def f():\n    g(1)\n")
    assert not any(forced[inside[1] : code[0]])
    assert not any(forced[code[1] :])


def test_a_fence_in_a_docstring_is_no_markdown():
    text = 'def f(a):\n    """Use:\n    ```\n    f(1)\n    ```\n    or\n    ```\n    ```\n    """\n    return (a)\n'
    assert symbols(text) == ["(", "):", '"""', ")"]
    assert forced_characters(text, context="def g():\n    pass\n") == forced_characters(text)


def test_code_between_sentences():
    text = "Here is f (short):\n\ndef f(a):\n    b = (a)\n\n    return b\n\nIt adds (two) numbers, don't you think?"
    assert symbols(text) == ["(", "):", ")"]


def test_cut_or_broken_python_is_read_as_far_as_it_goes():
    context = "def f(x):\n"
    assert symbols("    y = g(x)\n    return [h(", context=context) == [")"]
    assert symbols('    y = g(x)\n    """z (never) ends', context=context) == [")"]
    assert not symbols('    """', context=context)
    assert not symbols("    y = '\n", context=context)
    assert symbols("    for x\n    y = z in x, (1)\n", context=context) == [")"]
    assert symbols("    lambda x\n    y: (int)\n", context=context) == [")"]
    assert symbols("    if (x):\n        y = \"it's\n        z = (y)\n", context=context) == ["):", ")"]
    assert symbols("    if (x):\n            y\n      z = (y)\n", context=context) == ["):", ")"]
    assert symbols("    x = 1)\n    y = (2)\n", context=context) == [")", ")"]


@pytest.mark.parametrize("text", [PYTHON, VERILOG, f"So:\n```python\n{PYTHON}```\n"])
def test_any_cut_can_be_read(text):
    for cut in range(len(text)):
        for part in (text[:cut], text[cut:]):
            assert len(forced_characters(part)) == len(part)
            assert len(forced_characters(part, "python", text[:cut])) == len(part)


def test_tokens():
    text = "    x = f(a)\n\n    y"
    pieces = ["   ", " x", " = f", "(", "a", ")", "\n", "\n", "    ", "y"]
    ends = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
    offsets = [(end - len(piece), end) for end, piece in zip(ends, pieces, strict=True)]
    assert forced_tokens(text, offsets, "python") == [True, False, False, False, False, True, True, False, True, False]
    # White space does not make a token free, nor forced; an empty one (an end token) is free.
    assert forced_tokens("f(a )\n\n", [(3, 5), (3, 7), (1, 5), (5, 7), (7, 7)], "python") == [
        *(True, True, False, False, False)
    ]


def test_pygments_is_needed_for_other_languages_alone(monkeypatch):
    lexing._lexer.cache_clear()
    monkeypatch.setitem(sys.modules, "pygments.lexers", None)
    assert symbols("def f(x):\n    return (x)\n") == ["(", "):", ")"]
    with pytest.raises(UserError, match=r"pip install 'ibft\[audit\]'"):
        forced_characters(VERILOG)
    lexing._lexer.cache_clear()


def test_an_unknown_language_is_an_error_only_where_it_is_given():
    with pytest.raises(UserError, match="language 'klingon': not known"):
        forced_characters("x", "klingon")
    assert not any(forced_characters("```klingon\nf(x)\n```"))
