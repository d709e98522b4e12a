"""Shapes of answers that models write for a Verilog problem: a table to read. Every one holds the right design.

RIGHT chooses `b` where `sel` is 1; WRONG, a draft that a naive rule picks, chooses `a`. What is extracted is judged.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Problem, Sample
from ibft.execution.languages.verilog import VERILOG
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file
from ibft.text.answers import extract, extract_sample
from ibft.text.answers.verilog_tokens import tokenize

HEADER = "module top_module (\n    input a,\n    input b,\n    input sel,\n    output out\n);\n"
PROMPT = "// Build a multiplexer. When sel is 0, choose a. When sel is 1, choose b.\n" + HEADER
RIGHT_BODY = "    assign out = sel ? b : a;\nendmodule\n"
WRONG_BODY = "    assign out = sel ? a : b;\nendmodule\n"
RIGHT, WRONG = HEADER + RIGHT_BODY, HEADER + WRONG_BODY
RIGHT_BLOCK, WRONG_BLOCK = f"```verilog\n{RIGHT}```\n", f"```verilog\n{WRONG}```\n"
HELPER = "module pick (input x, input y, input s, output z);\n    assign z = (x & ~s) | (y & s);\nendmodule\n"
WRONG_HELPER = HELPER.replace("(x & ~s) | (y & s)", "(x & s) | (y & ~s)")
USES_HELPER = HEADER + "    pick p (.x(a), .y(b), .s(sel), .z(out));\nendmodule\n"
BENCH = """module tb;
    reg a, b, sel;
    wire out;
    top_module dut (a, b, sel, out);
    initial $display("x");
endmodule
"""

SHAPES: dict[str, str] = {
    # Reasoning
    "think": f"<think>\nDraft:\n{WRONG_BLOCK}Inverted.\n</think>\n\n{RIGHT_BLOCK}",
    "think opened by the template": f"Draft:\n{WRONG_BLOCK}Inverted.\n</think>\n{RIGHT_BLOCK}",
    "think, answer is a body": f"<think>\nassign out = sel ? a : b;\n</think>\n{RIGHT_BODY}",
    "channels": (
        f"<|channel|>analysis<|message|>{WRONG}<|end|><|start|>assistant<|channel|>final<|message|>{RIGHT}<|return|>"
    ),
    # Blocks
    "corrected in the second block": f"{WRONG_BLOCK}This is inverted. Corrected:\n{RIGHT_BLOCK}",
    "corrected in another dialect's block": f"{WRONG_BLOCK}Corrected:\n```systemverilog\n{RIGHT}```\n",
    "the last try was cut off": f"{RIGHT_BLOCK}In other words:\n```verilog\n{HEADER}    assign out = ",
    "helper in another block": f"```verilog\n{HELPER}```\nwith which\n```verilog\n{USES_HELPER}```\n",
    "helper corrected": (
        f"```verilog\n{WRONG_HELPER}```\n```verilog\n{USES_HELPER}```\n"
        f"The helper is inverted:\n```verilog\n{HELPER}```\n"
    ),
    "helper beside a wrong draft": f"```verilog\n{HELPER}\n{WRONG}```\nInstead:\n```verilog\n{USES_HELPER}```\n",
    "macro in another block": (
        f"```verilog\n`define PICK(x, y, s) ((s) ? (y) : (x))\n```\n```verilog\n{HEADER}"
        "    assign out = `PICK(a, b, sel);\nendmodule\n```\n"
    ),
    "test bench last": f"{RIGHT_BLOCK}Test it:\n```verilog\n{BENCH}```\n",
    "shell and output": f"{RIGHT_BLOCK}```bash\niverilog top.v && ./a.out\n```\n```text\nassign out = 1;\n```\n",
    "Python model last": f"{RIGHT_BLOCK}The same in Python:\n```python\nout = a if sel else b\n```\n",
    "body in a fence": f"Add this:\n```verilog\n{RIGHT_BODY}```\n",
    "draft body, then the module": f"```verilog\n{WRONG_BODY}```\nCorrected, in full:\n{RIGHT_BLOCK}",
    # Fences
    "tildes": f"{WRONG_BLOCK}No:\n~~~verilog\n{RIGHT}~~~\n",
    "one line": "```verilog module top_module(input a, b, sel, output out); assign out = sel ? b : a; endmodule```",
    "fence behind words": f"Here: ```verilog\n{RIGHT}```\n",
    "in a list": "1. Write:\n   ```verilog\n" + "".join(f"   {line}\n" for line in RIGHT.splitlines()) + "   ```\n",
    "in a block quote": "".join(f"> {line}\n" for line in f"```\n{RIGHT}```".splitlines()) + "\nDone.\n",
    "never closed": f"{WRONG_BLOCK}Corrected:\n```verilog\n{RIGHT}",
    "closing fence behind the code": f"```verilog\n{RIGHT.rstrip()}``` Done.\n",
    "prompt opened the fence": f"{RIGHT_BODY}```\n\nA wrong way:\n{WRONG_BLOCK}",
    "carriage returns": f"{WRONG_BLOCK}Corrected:\n{RIGHT_BLOCK}".replace("\n", "\r\n"),
    "<code>": f"<pre><code>{RIGHT}</code></pre>",
    # Prose
    "a line of the idea first": f"Idea:\n\n    assign out = ...; // something\n\nFull code:\n{RIGHT_BLOCK}",
    "prose that begins with assign": f"assign the output to b when sel is 1;\n\n{RIGHT_BLOCK}",
    "prose that begins with input, no fence": f"input a is chosen when sel is 0;\noutput out follows.\n\n{RIGHT}",
    "prose, then a body": f"The output is chosen by sel:\n\n{RIGHT_BODY}",
    "prose that begins like a statement, then a body": f"input b is chosen when sel is high;\n{RIGHT_BODY}",
    "module in a sentence": f"module top_module is simple; it ends with endmodule.\n\n{RIGHT}",
    "two tries amid prose": f"First:\n\n{WRONG}\nWait, this has the inputs swapped. Corrected:\n\n{RIGHT}\nDone.\n",
    # As a completion
    "body": RIGHT_BODY,
    "body, then the model runs on": f"{RIGHT_BODY}\n// Build an inverted one.\n{WRONG}",
    "module, then the model runs on": f"{RIGHT}\n{WRONG}",
    "end of text behind the body": f"{RIGHT_BODY.rstrip()}<|endoftext|>{WRONG}",
    "next turn made up": f"{RIGHT_BLOCK}<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n{WRONG}",
}

TESTS = """module reference_module (input a, input b, input sel, output out);
    assign out = sel ? b : a;
