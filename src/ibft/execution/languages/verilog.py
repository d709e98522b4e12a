"""Judging one Verilog sample with Icarus Verilog, against the test benches of VerilogEval versions 1 and 2.

A sample passes if its design, simulated under the test bench, matches the reference at every sampled output. Designs
and test bench run in one simulator, so what keeps a design honest is, in this order:

1. **Rules on its text** (`verilog_text.find_cheat`), free of charge: no system task or function but the pure ones and
   those of the problem's own reference, no `force`, `release`, `bind` or `` `include ``, no imported C, no name of the
   test bench. A text with directives is checked again after the preprocessor.
2. **Order.** The test bench is compiled before the design and its macros are undefined in between: no directive of the
   design reaches the test bench, and none of the test bench's tells the design that it is there.
3. **A secret.** The test bench prints its counts behind a random marker, so no other line is taken for them.
4. **The same run.** It must compare as many outputs as the reference's run did, and what the reference inside the test
   bench answered must be the same, bit by bit and sample by sample (`trace`). So ending the simulation early, driving
   the inputs from inside the design and disturbing the random stimuli gain nothing.
5. **Alone.** A design that passed must also compile in a folder without the test bench, below an empty module of the
   same name. A design that reaches out of itself, by hierarchical names or instances of the reference, does not.

What this does not stop: a design that has the expected outputs by heart and counts clock edges. Only other stimuli
could. The sandbox, not this file, limits what Icarus itself might be made to do.

docs/verilog.md has the rules for readers, and what was measured.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Problem, Sample, Status
from ibft.execution.icarus import abnormal_end, first_line, icarus_warning, installed_icarus
from ibft.execution.languages import Language, Sandboxes
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, Sandbox
from ibft.execution.verilog_text import (
    TEST_BENCH_MODULE,
    allowed_systems,
    find_cheat,
    forbidden_names,
    instrument,
    stand_in,
)
from ibft.text.answers.verilog import extract_design, has_statement, header_of
from ibft.text.answers.verilog_modules import defined_modules
from ibft.text.answers.verilog_reader import VerilogReader
from ibft.text.answers.verilog_tokens import clean

__all__ = ["VERILOG", "Verilog"]

_FLAGS = ("-g2012", "-Wall", "-Winfloop", "-Wno-timescale")  # those of VerilogEval v1's own harness
_FILE_BYTES = 16 << 20  # the compiled form of a large correct design takes megabytes
_EXPANDED_BYTES = 1 << 20  # as much of its output as the sandbox keeps
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


class _Run(NamedTuple):
    """One simulation. `status` is `passed` where no output differed, even in a run that ended too early."""

    status: Status
    message: str
    cpu_time_s: float
    wall_time_s: float
    num_checked: int | None = None
    trace: str = ""


class Verilog(VerilogReader, Language):
    """Verilog and SystemVerilog, judged by Icarus Verilog against a test bench."""

    # A right design may simulate far more slowly than its reference: 30 s by default, as VerilogEval's harness has.
    min_cpu_factor = 10.0

    def judge(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Outcome:
        """Simulate a sample's design under the test bench.

        Args:
            job: the problem's `tests` are a test bench as VerilogEval's, whose module `tb` instantiates the entry
                point. The limits hold for each command; that on files is raised to what compiled designs need.
            prepared: not used.
            sandboxes: where Icarus runs.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        assert job.sample is not None
        assert job.reference is not None
        problem, limits = job.problem, _roomy(job.limits)
        source, sandbox = self.source(problem, job.sample), sandboxes(tools=installed_icarus()[:2])
        if not source:
            return Outcome(status="no_code", message="there is no Verilog in the answer")
        if not any(module.name == _entry_point(problem) for module in defined_modules(source)[0]):
            return Outcome(status="syntax_error", message=f"the answer defines no module {_entry_point(problem)}")
        if cheat := _find_cheat(problem, source):
            return Outcome(status="cheating_refused", message=cheat)
        if "`" in source and (refused := _check_expanded(problem, source, sandbox, limits)):
            return refused
        run = _simulate(problem, source, sandbox, limits)
        if run.status == "passed" and (disturbance := _disturbance(run, job.reference)):
            run = run._replace(status="failed", message=disturbance)
        if run.status == "passed":
            run = _compile_alone(problem, source, sandbox, limits, run)
        return Outcome(status=run.status, message=run.message, cpu_time_s=run.cpu_time_s, wall_time_s=run.wall_time_s)

    def reference(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Reference:
        """Simulate the problem's own design, to learn how a sample's run must look.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem, limits = job.problem, _roomy(job.limits)
        design = extract_design(problem.canonical_solution or "", problem.prompt, _entry_point(problem))
        if design is None:
            return Reference(status="no_code", message="it has no reference solution, which Verilog problems need")
        sandbox = sandboxes(tools=installed_icarus()[:2])
        run = _simulate(problem, design.source, sandbox, limits)
        if run.status == "passed":
            run = _compile_alone(problem, design.source, sandbox, limits, run)
        fields = run._asdict()
        del fields["wall_time_s"]
        return Reference(**fields)

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the text to compile: a completion behind the prompt's header, a module alone; "" if it is not code."""
        text, entry_point = clean(sample.text), _entry_point(problem)
        modules, body_end = defined_modules(text)
        if not modules and body_end is None and not has_statement(text):
            return ""
        if sample.completion is None or any(module.name == entry_point for module in modules):
            return text
        return text if modules and body_end is None else header_of(problem.prompt, entry_point) + text

    def num_runs(self, problem: Problem, *, is_reference: bool) -> int:
        """Return 4: expanding, compiling and simulating the design, and compiling it alone."""
        return 4

    def completed(self, problem: Problem) -> Problem:
        """Return the problem with the name of its module, by default `top_module`."""
        if problem.setup or problem.preamble or problem.modules or problem.inside is not None:
            raise ValueError(
                f"{problem.task_id} has setup, preamble, modules or inside, which are for Python problems. Remove them."
            )
        name = _entry_point(problem)
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{problem.task_id} has the entry_point {name!r}, which is not a Verilog name. Give the name of the "
                "module to write (default: top_module)."
            )
        return msgspec.structs.replace(problem, entry_point=name)

    def versions(self) -> dict[str, str]:
        """Return the version of Icarus Verilog."""
        return {"icarus": installed_icarus().version}

    def warnings(self) -> list[str]:
        """Return what the installed version cannot run."""
        warning = icarus_warning(installed_icarus().version)
        return [warning.rstrip(".")] if warning else []


