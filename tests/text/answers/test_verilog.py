"""Each rule of `text/answers/verilog.py` by its number, on the shapes that models write."""

from __future__ import annotations

import random
import time

import pytest

from ibft.text.answers.verilog import Design, extract_design
from ibft.text.answers.verilog_tokens import clean, tokenize

HEADER = "module top_module (\n    input a,\n    output b\n);\n"
PROMPT = "// Invert a. A module ends with endmodule;\n" + HEADER
ASSIGN = "assign b = ~a;\n"
WHOLE = HEADER + ASSIGN + "endmodule\n"
HELPER = "module inverter (input a, output b);\nassign b = ~a;\nendmodule\n"
USES_HELPER = HEADER + "inverter i (.a(a), .b(b));\nendmodule\n"
BENCH = 'module top_module_tb;\nreg a;\ntop_module dut (a, b);\ninitial $monitor("%b", b);\nendmodule\n'


def extract(text: str, prompt: str = PROMPT, entry_point: str = "top_module") -> Design:
    design = extract_design(text, prompt, entry_point)
    assert design is not None
    return design


def words(text: str) -> list[str]:
    return [token.value for token in tokenize(text)]


def test_1_control_characters_and_line_ends() -> None:
    assert clean("a\r\nb\rc\x00d\x0ce\ufefff") == "a\nb\nc d e f"
    assert extract("\ufeff" + WHOLE.replace("\n", "\r\n")).source == WHOLE.strip() + "\n"


@pytest.mark.parametrize(
    "text",
    [
        f"```verilog\n{WHOLE}```\nThis inverts `a`.",
        f"Sure; the module is below.\n\n```systemverilog\n{WHOLE}\n```\n",
        f"   ```\n{WHOLE}",
        f"{WHOLE}```\n\nOr, with more words:\n```verilog\n{WHOLE.replace('~', '!')}```\n",
        f"```verilog\n```\n{WHOLE}",
    ],
    ids=["closed", "prose before", "never closed", "opened by the prompt", "empty"],
)
def test_2_fences(text: str) -> None:
    assert words(extract(text).source) == words(WHOLE)


def test_2_several_fences_make_one_answer() -> None:
    design = extract(f"First a helper:\n```\n{HELPER}```\nThen:\n```\n{USES_HELPER}```\nTry it:\n```\n{BENCH}```\n")
    assert words(design.source) == words(HELPER + USES_HELPER)


def test_2_body_in_a_fence() -> None:
    assert words(extract(f"It is:\n```verilog\n{ASSIGN}endmodule\n```").source) == words(WHOLE)


def test_3_body_continues_the_header_of_the_prompt() -> None:
    header = HEADER + "\n"
    assert extract(ASSIGN + "endmodule\n") == Design(header + ASSIGN + "endmodule\n", "body", header)
    assert (
        extract(f"{ASSIGN}endmodule\nThis module inverts a;\nendmodule").source == extract(ASSIGN + "endmodule").source
    )
    assert extract("endmodule").rule == "body"


def test_3_body_keeps_its_helpers() -> None:
    text = "inverter i (a, b);\nendmodule\n\n" + BENCH + HELPER
    assert words(extract(text).source) == words(HEADER + "inverter i (a, b);\nendmodule\n" + HELPER)


def test_3_body_comes_before_a_second_try() -> None:
    assert words(extract(ASSIGN + "endmodule\n" + WHOLE.replace("~", "!")).source) == words(WHOLE)


def test_3_endmodule_in_a_sentence_or_comment_closes_nothing() -> None:
    assert words(extract(f"It starts with module and ends with endmodule.\n{WHOLE}").source) == words(WHOLE)
    assert words(extract(f"{WHOLE}/* a module, a\nendmodule */\nendmodule").source) == words(WHOLE)
    assert words(extract(f'{ASSIGN}// endmodule\nstring s = "endmodule";\nendmodule').source)[-6:-1] == [
        *("string", "s", "=", '"endmodule"', ";")
    ]


def test_4_whole_module_amid_prose() -> None:
    text = f"// Complete the code\nHere is the module that inverts:\n{WHOLE}\nThis module (top_module) inverts; done."
    assert extract(text) == Design(WHOLE, "whole_module")


def test_4_header_of_its_own_is_kept() -> None:
    text = WHOLE.replace("output b", "output wire b")
    assert extract(text).source == text


def test_4_nested_and_labelled_modules_stay_whole() -> None:
    nested = HEADER + HELPER + "inverter i (a, b);\nendmodule"
    assert words(extract(nested).source) == words(nested)