endmodule
module tb;
    integer errors = 0, clocks = 0, i;
    reg a, b, sel;
    wire out_ref, out_dut;
    reference_module good1 (a, b, sel, out_ref);
    top_module top_module1 (a, b, sel, out_dut);
    initial begin
        for (i = 0; i < 8; i = i + 1) begin
            {a, b, sel} = i;
            #1 clocks = clocks + 1;
            if (out_ref !== out_dut) errors = errors + 1;
        end
        $display("Mismatches: %1d in %1d samples", errors, clocks);
    end
endmodule
"""
PROBLEM = Problem(
    task_id="mux",
    prompt=PROMPT,
    tests=TESTS,
    entry_point="top_module",
    canonical_solution=RIGHT_BODY,
    language="verilog",
)


def statuses(folder: Path, samples: list[Sample]) -> dict[str, int]:
    write_rows(folder / "problems.jsonl", [PROBLEM])
    write_rows(folder / "samples.jsonl", samples)
    config = JudgeConfig(workers=1, cache=False)
    source = str(folder / "problems.jsonl")
    return judge_file(source, folder / "samples.jsonl", folder / "out", config, (1,), resamples=20).statuses


@pytest.mark.verilog
def test_every_shape_is_read(tmp_path: Path) -> None:
    samples = [Sample(task_id="mux", completion=text) for text in SHAPES.values()]
    assert statuses(tmp_path, samples) == {"passed": len(SHAPES)}


@pytest.mark.verilog
def test_the_drafts_are_wrong(tmp_path: Path) -> None:
    texts = [WRONG, WRONG_BODY, WRONG_BLOCK, WRONG_HELPER + USES_HELPER]
    assert statuses(tmp_path, [Sample(task_id="mux", completion=text) for text in texts]) == {"failed": len(texts)}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_to_the_judge_gives_the_same_design(shape: str) -> None:
    text = SHAPES[shape]
    answer = extract(text, PROBLEM, form="chat")
    assert extract(text, PROBLEM, form="completion") == answer
    assert extract(answer.text, PROBLEM, form="chat") == answer
    stored = Sample(task_id="mux", completion=answer.completion, solution=answer.solution)
    assert extract_sample(stored, PROBLEM) is stored
    for field in ("completion", "solution"):
        sample = extract_sample(Sample(task_id="mux", **{field: text}), PROBLEM)
        found, expected = VERILOG.source(PROBLEM, sample), VERILOG.source(PROBLEM, stored)
        assert [token.value for token in tokenize(found)] == [token.value for token in tokenize(expected)]


@pytest.mark.parametrize("text", ["", "I cannot do that.", f"<think>\n{RIGHT_BLOCK}", "// nothing yet\n"])
def test_no_answer_is_an_empty_one(text: str) -> None:
    assert extract(text, PROBLEM, form="chat").text == ""
    assert VERILOG.source(PROBLEM, Sample(task_id="mux", completion=text)) == "" or "module" in text