VERILOG = Verilog()


def _entry_point(problem: Problem) -> str:
    return problem.entry_point or "top_module"


def _find_cheat(problem: Problem, source: str) -> str:
    allowed = allowed_systems(problem.canonical_solution or "")
    cheat = find_cheat(source, allowed, forbidden_names(problem.tests, _entry_point(problem)))
    return f"the design {cheat}" if cheat else ""


def _check_expanded(problem: Problem, source: str, sandbox: Sandbox, limits: Limits) -> Outcome | None:
    """Apply defense 1 to the preprocessed text; return the outcome where that refuses it."""
    # Macros can put a forbidden name together from parts, and directives can end a comment early.
    command = [installed_icarus().compiler, "-g2012", "-E", "-o", "-", "design.sv"]
    (result,) = sandbox.run_commands({"design.sv": _encode(source)}, [command], limits)
    ended = abnormal_end(result, "compiler")
    if ended is None and len(result.stdout) >= _EXPANDED_BYTES:  # the rest was dropped, and would go unchecked
        ended = ("memory", "its macros expand to more than 1 MiB")
    if ended is None and (cheat := _find_cheat(problem, result.stdout.decode("utf-8", "replace"))):
        ended = ("cheating_refused", cheat)
    if ended is None:
        return None
    return Outcome(status=ended[0], message=ended[1], cpu_time_s=result.cpu_time_s, wall_time_s=result.wall_time_s)


