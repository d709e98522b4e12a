"""Test benches of any form: what decides, what an empty module shows, and what a design cannot do about it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import msgspec
import pytest

from ibft.artifacts.rows import File, Problem, Sample
from ibft.execution import simulation
from ibft.execution.isolation import detect_level
from ibft.execution.languages import verilog
from ibft.execution.languages.verilog import VERILOG
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, Sandbox
from ibft.execution.verilog_benches import empty_design, instrument, result_lines, says_failure, top_module
from ibft.execution.verilog_ports import find_foreign_port, instances
from ibft.text.answers import extract_sample

HEADER = "module adder (input [3:0] a, input [3:0] b, output [4:0] sum);\n"
RIGHT = HEADER + "assign sum = a + b;\nendmodule\n"
WRONG = HEADER + "assign sum = a - b;\nendmodule\n"
UNKNOWN = HEADER + "assign sum = 5'bx;\nendmodule\n"

STIMULI = """
module source (output reg [3:0] a, output reg [3:0] b);
    initial begin a = 0; b = 0; repeat (40) begin #5 a = $random; b = $random; end end
endmodule
"""
FRAME = """`timescale 1ns/1ps
module check_adder;
    wire [3:0] a, b; wire [4:0] sum; integer errors = 0;
    source stimuli (a, b);
    adder dut (CONNECTION);
    task report; begin if (errors == 0) $display("Passed"); else $display("%0d errors", errors); end endtask
    initial begin
        repeat (40) begin #4 if (sum !== a + b) CHECK; #1; end
        END
    end
endmodule
"""


def bench(
    check: str = "errors = errors + 1", end: str = "report; $finish;", connection: str = ".a(a), .b(b), .sum(sum)"
) -> str:
    frame = FRAME.replace("#() ", "").replace("CHECK", check).replace("END", end)
    return frame.replace("CONNECTION", connection) + STIMULI


def make_problem(tests: str, **changes: object) -> Problem:
    problem = Problem(
        task_id="adder", prompt=HEADER, tests=tests, entry_point="adder", canonical_solution=RIGHT, language="verilog"
    )
    return msgspec.structs.replace(problem, **changes)


TOOLS = [path for path in map(shutil.which, ("iverilog", "vvp")) if path]
SANDBOX = Sandbox(detect_level(), tools=TOOLS)
LIMITS = Limits(cpu_s=2, wall_s=30, memory_mib=512)


@pytest.fixture(scope="module", autouse=True)
def closing() -> Iterator[None]:
    yield
    SANDBOX.close()


def run_reference(problem: Problem) -> Reference:
    return VERILOG.reference(Job(problem=problem, limits=LIMITS), None, lambda **_: SANDBOX)


def judge(problem: Problem, text: str, reference: Reference | None = None) -> Outcome:
    reference = reference or run_reference(problem)
    assert reference.passed, reference.message
    sample = extract_sample(Sample(task_id="adder", completion=text), problem)
    job = Job(problem=problem, limits=LIMITS, sample=sample, reference=reference)
    return VERILOG.judge(job, None, lambda **_: SANDBOX)


FORMS = {
    "a verdict line": bench(),
    "other words": bench(end='$display("%0d / 40 failures", errors); $finish;'),
    "a line per failure alone": bench(check='$display("FAIL a=%d b=%d", a, b)', end="$finish;"),
    "a line per check": bench(check='$display("bad"); else $display("ok")', end="$finish;"),
    "$error": bench(check='$error("sum is %d", sum)', end="$finish;"),
    "$fatal": bench(check="$fatal(1)", end="$finish;"),
    "an assertion": bench(check="assert (0)", end="$finish;"),
    "an early $stop": bench(check="$stop", end="$finish;"),
    "an early $finish with a code": bench(check="$finish(2)", end="$finish(0);"),
    "starved of events": bench(end="report;"),
    "$write in parts": bench(end='$write("%0d", errors); $write(" errors\\n"); $stop;'),
    "a string in a variable": bench(end='begin : say string s; s = errors ? "FAILED" : "PASSED"; $display(s); end'),
    "ports in order": bench(connection="a, b, sum"),
    "ports by wildcard": bench(connection=".*"),
    "ends in a task": bench(end="report; wrap_up;").replace(
        "task report", "task wrap_up; $finish; endtask task report"
    ),
    "a monitor of errors": bench(end="$finish;").replace("task r", 'initial $monitor("errors: %0d", errors); task r'),
}


@pytest.mark.verilog
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_test_bench_decides(form: str) -> None:
    problem = make_problem(FORMS[form])
    reference = run_reference(problem)
    assert judge(problem, RIGHT, reference).status == "passed"
    for text in (WRONG, UNKNOWN):
        outcome = judge(problem, text, reference)
        assert outcome.status == "failed", outcome.message


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (bench(check="errors = errors"), "an empty module passes"),
        (bench(end="$finish;"), "an empty module passes"),
        (bench().replace("!==", "!="), "an empty module passes"),
        (bench(end='$fdisplay(32\'h8000_0001, "%0d errors", errors); $finish;'), "an empty module passes"),
        (bench(end=""), "printed no result and did not end itself"),
        (bench().replace("a + b)", "a - b)"), "of the reference, the test bench says: [1-9][0-9]* errors"),
        (bench(check='$error("x")').replace("a + b)", "a - b)"), "of the reference, the test bench says: ERROR: "),
        (bench(check="$fatal(1)").replace("a + b)", "a - b)"), "the simulator says: FATAL: testbench.sv:8"),
        (bench().replace("adder dut", "other dut"), "Unknown module type: other"),
    ],
)
def test_test_benches_that_decide_nothing_are_refused(tests: str, message: str) -> None:
    reference = run_reference(make_problem(tests))
    assert not reference.passed
    assert re.search(message, reference.message), reference.message


CHEATS: dict[str, tuple[str, set[str]]] = {  # the body of the module, and the defenses each of which stops it
    "prints the verdict": ('initial begin $display("Passed"); $finish; end', {"text", "secret"}),
    "prints it without ending": ('initial $display("Passed");', {"text", "secret"}),
    "ends before the first check": ("initial #1 $finish;", {"text", "same run"}),
    "ends without a trace": ("initial #1 $finish(0);", {"text", "same run"}),
    "stops": ("initial #1 $stop;", {"text", "same run"}),
    "resets the count": ("always @* check_adder.errors = 0;", {"text", "alone"}),
    "forces the count": ("initial force check_adder.errors = 0;", {"text", "alone"}),
    "calls a task of the test bench": ("initial report;", {"text", "alone"}),
    "calls it by its path": ("initial check_adder.report;", {"text", "alone"}),
    "reads the stimuli by their path": ("assign sum = check_adder.a + check_adder.b;", {"text", "alone"}),
    "switches the test bench's tasks off": ("initial disable report;", {"text", "alone"}),
    "is told its place by a parameter": (
        "parameter P = 0; defparam dut.P = 1; if (P) assign sum = check_adder.a + check_adder.b;",
        {"text", "alone"},
    ),
    "drives its inputs": ("assign a = 0, b = 1, sum = 1;", {"same run"}),
    "reads the files beside the test bench": (
        'reg [7:0] m [0:0]; initial $readmemh("expected.hex", m); assign sum = m[0];',
        {"text"},
    ),
    "sees the answers change": ('integer f; initial f = $fopen("testbench.sv");', {"text"}),
}


def switch_off(patch: pytest.MonkeyPatch, defenses: set[str]) -> None:
    def trusting(output: str, *rest: object) -> simulation.Simulation:
        lines = ["Passed", "ends 1"] if "Passed" in output else [""]
        return simulation.Simulation("passed", "", 0, 0, len(lines), "\n".join(lines))

    if "text" in defenses:
        patch.setattr(verilog, "_find_cheat", lambda problem, source: "")
    if "secret" in defenses:
        patch.setattr(simulation, "_said", trusting)
    if "same run" in defenses:
        patch.setattr(verilog, "_disturbance", lambda *a: "")
    if "alone" in defenses:
        patch.setattr(verilog, "compile_alone", lambda *a: a[-1])


@pytest.mark.verilog
@pytest.mark.parametrize(("cheat", "defense"), [(cheat, name) for cheat in CHEATS for name in sorted(CHEATS[cheat][1])])
def test_each_cheat_meets_each_of_its_defenses(monkeypatch: pytest.MonkeyPatch, cheat: str, defense: str) -> None:
    problem = make_problem(bench())
    reference = run_reference(problem)
    text = f"{HEADER}{CHEATS[cheat][0]}\nendmodule\n"
    assert judge(problem, text, reference).status in ("cheating_refused", "failed")
    kept = {"secret", "same run"} if defense in ("secret", "same run") else {defense}
    switch_off(monkeypatch, {"text", "secret", "same run", "alone"} - kept)
    assert judge(problem, text, reference).status in ("cheating_refused", "failed")


PORTS = {
    "an input as output": HEADER.replace("input [3:0] a", "output [3:0] a"),
    "an input as inout": HEADER.replace("input [3:0] b", "inout [3:0] b"),
    "behind a macro": "`define WAY inout\n" + HEADER.replace("input [3:0] b", "`WAY [3:0] b"),
    "in Verilog 1995": "module adder (a, b, sum); inout [3:0] a; input [3:0] b; output [4:0] sum;\n",
    "behind a function": "module adder (a, b, sum); function f; input a; f = a; endfunction\n"
    "output [3:0] a; input [3:0] b; output [4:0] sum;\n",
}


@pytest.mark.verilog
@pytest.mark.parametrize("ports", PORTS)
def test_inputs_stay_inputs(ports: str) -> None:
    outcome = judge(make_problem(bench()), PORTS[ports] + "assign sum = 0; assign a = 0;\nendmodule\n")
    assert outcome.status == "cheating_refused"
    assert "has the input" in outcome.message


@pytest.mark.verilog
def test_no_port_reads_the_test_bench_by_wildcard() -> None:
    text = HEADER.replace("output", "input [31:0] errors, output") + "assign sum = a + b + errors;\nendmodule\n"
    assert "has a port errors" in judge(make_problem(bench(connection=".*")), text).message
    assert judge(make_problem(bench()), text).status == "failed"  # an open port


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("module adder (input [3:0] a, b, output reg [4:0] sum);", ""),
        ("module adder (input wire signed [3:0] a, input [3:0] b = 0, output [4:0] sum);", ""),
        ("module adder #(parameter W = 4) (input [W-1:0] a, b, output [W:0] sum);", ""),
        ("module adder (a, b, sum); input [3:0] a, b; output [4:0] sum; reg [4:0] sum;", ""),
        ("module adder (a, b, sum); task t; output a; a = 1; endtask input [3:0] a, b; output [4:0] sum;", ""),
        ("module adder (input [3:0] a, output [3:0] b, output [4:0] sum);", "has the input b as output"),
        ("module adder (a, b, sum); output [4:0] sum, b; input a;", "has the input b as output"),
    ],
)
def test_directions_of_ports(header: str, found: str) -> None:
    assert find_foreign_port(f"{header} endmodule", RIGHT, "adder", bench()) == found


@pytest.mark.parametrize(
    ("connection", "header", "found"),
    [
        ("x, y, z", "module adder (input p, input q, output r);", ""),
        ("x, y, z", "module adder (input p, inout q, output r);", "has the input q as inout"),
        (".a(x), .b(y)", "module adder (input a, inout q, input b, output sum);", ""),
        (".*", "module adder (input a, input b, input errors, output sum);", "has a port errors"),
    ],
)
def test_ports_as_the_test_bench_connects_them(connection: str, header: str, found: str) -> None:
    tests = f"module t; adder dut ({connection}); endmodule"
    assert find_foreign_port(f"{header} endmodule", RIGHT, "adder", tests).startswith(found)


def test_instances_are_told_from_other_text() -> None:
    text = "module t; sub #(.W(2)) u1 (.*); sub u2 (a, b); and g (x, y); initial if (a) f(b); endmodule"
    assert [(known.module, known.name, known.connection) for known in instances(text)] == [
        ("sub", "u1", "wildcard"),
        ("sub", "u2", "order"),
    ]


@pytest.mark.parametrize(
    ("line", "is_failure"),
    [
        ("===========Error===========", True),
        ("Test completed with 3 /100 failures", True),
        ("Test completed with          0 / 100 failures", False),
        ("0 errors", False),
        ("10 errors", True),
        ("errors: 0", False),
        ("errors = 12", True),
        ("no mismatches, all passed", False),
        ("All tests passed", False),
        ("FAILED", True),
        ("TIMEOUT", True),
        ("ERROR: testbench.sv:9: ", True),
    ],
)
def test_words_of_failure(line: str, is_failure: bool) -> None:
    assert says_failure(line) == is_failure


def test_the_top_of_a_test_bench() -> None:
    assert top_module("module a; dut u (); endmodule module tb; a x (); endmodule", "dut") == "tb"
    assert top_module("module clock; endmodule module t; dut u (); endmodule", "dut") == "t"
    assert top_module("module wrap; dut u (); endmodule module t; wrap w (); endmodule", "dut") == "t"


def test_result_lines_are_those_of_the_test_bench() -> None:
    output = "# Passed\nPassed\n# loading\nERROR: testbench.sv:3: x\nERROR: design.sv:3: x\n# ends 2\n#1# 2 errors\n"
    output += "#\x1b[31mFAILED\x1b[0m\n"
    messages = ["testbench.sv:2: warning: input port w is coerced to inout.", "design.sv:1: warning: other"]
    assert result_lines(output, messages, "#", "testbench.sv") == [
        "input port w is coerced to inout.",
        "Passed",
        "ERROR: testbench.sv:3: x",
        "ends 2",
        "1 2 errors",
        "FAILED",
    ]


def test_what_a_test_bench_prints_is_marked() -> None:
    text = instrument(
        'initial begin $display("x"); $display(); $dumpvars(0, w); if (y) $finish; else $stop(1); end', "m"
    )
    assert '$display("m", "x"); $display("m"); ;' in text
    assert 'if (y) begin $display("m ends 1"); $finish; end else begin $display("m ends 2"); $stop(1); end' in text


def test_an_empty_design_keeps_its_ports() -> None:
    assert empty_design("`define NAME m\nmodule `NAME (input a); endmodule", "m") == ""
    source = "module m (input a, output b); assign b = a; endmodule"
    assert empty_design(source, "m") == "module m (input a, output b);\nendmodule\n"
    source = "module m (a, b); parameter W = 2; input [W:0] a; output b; reg b; initial b = 1; endmodule"
    empty = "module m (a, b);\nparameter W = 2;\ninput [W:0] a;\noutput b;\nendmodule\n"
    assert empty_design(f"module n; endmodule {source} module o; endmodule", "m") == (
        f"module n; endmodule {empty} module o; endmodule"
    )


@pytest.mark.verilog
def test_files_lie_beside_the_test_bench() -> None:
    tests = bench().replace("initial begin\n", 'reg [7:0] m [0:0]; initial begin $readmemh("expected.hex", m);\n', 1)
    tests = tests.replace("a + b) errors", "m[0] + a + b) errors")
    problem = make_problem(tests, files=(File("expected.hex", "00\n"),))
    assert judge(problem, RIGHT).status == "passed"
    other = msgspec.structs.replace(problem, files=(File("expected.hex", "01\n"),))
    assert not run_reference(other).passed
