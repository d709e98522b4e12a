"""Judging one Verilog sample with Icarus Verilog, against the test benches of VerilogEval versions 1 and 2.

A sample passes if its design, simulated under the test bench, matches the reference at every sampled output. Designs
and test bench run in one simulator, so what keeps a design honest is, in this order:

1. **Rules on its text** (`verilog_text.find_cheat`), free of charge: no system task or function but the pure ones and
   those of the problem's own reference, no `force`, `release`, `bind` or `` `include ``, no imported C, no name of the
   test bench. A text with directives is checked again as it leaves the preprocessor.
2. **Order.** The test bench is compiled before the design and its macros are undefined in between: no directive of the
   design reaches the test bench, and none of the test bench's tells the design that it is there.
3. **A secret.** The test bench prints its counts behind a random marker, so no other line is taken for them.
4. **The same run.** It must compare as many outputs as the reference's run did, and what the reference inside the test
   bench answered must be the same, bit by bit and sample by sample (`trace`). So ending the simulation early, driving
   the inputs from inside the design and disturbing the random stimuli gain nothing.
5. **Alone.** A design that passed must also compile in a folder without the test bench, below an empty module of the
   same name: whatever reaches out of the design, by hierarchical names or instances of the reference, does not.

What this does not stop: a design that has the expected outputs by heart and counts clock edges. Nothing can, but for
other stimuli. Everything that Icarus itself might be made to do is the sandbox's business.

docs/verilog.md has the rules for readers, and what was measured.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from ibft.artifacts.rows import Problem, Sample, Status
from ibft.execution.icarus import Icarus, abnormal_end, first_line, icarus_tools, icarus_warning, installed_icarus
from ibft.execution.languages import Language, Sandboxes
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import CommandResult, Limits
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

__all__ = ["VERILOG", "CommandSandbox", "Verilog", "judge_verilog", "run_verilog_reference", "verilog_source"]

_FLAGS = ("-g2012", "-Wall", "-Winfloop", "-Wno-timescale")  # those of VerilogEval v1's own harness
_FILE_BYTES = 16 << 20  # the compiled form of a large correct design takes megabytes
_EXPANDED_BYTES = 1 << 20  # as much of its output as the sandbox keeps
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


class CommandSandbox(Protocol):
    """What is needed of `sandbox.Sandbox`."""

    def run_commands(
        self, files: Mapping[str, bytes], commands: Sequence[Sequence[str]], limits: Limits
    ) -> list[CommandResult]:
        """Write files into an empty folder and run commands there in order, to the first that fails."""
        ...


class _Run(NamedTuple):
    """One simulation. `status` is `passed` where no output differed, in however short a run."""

    status: Status
    message: str
    cpu_time_s: float
    wall_time_s: float
    num_checked: int | None = None
    trace: str = ""

    def outcome(self) -> Outcome:
        return Outcome(
            status=self.status, message=self.message, cpu_time_s=self.cpu_time_s, wall_time_s=self.wall_time_s
        )


class Verilog(VerilogReader, Language):
    """Verilog and SystemVerilog, judged by Icarus Verilog against a test bench."""

    # A right design may simulate far more slowly than its reference: 30 s by default, as VerilogEval's harness has.
    min_cpu_factor = 10.0

    def judge(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Outcome:
        """Simulate a sample's design under the test bench."""
        assert job.sample is not None
        assert job.reference is not None
        source = self.source(job.problem, job.sample)
        return judge_verilog(job.problem, source, sandboxes(tools=icarus_tools()), job.limits, job.reference)

    def reference(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Reference:
        """Simulate the problem's own design."""
        return run_verilog_reference(job.problem, sandboxes(tools=icarus_tools()), job.limits)

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return what is compiled, as `verilog_source` does."""
        return verilog_source(problem, sample)

    def num_runs(self, *, is_reference: bool) -> int:
        """Expanding, compiling and simulating the design, and compiling it alone."""
        return 4

    def completed(self, problem: Problem) -> Problem:
        """Return the problem with the name of its module, which is `top_module` where it has none."""
        if problem.setup or problem.modules or problem.inside is not None:
            raise ValueError(
                f"{problem.task_id} has setup, modules or inside, which are for Python problems. Remove them."
            )
        name = _entry_point(problem)
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{problem.task_id} has the entry_point {name!r}, which is no Verilog name. Give the name of the "
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


def run_verilog_reference(
    problem: Problem, sandbox: CommandSandbox, limits: Limits, icarus: Icarus | None = None
) -> Reference:
    """Judge the problem's own solution, to learn what a sample's run must look like.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    design = extract_design(problem.canonical_solution or "", problem.prompt, _entry_point(problem))
    if design is None:
        return Reference(status="no_code", message="it has no reference solution, which Verilog problems need")
    icarus = icarus or installed_icarus()
    run = _simulate(problem, design.source, sandbox, limits, icarus)
    if run.status == "passed":
        run = _compile_alone(problem, design.source, sandbox, limits, icarus, run)
    return Reference(
        status=run.status,
        message=run.message,
        cpu_time_s=run.cpu_time_s,
        num_checked=run.num_checked,
        trace=run.trace,
    )


def verilog_source(problem: Problem, sample: Sample) -> str:
    """Return what to compile: a completion behind the prompt's header, a whole module alone; "" if it is not code."""
    text = clean(sample.text)
    modules, body_end = defined_modules(text)
    if not modules and body_end is None and not has_statement(text):
        return ""
    if sample.completion is None or any(module.name == _entry_point(problem) for module in modules):
        return text
    return text if modules and body_end is None else header_of(problem.prompt, _entry_point(problem)) + text


def judge_verilog(
    problem: Problem,
    source: str,
    sandbox: CommandSandbox,
    limits: Limits,
    reference: Reference,
    icarus: Icarus | None = None,
) -> Outcome:
    """Judge one sample.

    Args:
        problem: its `tests` are a test bench as VerilogEval's, whose module `tb` instantiates the entry point.
        source: of `verilog_source`.
        sandbox: where Icarus runs.
        limits: for each command; the limit on files is raised to what compiled designs need.
        reference: of `run_verilog_reference`, with the same version of Icarus.
        icarus: what to judge with; the one on the search path if it is not given.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    icarus = icarus or installed_icarus()
    if not source:
        return Outcome(status="no_code", message="there is no Verilog in the answer")
    if not any(module.name == _entry_point(problem) for module in defined_modules(source)[0]):
        return Outcome(status="syntax_error", message=f"the answer defines no module {_entry_point(problem)}")
    if cheat := _find_cheat(problem, source):
        return Outcome(status="cheating_refused", message=cheat)
    if "`" in source and (refused := _check_expanded(problem, source, sandbox, limits, icarus)):
        return refused
    run = _simulate(problem, source, sandbox, limits, icarus)
    if run.status == "passed" and (disturbance := _disturbance(run, reference)):
        run = run._replace(status="failed", message=disturbance)
    if run.status == "passed":
        run = _compile_alone(problem, source, sandbox, limits, icarus, run)
    return run.outcome()


def _entry_point(problem: Problem) -> str:
    return problem.entry_point or "top_module"


def _find_cheat(problem: Problem, source: str) -> str:
    allowed = allowed_systems(problem.canonical_solution or "")
    found = find_cheat(source, allowed, forbidden_names(problem.tests, _entry_point(problem)))
    return f"the design {found}" if found else ""


def _check_expanded(
    problem: Problem, source: str, sandbox: CommandSandbox, limits: Limits, icarus: Icarus
) -> Outcome | None:
    """Defense 1 on the preprocessed text: macros put names together, and directives end comments early."""
    command = [icarus.compiler, "-g2012", "-E", "-o", "-", "design.sv"]
    (result,) = sandbox.run_commands({"design.sv": _encode(source)}, [command], _roomy(limits))
    ended = abnormal_end(result, "compiler")
    if ended is None and len(result.stdout) >= _EXPANDED_BYTES:
        ended = ("memory", "its macros expand to more than 1 MiB")
    if ended is None and (cheat := _find_cheat(problem, result.stdout.decode("utf-8", "replace"))):
        ended = ("cheating_refused", cheat)
    if ended is None:
        return None
    return Outcome(status=ended[0], message=ended[1], cpu_time_s=result.cpu_time_s, wall_time_s=result.wall_time_s)


def _simulate(problem: Problem, source: str, sandbox: CommandSandbox, limits: Limits, icarus: Icarus) -> _Run:
    """Compile test bench and design, and run them."""
    marker = secrets.token_hex(8)
    files = {"testbench.sv": instrument(problem.tests, marker).encode(), "design.sv": _encode(source)}
    compile_ = [icarus.compiler, *_FLAGS, "-s", TEST_BENCH_MODULE, "-o", "sim.vvp", *files]
    results = sandbox.run_commands(files, [compile_, [icarus.simulator, "-n", "sim.vvp", "-none"]], _roomy(limits))
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
    if len(counts) != 1 or len(traces) > 1:
        return _Run("failed", "the test bench did not come to its end", *spent)
    wrong, checked = map(int, counts[0])
    if not checked:
        return _Run("failed", "the run ended before an output was sampled", *spent, checked)
    if wrong:
        return _Run("failed", f"wrong at the sampled output {checked}", *spent, checked)
    return _Run("passed", f"{checked} sampled outputs are right", *spent, checked, "".join(traces))


def _disturbance(run: _Run, reference: Reference) -> str:
    """Defense 4: how the test bench ran otherwise than with the reference; empty if it did not."""
    if run.num_checked != reference.num_checked:
        return f"the run sampled {run.num_checked} outputs, that of the reference {reference.num_checked}"
    if run.trace != getattr(reference, "trace", ""):
        return "the reference in the test bench answered otherwise than in its own run: its inputs were disturbed"
    return ""


def _compile_alone(
    problem: Problem, source: str, sandbox: CommandSandbox, limits: Limits, icarus: Icarus, run: _Run
) -> _Run:
    """Defense 5; `run` with what came of it."""
    files = {"alone.sv": stand_in(problem.tests, _entry_point(problem)).encode(), "design.sv": _encode(source)}
    command = [icarus.compiler, "-g2012", "-t", "null", "-s", TEST_BENCH_MODULE, *files]
    (result,) = sandbox.run_commands(files, [command], _roomy(limits))
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
