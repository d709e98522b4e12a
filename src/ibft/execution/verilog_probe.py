"""Can the installed Icarus Verilog be judged with? Two small problems, of which every verdict is known, are asked.

What a version prints, warns about and refuses changes from one to the next: with 13 no problem of VerilogEval compiled,
since their test benches name a wire before they declare it, as the first one here does. So the tool itself is asked.
"""

from __future__ import annotations

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.languages import Language
from ibft.execution.outcome import Job, Reference
from ibft.execution.sandbox import Limits, Sandbox, SandboxError

__all__ = ["find_fault"]

_LIMITS = Limits(cpu_s=10, wall_s=60, memory_mib=1024)
_HEADER = "module top_module (input clk, input d, output logic q);\n"
_RIGHT = "always_ff @(posedge clk) q <= ~d;\nendmodule\n"
_WRONG = "always_ff @(posedge clk) q <= d;\nendmodule\n"
_COUNTING = f"""`timescale 1 ps/1 ps
{_HEADER.replace("top_module", "reference_module")}{_RIGHT}
module tb();
    typedef struct packed {{ int errors; int clocks; }} stats;
    stats stats1;
    reg clk = 0;
    logic d, q_ref, q_dut;
    initial forever #5 clk = ~clk;
    initial begin
        $dumpfile("wave.vcd");
        $dumpvars(1, tb_mismatch, q_ref);
    end
    initial begin
        repeat (20) @(negedge clk) d <= $random;
        #1 $finish;
    end
    wire tb_match;
    wire tb_mismatch = ~tb_match;
    reference_module good1 (.clk, .d, .q(q_ref));
    top_module top_module1 (.clk, .d, .q(q_dut));
    final begin
        $display("Mismatches: %1d in %1d samples", stats1.errors, stats1.clocks);
    end
    assign tb_match = ( {{ q_ref }} === ( {{ q_ref }} ^ {{ q_dut }} ^ {{ q_ref }} ) );
    always @(posedge clk, negedge clk) begin
        stats1.clocks++;
        if (!tb_match) begin
            stats1.errors++;
        end
    end
endmodule
"""
_SPEAKING = """module test;
    reg clk = 0, d = 0;
    wire q;
    integer errors = 0;
    always #5 clk = ~clk;
    top_module dut (.clk(clk), .d(d), .q(q));
    initial begin
        repeat (20) begin
            @(negedge clk);
            if (q !== ~d) errors = errors + 1;
            d = ~d;
        end
        if (errors == 0) $display("Passed"); else $display("%0d errors", errors);
        $finish;
    end
endmodule
"""


def find_fault(language: Language, sandbox: Sandbox) -> str:
    """Judge designs of known verdicts; return what came out otherwise, as a sentence, "" if nothing did.

    Args:
        language: Verilog's judge.
        sandbox: may run Icarus.
    """
    for tests in (_COUNTING, _SPEAKING):
        problem = Problem(
            task_id="probe",
            prompt=_HEADER,
            tests=tests,
            canonical_solution=_RIGHT,
            language="verilog",
            warnings_fail=True,
        )
        job = Job(problem=problem, limits=_LIMITS)
        try:
            reference = language.reference(job, None, lambda **_: sandbox)
            if not reference.passed:
                return f"a design that is right did not pass: {reference.message}"
            if not reference.trace:
                return "of a design that is right, the answers were not recorded"
            fault = _misjudged(language, sandbox, job, reference)
        except SandboxError as error:
            fault = f"the sandbox failed: {error}"
        if fault:
            return fault
    return ""


def _misjudged(language: Language, sandbox: Sandbox, job: Job, reference: Reference) -> str:
    for text, expected in ((_RIGHT, "passed"), (_WRONG, "failed"), (_RIGHT.replace(";", "", 1), "syntax_error")):
        sample = Sample(task_id=job.problem.task_id, completion=text)
        outcome = language.judge(
            msgspec.structs.replace(job, sample=sample, reference=reference), None, lambda **_: sandbox
        )
        if outcome.status != expected:
            return f"a design that is {expected} was judged {outcome.status}: {outcome.message}"
    return ""