def test_5_helpers_before_and_after_others_go() -> None:
    other = HELPER.replace("inverter", "unused")
    for text in (HELPER + other + USES_HELPER, other + HELPER + BENCH + USES_HELPER):
        assert words(extract(text).source) == words(HELPER + USES_HELPER)
    indirect = HELPER.replace("inverter", "outer").replace("assign b = ~a;", "inverter i (a, b);")
    text = USES_HELPER.replace("inverter", "outer") + indirect + HELPER
    assert words(extract(text + BENCH).source) == words(text)


def test_5_first_definition_counts() -> None:
    assert words(extract(WHOLE + WHOLE.replace("~", "!")).source) == words(WHOLE)
    assert words(extract(HELPER + USES_HELPER + HELPER.replace("~", "")).source) == words(HELPER + USES_HELPER)


@pytest.mark.parametrize(
    "declaration",
    [
        "`define NOT(x) \\\n    (~x)\n",
        "`timescale 1ns / 1ps\n",
        "package p;\nlocalparam ONE = 1;\nendpackage\n",
        "typedef enum logic [1:0] { A, B } state_t;\n",
        "function automatic f(input x);\nf = ~x;\nendfunction\n",
        "import p::*;\n",
        "primitive n (output o, input i);\ntable 0 : 1; 1 : 0; endtable\nendprimitive\n",
    ],
)
def test_5_declarations_between_modules_stay(declaration: str) -> None:
    text = f"Some words.\n{declaration}`top_module` comes next; a class of its own:\n{WHOLE}"
    assert words(extract(text).source) == words(declaration + WHOLE)


def test_6_body_without_its_end_is_not_completed() -> None:
    assert extract(ASSIGN) == Design(HEADER + "\n" + ASSIGN + "\n", "unfinished_body", HEADER + "\n")
    assert extract(f"inverter i (.a(a),\n  .b(b));\n{HELPER}", entry_point="top_module").rule == "other_modules"
    unfinished = extract(HEADER + ASSIGN)
    assert unfinished.rule == "whole_module"
    assert "endmodule" not in unfinished.source


def test_7_other_modules_are_kept() -> None:
    assert extract("Here:\n" + BENCH) == Design(BENCH, "other_modules")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "// Your code here\n",
        "I am sorry; the question lacks context, and always will.",
        "module statement: `endmodule",
        "+---+---+\n| A | B |\n+---+---+\n",
        "0 1 0 1\n1 0 1 0\n",
        "```\n```",
    ],
)
def test_8_what_is_not_code(text: str) -> None:
    assert extract_design(text, PROMPT) is None


def test_body_needs_a_header_in_the_prompt() -> None:
    assert extract_design(ASSIGN + "endmodule", "Write a module named top_module.") is None
    assert extract_design(ASSIGN + "endmodule", "This has a bug:\n" + WHOLE) is None


def test_entry_point_has_any_name() -> None:
    text = WHOLE.replace("top_module", "TopModule")
    assert extract(text, "Write TopModule.", "TopModule").source == text
    assert extract(text.replace("TopModule", "\\TopModule "), "Write TopModule.", "TopModule").rule == "whole_module"


def test_tokens() -> None:
    kinds = [(token.kind, token.value) for token in tokenize('a$b \\c//d // e\n"f//\\"" `g $h 4\'b1 /* i')]
    expected = [("name", "a$b"), ("escaped", "c//d"), ("string", '"f//\\""'), ("directive", "`g"), ("system", "$h")]
    assert kinds == [*expected, ("number", "4"), ("symbol", "'"), ("name", "b1")]


PIECES = [
    PROMPT,
    WHOLE,
    HELPER,
    USES_HELPER,
    BENCH,
    ASSIGN,
    "```verilog\n",
    "```",
    "endmodule",
    "module ",
    "\\",
    '"',
    "/*",
]
PIECES += [
    "//",
    "`",
    "``",
    "`define X \\\n",
    "typedef ",
    "package p;",
    "endpackage",
    "(",
    ";",
    "{",
    "\r",
    "\x00",
    "é",
    "\ud800",
]


def test_arbitrary_text_never_raises_and_always_ends() -> None:
    generator = random.Random(0)
    for _ in range(2000):
        parts = generator.choices(PIECES, k=generator.randrange(12))
        text = "".join(part[generator.randrange(len(part)) :] if generator.random() < 0.3 else part for part in parts)
        design = extract_design(text, generator.choice([PROMPT, "", text]))
        assert design is None or design.source


@pytest.mark.parametrize("piece", [*PIECES, "module m;", "assign ", "a b (", "package ", "function f;", "typedef {"])
def test_long_text_takes_linear_time(piece: str) -> None:
    count = 50_000 // len(piece)
    start = time.process_time()
    extract_design(";" + (piece + "\n") * count + ";", PROMPT)
    extract_design((piece + " ") * count, PROMPT)
    assert time.process_time() - start < 5  # 0.3 s at most; quadratic searches take minutes
