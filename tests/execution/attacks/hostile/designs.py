"""Verilog designs that attack the machine, and how a design is judged amid the baits.

Those that cheat are in tests/execution/test_verilog.py.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hostile.baits import Baits, descendants, left_behind
from ibft.artifacts.rows import Problem, Sample
from ibft.execution.icarus import installed_icarus
from ibft.execution.isolation import Level
from ibft.execution.languages.verilog import VERILOG
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, Sandbox
from ibft.text.answers import extract_sample

__all__ = ["DESIGNS", "Desk", "desk"]

_LIMITS = Limits(cpu_s=1, wall_s=4, memory_mib=512)


def _module(body: str, before: str = "") -> str:
    return f"{before}module top_module (input clk, input reset, input [3:0] d, output [3:0] q);\n{body}\nendmodule\n"


def _initial(statement: str) -> str:
    return _module(f"integer n; reg [7:0] m [0:99]; initial begin {statement} end\nassign q = 0;")


DESIGNS = {
    "a file in the home folder": _initial('n = $fopen("@MARK@"); $fwrite(n, "x"); $fclose(n);'),
    "a file in /tmp": _initial('n = $fopen("/tmp/@MARK_NAME@"); $fwrite(n, "x"); $fclose(n);'),
    "overwriting a file": _initial('n = $fopen("@SECRET@", "w"); $fclose(n);'),
    "a dump elsewhere": _initial('$dumpfile("@MARK@"); $dumpvars;'),
    "reading a file into memory": _initial('$readmemh("@SECRET@", m); $display("%h", m[0]);'),
    "a file in the text": _module("assign q = 0;", '`include "@SECRET@"\n'),
    "a shell": _initial('n = $system("touch @MARK@");'),
    "a macro that hides a file": "`define O open\n" + _initial('n = $f`O("@MARK@"); $fclose(n);'),
    "a loop in the simulator": _initial("forever n = n + 1;"),
    "a loop without time": _module("reg r = 0; always @(r) r <= ~r; always @(clk) r <= 1; assign q = 0;"),
    "a loop in the compiler": _module(
        "genvar i; generate for (i = 0; i < 99999999; i = i + 1) wire w; endgenerate assign q = 0;"
    ),
    "macros that double": _module(
        "assign q = `Z;",
        "`define A 0+0\n" + "".join(f"`define {b} `{a}+`{a}\n" for a, b in itertools.pairwise(string.ascii_uppercase)),
    ),
    "a huge vector": _module("reg [2000000000:0] r; assign q = 0;"),
    "a huge memory": _module("reg [63:0] r [0:2000000000]; assign q = 0;"),
    "a module that holds itself": _module("top_module t (clk, reset, d, q);"),
    "a flood of output": _initial('repeat (1000000) $display("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");'),
    "a parameter that explodes": _module("parameter P = 2 ** 2 ** 2 ** 2 ** 2 ** 2; assign q = P;"),
}


class Desk(NamedTuple):
    """Everything that judging a design takes."""

    problem: Problem
    sandbox: Sandbox
    reference: Reference
    baits: Baits

    def judge(self, design: str) -> Outcome:
        """The outcome of one design."""
        text = self.baits.fill_in(design)
        sample = extract_sample(Sample(task_id=self.problem.task_id, completion=text), self.problem)
        job = Job(problem=self.problem, limits=_LIMITS, sample=sample, reference=self.reference)
        return VERILOG.judge(job, None, lambda **_: self.sandbox)

    def attack(self, design: str) -> tuple[Outcome, list[str], list[str], str]:
        """The outcome, the effects, the processes left, and what is wrong with the reference's verdict afterwards."""
        before, processes = self.baits.look(), {*descendants()}
        outcome = self.judge(design)
        effects = self.baits.effects(before) + ["a secret was read"] * (self.baits.token in outcome.message)
        left = left_behind({*processes, self.baits.victim.pid})
        after = self.judge(self.problem.canonical_solution or "")
        return outcome, effects, left, "" if after.status == "passed" else f"the reference: {after.message}"


@contextmanager
def desk(level: Level, problem: Problem) -> Iterator[Desk]:
    """A desk at which designs for one problem are judged.

    Raises:
        UserError: Icarus Verilog is missing.
    """
    with Baits() as baits, Sandbox(level, tools=installed_icarus()[:2]) as sandbox:
        reference = VERILOG.reference(Job(problem=problem, limits=_LIMITS), None, lambda **_: sandbox)
        yield Desk(problem, sandbox, reference, baits)
