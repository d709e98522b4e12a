"""The rules on text, without Icarus."""

from __future__ import annotations

import pytest

from ibft.execution.verilog_benches import instrument, stand_in
from ibft.execution.verilog_text import allowed_systems, find_cheat, forbidden_names

TEST_BENCH = """`timescale 1 ps/1 ps
`define OK 12
module reference_module (input d, output q); assign q = d; endmodule
module stimulus_gen (input clk, output reg d); always @(posedge clk) d <= $random; endmodule
module tb();
    stimulus_gen stim1 (.clk, .d);
    task stop_it; endtask
    reference_module good1 (.d, .q(q_ref));
    top_module top_module1 (.d, .q(q_dut));
    final $display("Mismatches: %1d in %1d samples", stats1.errors, stats1.clocks);
    assign tb_match = ( { q_ref } === ( { q_ref } ^ { q_dut } ^ { q_ref } ) );
    always @(posedge clk, negedge clk) begin

        stats1.clocks++;
        if (!tb_match) begin
            stats1.errors++;
        end
    end
endmodule
"""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("$display(1);", "uses $display"),
        ("x = $fopen(1);", "uses $fopen"),
        ("$readmemh(1);", "uses $readmemh"),
        ("x = $random;", "uses $random"),
        ("x = $time;", "uses $time"),
        ("x = $root.tb.y;", "uses $root"),
        ("release x;", "uses release"),
        ("bind m n o();", "uses bind"),
        ('`include "testbench.sv"', "uses `include"),
        ('import "DPI-C" function void f();', "uses import of foreign"),
        ('export "DPI-C" function f;', "uses export of foreign"),
        ("`define D(x) $ x", "builds the name"),
        ("initial $`D;", "builds the name"),
        ("a``b", "uses ``b"),
        ('x = """ $y """;', "triple quotes"),
        ('s = "//"; $stop;', "uses $stop"),
        ('s = "/*"; $stop; s = "*/";', "uses $stop"),
        ('s = "\\\\"; $stop;', "uses $stop"),
        ("wire \\a// ; $stop;", "uses $stop"),
        ('wire \\a" ; $stop; // "', "uses $stop"),
        ("/* /* */ $stop; */", "uses $stop"),
        ("1force x = 0;", "uses force"),
        ("é$stop;", "uses $stop"),
        ("x = \\good1 .y;", "uses good1"),
        ("defparam top_module1.p = 1;", "uses top_module1"),
        ("stimulus_gen s();", "uses stimulus_gen"),
        ("stimulus_gen #(1) s();", "uses stimulus_gen"),
        ("module stimulus_gen; endmodule", "uses stimulus_gen"),
        ("wire tb; assign x = tb.good1.q;", "uses tb"),
        ("wire tb; assign x = tb . q_ref;", "uses tb"),
        ("assign x = top.tb[0].y;", "uses tb"),
        ("assign x = tb[a[1]][0].y;", "uses tb"),
        ("x = tb::y;", "uses tb"),
        ("assign x = a.good1;", "uses good1"),
        ("initial stop_it;", "uses stop_it"),
        ("initial #10 stop_it;", "uses stop_it"),
        ("always @(posedge clk) stop_it(1);", "uses stop_it"),
        ("always @* x = stop_it(a);", "uses stop_it"),
        ("initial disable stop_it;", "uses stop_it"),
        ("case (P) 0: reference_module r(a, b); endcase", "uses reference_module"),
        ("x = tb[" + "a + " * 300, "uses tb"),
    ],
)
def test_cheats_are_found_in_the_text(source: str, found: str) -> None:
    names = forbidden_names(TEST_BENCH, "top_module")
    assert found in find_cheat(source, allowed_systems(""), names)


@pytest.mark.parametrize(
    "source",
    [
        '// $display\n/* force tb.x */ s = "$display tb"; x = $signed(y); q[$]; q[1:$]; q[$:1];',
        "`timescale 1ns/1ns\n`define W 3\nmodule top_module(input [`W:0] tbx); wire forced, \\force ; endmodule",
        "(* full_case *) case (x) default: y = $clog2(8); endcase",
        "import p::*; localparam X = 4'hb;",
        "wire ta = a & ~sel;\nwire tb = b & sel;\nassign out = ta | tb;",
        "input tb; output reg [3:0] good1; reg stim1, tb;\nalways @(tb or stim1) good1 = {tb, stim1};",
        "sub good1 (.tb(tb), .x(good1[0])); and stim1 (o, tb, b); sub u (.a, .tb);",
        "always @(posedge clk) begin : tb if (tb) q <= tb ? 1 : 0; end",
        "assign y = tb[3:0]; assign z = (tb == 2) && !(tb);",
        "parameter stop_it = 3; assign y = x > stop_it;",
    ],
)
def test_honest_text_is_not_refused(source: str) -> None:
    names = forbidden_names(TEST_BENCH, "top_module")
    assert find_cheat(source, allowed_systems(""), names) == ""


def test_what_the_reference_uses_is_allowed() -> None:
    assert "$time" in allowed_systems("assign t = $time;")


def test_names_of_the_test_bench() -> None:
    bench = "module ref; wire w; endmodule module tb; ref good (w); top_module dut (w); task t; endtask wire x;"
    bench += " initial begin : block if (x) f(); end endmodule"
    assert forbidden_names(bench, "top_module") == {"ref", "tb", "good", "dut", "t", "block"}


def test_stand_in_has_the_names_on_the_way_to_the_design() -> None:
    assert stand_in(TEST_BENCH, "top_module") == "module tb;\ntop_module top_module1 ();\nendmodule\n"


def test_instrumented_test_bench_forgets_its_macros() -> None:
    text = instrument(TEST_BENCH, "marker")
    assert text.endswith("\n`undef OK\n")
    assert '"marker Mismatches: %1d' in text
    assert "stats1.errors++; $finish;" in text
    assert text.index("trace_marker = ") < text.index("stats1.clocks++;")


def test_other_test_benches_stay_as_they_are() -> None:
    assert instrument("module tb; endmodule", "marker") == "module tb; endmodule\n"