def _simulate(problem: Problem, source: str, sandbox: Sandbox, limits: Limits) -> _Run:
    """Compile test bench and design, and run them."""
    icarus, marker = installed_icarus(), secrets.token_hex(8)
    # In this order: directives hold for all files that follow, and the design's must not reach the test bench.
    files = {"testbench.sv": instrument(problem.tests, marker).encode(), "design.sv": _encode(source)}
    compiling = [icarus.compiler, *_FLAGS, "-s", TEST_BENCH_MODULE, "-o", "sim.vvp", *files]
    # -n ends a simulation that stops to ask; -none writes no waveforms, which the test benches dump.
    results = sandbox.run_commands(files, [compiling, [icarus.simulator, "-n", "sim.vvp", "-none"]], limits)
    spent = (sum(result.cpu_time_s for result in results), sum(result.wall_time_s for result in results))
    ended = abnormal_end(results[-1], "compiler" if len(results) == 1 else "simulator")
    if ended is not None:
        return _Run(*ended, *spent)
    warning = next((text for result in results if (text := first_line(result.stderr))), "")
    if warning and problem.warnings_fail:
        return _Run("failed", f"Icarus warns: {warning}", *spent)
    return _verdict(results[-1].stdout.decode("utf-8", "replace"), marker, spent)


def _verdict(output: str, marker: str, spent: tuple[float, float]) -> _Run:
    counts = re.findall(rf"(?m)^{marker} Mismatches: (\d+) in (\d+) samples$", output)
    traces = re.findall(rf"(?m)^{marker} trace ([0-9a-f]+)$", output)
    if len(counts) != 1 or len(traces) > 1:  # a test bench of a user's own may have no trace
        return _Run("failed", "the test bench did not come to its end", *spent)
    wrong, checked = map(int, counts[0])
    if not checked:
        return _Run("failed", "the run ended before an output was sampled", *spent, checked)
    if wrong:
        return _Run("failed", f"wrong at the sampled output {checked}", *spent, checked)
    return _Run("passed", f"{checked} sampled outputs are right", *spent, checked, "".join(traces))


def _disturbance(run: _Run, reference: Reference) -> str:
    """Return how the test bench ran otherwise than with the reference (defense 4); "" if it did not."""
    if run.num_checked != reference.num_checked:
        return f"the run sampled {run.num_checked} outputs, that of the reference {reference.num_checked}"
    if run.trace != reference.trace:
        return "the reference in the test bench answered otherwise than in its own run: its inputs were disturbed"
    return ""


def _compile_alone(problem: Problem, source: str, sandbox: Sandbox, limits: Limits, run: _Run) -> _Run:
    """Apply defense 5; return the run with its verdict."""
    files = {"alone.sv": stand_in(problem.tests, _entry_point(problem)).encode(), "design.sv": _encode(source)}
    command = [installed_icarus().compiler, "-g2012", "-t", "null", "-s", TEST_BENCH_MODULE, *files]
    (result,) = sandbox.run_commands(files, [command], limits)
    run = run._replace(cpu_time_s=run.cpu_time_s + result.cpu_time_s, wall_time_s=run.wall_time_s + result.wall_time_s)
    ended = abnormal_end(result, "compiler")
    if ended is None:
        return run
    if ended[0] == "syntax_error":
        ended = ("cheating_refused", "the design does not compile without the test bench")
    return run._replace(status=ended[0], message=ended[1])


def _roomy(limits: Limits) -> Limits:
    return msgspec.structs.replace(limits, file_bytes=max(limits.file_bytes, _FILE_BYTES))


def _encode(source: str) -> bytes:
    return source.encode("utf-8", "replace")
