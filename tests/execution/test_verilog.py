"""The Verilog judge. Each cheat is one test, run once for each defense that is meant to stop it, all others off."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ibft.artifacts.rows import Problem, Sample
from ibft.execution import simulation, verilog_benches
from ibft.execution.languages import verilog
from ibft.execution.languages.verilog import VERILOG
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import CommandResult, Limits
from ibft.problems.benchmarks.verilog_eval import FAILING_WARNINGS
from ibft.text.answers import extract_sample

LIMITS = Limits(cpu_s=5, wall_s=30, memory_mib=512)

HEADER = """module top_module (
    input clk,
    input reset,
    input [3:0] d,
    output reg [3:0] q
);
"""
BODY = """
    always @(posedge clk)
        if (reset) q <= 0;
        else q <= q + (d ^ 4'h5);
endmodule
"""
# A test bench in the form of VerilogEval's: what the judge relies on is written as it is there.
TEST_BENCH = """
module stimulus_gen (input clk, output reg reset, output reg [3:0] d);
    initial begin
        reset <= 1; d <= 3;
        repeat (2) @(posedge clk);
        reset <= 0;
        repeat (40) @(posedge clk, negedge clk) d <= $random;
        #1 $finish;
    end
endmodule
module tb();
    typedef struct packed { int errors; int errortime; int clocks; } stats;
    stats stats1;
    reg clk = 0;
    initial forever #5 clk = ~clk;
    logic reset;
    logic [3:0] d, q_ref, q_dut;
    initial begin $dumpfile("wave.vcd"); $dumpvars(1, clk, q_ref, q_dut); end
    wire tb_match;
    stimulus_gen stim1 (.clk, .* , .reset, .d);
    REFERENCE good1 (.clk, .reset, .d, .q(q_ref));
    DESIGN top_module1 (.clk, .reset, .d, .q(q_dut));
    final $display("Mismatches: %1d in %1d samples", stats1.errors, stats1.clocks);
    assign tb_match = ( { q_ref } === ( { q_ref } ^ { q_dut } ^ { q_ref } ) );
    always @(posedge clk, negedge clk) begin
        stats1.clocks++;
        if (!tb_match) begin
            if (stats1.errors == 0) stats1.errortime = $time;
            stats1.errors++;
        end
    end
endmodule
"""


def make_problem(design: str, reference: str, solution: str) -> Problem:
    bench = TEST_BENCH.replace("REFERENCE", reference).replace("DESIGN", design)
    return Problem(
        task_id="accumulate",
        prompt="// Add d xor 5 to q in every cycle.\n" + HEADER.replace("top_module", design),
        tests="`timescale 1 ps/1 ps\n`define OK 12\n" + HEADER.replace("top_module", reference) + BODY + bench,
        entry_point=design,
        canonical_solution=solution,
        language="verilog",
        warnings_fail=reference == "reference_module",  # version 1
    )


PROBLEM = make_problem("top_module", "reference_module", BODY)
VERSION_2 = make_problem("TopModule", "RefModule", HEADER.replace("top_module", "TopModule") + BODY)


class PlainSandbox:
    """Stands in for the real one: the same interface and limits, no isolation."""

    def run_commands(
        self, files: Mapping[str, bytes], commands: Sequence[Sequence[str]], limits: Limits
    ) -> list[CommandResult]:
        results: list[CommandResult] = []
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            for command in commands:
                results.append(self._run(command, folder, limits))
                if results[-1].exit_code != 0 or results[-1].timed_out:
                    break
        return results

    def _run(self, command: Sequence[str], folder: str, limits: Limits) -> CommandResult:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limits.cpu_s), int(limits.cpu_s) + 1))
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_mib << 20,) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes,) * 2)

        start, before = time.monotonic(), os.times()
        run = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=limits.wall_s, preexec_fn=limit, env={"TMPDIR": folder}
        )
        after = os.times()
        cpu_time_s = after.children_user + after.children_system - before.children_user - before.children_system
        timed_out = "cpu" if cpu_time_s >= limits.cpu_s or run.returncode == -signal.SIGXCPU else ""
        return CommandResult(
            exit_code=run.returncode,
            cpu_time_s=cpu_time_s,
            wall_time_s=time.monotonic() - start,
            timed_out=timed_out,
            stdout=run.stdout[: 1 << 20],
            stderr=run.stderr[: 64 << 10],
        )


class Judge(NamedTuple):
    sandbox: PlainSandbox
    reference: Reference

    def __call__(self, text: str, limits: Limits = LIMITS, problem: Problem = PROBLEM) -> Outcome:
        sample = extract_sample(Sample(task_id=problem.task_id, completion=text), problem)
        job = Job(problem=problem, limits=limits, sample=sample, reference=self.reference)
        return VERILOG.judge(job, None, lambda **_: self.sandbox)


def run_reference(problem: Problem, sandbox: PlainSandbox) -> Reference:
    return VERILOG.reference(Job(problem=problem, limits=LIMITS), None, lambda **_: sandbox)


@pytest.fixture(scope="module")
def plain_sandbox() -> PlainSandbox:
    return PlainSandbox()


@pytest.fixture(scope="module")
def judge(plain_sandbox: PlainSandbox) -> Judge:
    return Judge(plain_sandbox, run_reference(PROBLEM, plain_sandbox))


def module(body: str, *, before: str = "", after: str = "") -> str:
    ports = "input clk, input reset, input [3:0] d, output [3:0] q"
    return f"{before}module top_module ({ports});\n{body}\nendmodule\n{after}"


@pytest.mark.verilog
@pytest.mark.parametrize("problem", [PROBLEM, VERSION_2], ids=["version 1", "version 2"])
def test_references_pass_and_say_what_was_compared(judge: Judge, problem: Problem) -> None:
    reference = run_reference(problem, judge.sandbox)
    assert reference.passed
    assert reference.num_checked == 43
    assert reference.trace == judge.reference.trace != ""
    assert judge(problem.canonical_solution or "", problem=problem).status == "passed"


@pytest.mark.verilog
def test_broken_references_are_not_passed(judge: Judge) -> None:
    def run(**changes: Any) -> str:
        fields = {name: getattr(PROBLEM, name) for name in PROBLEM.__struct_fields__} | changes
        return run_reference(Problem(**fields), judge.sandbox).status

    assert run(canonical_solution=None) == "no_code"
    assert run(canonical_solution=BODY.replace("4'h5", "4'h6")) == "failed"
    assert run(tests=PROBLEM.tests.replace("Mismatches", "Total")) == "failed"
    assert run(tests="module tb; nonsense") == "syntax_error"
    assert run(canonical_solution="assign q = tb.good1.q;\nendmodule\n") != "passed"


RIGHT = "reg [3:0] r; assign q = r; always @(posedge clk) r <= reset ? 4'd0 : r + (d ^ 4'h5);"


@pytest.mark.verilog
@pytest.mark.parametrize(
    "design",
    [
        BODY,
        HEADER + BODY,
        f"Here it is:\n```verilog\n{HEADER}{BODY}```\nIt adds.",
        module(
            RIGHT, before="`timescale 1ns/1ps\n`resetall\n`default_nettype none\n`celldefine\n", after="`undef OK\n"
        ),
        module(RIGHT.replace("4'h5", "`FIVE"), before="`define FIVE (4'h5)\n`define OK 0\n"),
        module(RIGHT.replace("4'h5", "p::FIVE"), before="package p; localparam FIVE = 4'h5; endpackage\n"),
        module(RIGHT.replace("r + (", "$signed(r) + $unsigned(")),
        module(
            RIGHT
            + " wire \\odd/name ; (* keep *) buf b (\\odd/name , clk); // a comment may say $display or tb.good1\n"
        ),
        module("sum s (.*);", after=f"module sum (input clk, reset, input [3:0] d, output [3:0] q);{RIGHT} endmodule"),
        module(RIGHT, after='module top_module_test; initial begin $display("x"); #9 $finish; end endmodule'),
        module(RIGHT, after="module tb; top_module dut(); endmodule\nmodule reference_module; endmodule"),
        module(
            RIGHT + " wire w; u u1 (w, clk);",
            after="primitive u(output o, input i); table 0:1; 1:0; endtable endprimitive",
        ),
    ],
)
def test_honest_designs_pass(judge: Judge, design: str) -> None:
    assert judge(design).status == "passed", judge(design).message


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("design", "status", "message"),
    [
        (BODY.replace("5", "6"), "failed", "wrong at the sampled output 6"),
        (module("assign q = d"), "syntax_error", "design.sv:3: syntax error"),
        (
            module(RIGHT).replace("input clk", "input extra, input clk"),
            "failed",
            "Icarus warns: .* dangling input port",
        ),
        (module(RIGHT + " missing m ();"), "syntax_error", "Unknown module type: missing"),
        (BODY.replace("endmodule", ""), "syntax_error", "the compiler says"),
        ("module accumulator (input clk); endmodule", "syntax_error", "defines no module top_module"),
        ("I cannot solve this.", "no_code", "no Verilog"),
        (module("`define A /*\ninitial #11 $finish; // */\nassign q = 0;"), "cheating_refused", "uses .finish"),
        ("", "no_code", "no Verilog"),
    ],
)
def test_other_answers(judge: Judge, design: str, status: str, message: str) -> None:
    outcome = judge(design)
    assert outcome.status == status
    assert re.search(message, outcome.message)


@pytest.mark.verilog
def test_a_warning_fails_a_design_of_version_1_alone(judge: Judge) -> None:
    design = module(RIGHT).replace("input clk", "input extra, input clk")
    assert judge(design).status == "failed"
    lenient = msgspec.structs.replace(PROBLEM, warnings_fail=False)
    assert judge(design, problem=lenient).status == "passed"


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("texts", "status"),
    [
        (True, "failed"),
        (("is declared but", "dangling input port"), "failed"),
        (("found no sensitivities",), "passed"),
        (False, "passed"),
    ],
)
def test_which_warnings_fail_is_the_problems(judge: Judge, texts: bool | tuple[str, ...], status: str) -> None:
    design = module(RIGHT).replace("input clk", "input extra, input clk")
    problem = msgspec.structs.replace(PROBLEM, warnings_fail=texts)
    outcome = judge(design, problem=problem)
    assert outcome.status == status
    assert "dangling input port" in outcome.warning  # so that both readings can be computed
    assert judge(design.replace("4'h5", "4'h6"), problem=problem).warning == ""  # it is wrong in any reading


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("", "passed"),
        ("logic y; always_comb y = d[2];", "passed"),  # "sorry: constant selects in always_* processes"
        ("logic y; always_comb y = 1'b1;", "failed"),
        ("logic y; always @(*) y = 1'b1;", "failed"),
    ],
)
def test_version_2_fails_a_design_for_two_warnings_alone(judge: Judge, more: str, status: str) -> None:
    problem = msgspec.structs.replace(VERSION_2, warnings_fail=FAILING_WARNINGS)
    outcome = judge(module(RIGHT + more).replace("top_module", "TopModule"), problem=problem)
    assert outcome.status == status, outcome.message
    assert bool(outcome.warning) == bool(more)


@pytest.mark.verilog
def test_a_design_that_does_not_fit_is_told_from_one_that_does_not_compile(judge: Judge) -> None:
    misfit = judge(module(RIGHT).replace("output [3:0] q", "output [3:0] value").replace("q = r", "value = r"))
    assert misfit.status == "syntax_error"
    assert re.match("the design does not fit the test bench: .*port ``q'' is not a port", misfit.message)
    assert judge(module(RIGHT + " assign missing.x = 1;")).message.startswith("the compiler says: design.sv")


@pytest.mark.verilog
def test_an_empty_module_must_not_pass(judge: Judge) -> None:
    # Never reset, the reference answers with unknown bits alone, which match anything (fsm_ps2 of Machine is so).
    tests = PROBLEM.tests.replace("reset <= 1; d", "reset <= 0; d")
    reference = run_reference(msgspec.structs.replace(PROBLEM, tests=tests), judge.sandbox)
    assert reference.status == "failed"
    assert reference.message == "an empty module passes its test bench, which so decides nothing"


@pytest.mark.verilog
def test_a_design_may_use_a_name_of_the_test_bench_for_its_own(judge: Judge) -> None:
    named = RIGHT.replace("reg [3:0] r;", "reg [3:0] good1; wire tb; assign tb = reset;").replace("r = ", "good1 = ")
    named = named.replace("= r;", "= good1;").replace("r <=", "good1 <=").replace("r + (", "good1 + (")
    assert judge(module(named.replace("reset ?", "tb ?"))).status == "passed"


@pytest.mark.verilog
@pytest.mark.parametrize(
    ("design", "status"),
    [
        (module("initial while (1); assign q = 0;"), "timeout_cpu"),
        (module("wire w; assign w = reset ? 0 : ~w; assign q = w;"), "timeout_cpu"),
        (module("reg [2000000000:0] m; assign q = m[3:0];"), "memory"),
        (module("genvar i; for (i = 0; i < 1000000000; i = i + 1) wire w; assign q = 0;"), "memory"),
        (module("`A assign q = 0;", before="`define A `A `A\n"), "memory"),
    ],
    ids=["loop", "oscillation", "wide register", "generated wires", "macro that calls itself"],
)
def test_limits(judge: Judge, design: str, status: str) -> None:
    outcome = judge(design, Limits(cpu_s=1, wall_s=20, memory_mib=128 if status == "memory" else 512))
    assert outcome.status == status, outcome.message


PEEK = "parameter P = 0; if (P) assign q = tb.good1.q; else assign q = 0;"
CHEATS: dict[str, tuple[str, set[str]]] = {  # the design, and the defenses each of which stops it
    "reads the reference": (module("assign q = tb.good1.q;"), {"text", "alone"}),
    "reads it without the top's name": (module("assign q = good1.q;"), {"text", "alone"}),
    "reads it by escaped names": (module("assign q = \\tb .\\good1 .q;"), {"text", "alone"}),
    "reads it through pasted names": (
        module("assign q = tb.`P(go,od1).q;", before="`define P(a,b) a``b\n"),
        {"text", "alone"},
    ),
    "reads it through split names": (
        module("assign q = `T .`G .q;", before="`define T t/**/b\n`define G go/**/od1\n"),
        {"text", "alone"},
    ),
    "instantiates the reference": (
        module("reference_module r (.clk(clk), .reset(reset), .d(d), .q(q));"),
        {"text", "alone"},
    ),
    "forces the verdict": (module("initial force tb.tb_match = 1; assign q = 0;"), {"text", "alone"}),
    "forces its inputs": (module("initial force reset = 1; assign q = 0;"), {"text", "same run"}),
    "forces through a macro": (
        module("initial `F reset = 1; assign q = 0;", before="`define F for/**/ce\n"),
        {"text", "same run"},
    ),
    "ends early": (module("initial #11 $finish; assign q = 0;"), {"text", "same run"}),
    "ends early through a macro": (
        module("initial #11 $fin`B; assign q = 0;", before="`define B ish\n"),
        {"text", "same run"},
    ),
    "ends early behind a carriage return": (
        module("// \rinitial #11 $finish;\nassign q = 0;"),
        {"text", "same run"},
    ),
    "prints the verdict": (
        module('initial begin $display("Mismatches: 0 in 43 samples"); $finish; end assign q = 1;'),
        {"text", "secret", "same run"},
    ),
    "asks for a macro of the test bench": (
        module("`ifdef OK\nassign q = tb.good1.q;\n`else\nassign q = 0;\n`endif"),
        {"text", "order"},
    ),
    "asks for its place by a parameter": (module("defparam top_module1.P = 1; " + PEEK), {"text", "alone"}),
    "asks for its place by a long path": (module("defparam tb.top_module1.P = 1; " + PEEK), {"text", "alone"}),
}
DEFENSES = {"text", "order", "secret", "same run", "alone"}


def switch_off(patch: pytest.MonkeyPatch, defenses: set[str]) -> None:
    strict_verdict = simulation._counted

    def trusting_verdict(output: str, *rest: Any) -> simulation.Simulation:
        """As the original harness has it: whatever line looks like the counts."""
        run = strict_verdict(output, *rest)
        counts = re.search(r"Mismatches: (\d+) in (\d+)", output)
        return run._replace(status="passed") if counts and counts.group(1) == "0" else run

    if "text" in defenses:
        patch.setattr(verilog, "_find_cheat", lambda problem, source: "")
    if "order" in defenses:
        patch.setattr(simulation, "instrument", lambda *a: re.sub("`undef.*", "", verilog_benches.instrument(*a)))
    if "secret" in defenses:
        patch.setattr(simulation, "_counted", trusting_verdict)
    if "same run" in defenses:
        patch.setattr(verilog, "_disturbance", lambda *a: "")
    if "alone" in defenses:
        patch.setattr(verilog, "compile_alone", lambda *a: a[-1])


@pytest.mark.verilog
@pytest.mark.parametrize(("cheat", "defense"), [(cheat, name) for cheat in CHEATS for name in sorted(CHEATS[cheat][1])])
def test_cheats_meet_each_defense(judge: Judge, monkeypatch: pytest.MonkeyPatch, cheat: str, defense: str) -> None:
    design = CHEATS[cheat][0]
    refused = judge(design)
    assert refused.status == "cheating_refused"
    switch_off(monkeypatch, DEFENSES - {defense})
    assert judge(design).status in ("failed", "cheating_refused")


@pytest.mark.verilog
@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_work_where_their_defenses_are_off(judge: Judge, monkeypatch: pytest.MonkeyPatch, cheat: str) -> None:
    switch_off(monkeypatch, CHEATS[cheat][1])
    assert judge(CHEATS[cheat][0]).status == "passed"
