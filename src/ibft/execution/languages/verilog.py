"""Judging one Verilog sample with Icarus Verilog, under the test bench of its problem (`verilog_benches`).

A sample passes if its design, simulated under the test bench, does there what the reference does: it matches at every
sampled output, or the test bench prints the same results. Designs and test bench run in one simulator, so what keeps a
design honest is, in this order:

1. **Rules on its text** (`verilog_text.find_cheat`), free of charge: no system task or function but the pure ones and
   those of the problem's own reference, no `force`, `release`, `bind` or `` `include ``, no imported C, no name of the
   test bench; and no ports by which it would reach out (`verilog_ports`). A text with directives is checked again after
   the preprocessor.
2. **Order.** The test bench is compiled before the design and its macros are undefined in between: no directive of the
   design reaches the test bench, and none of the test bench's tells the design that it is there.
3. **A secret.** The test bench prints behind a random marker, so no other line is taken for its own.
4. **The same run.** It must compare as many outputs as the reference's run did, and what the reference inside the test
   bench answered must be the same, bit by bit and sample by sample (`trace`). Where a test bench does not count, its
   results and its end must be the same. So ending the simulation early, driving the inputs from inside the design and
   disturbing the random stimuli gain nothing.
5. **Alone.** A design that passed must also compile in a folder without the test bench, below an empty module of the
   same name. A design that reaches out of itself, by hierarchical names or instances of the reference, does not.

What this does not stop: a design that has the expected outputs by heart and counts clock edges. Only other stimuli
could. The sandbox, not this file, limits what Icarus itself might be made to do.

docs/verilog.md has the rules for readers, and what was measured.
"""

from __future__ import annotations

import functools
import re

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution.icarus import icarus_warning, installed_icarus
from ibft.execution.isolation import Level
from ibft.execution.languages import Language, Sandboxes, refuse_python_fields
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, Sandbox
from ibft.execution.simulation import Simulation, compile_alone, expand, misfit, reserved_files, simulate
from ibft.execution.verilog_benches import counts_mismatches, empty_design, says_failure
from ibft.execution.verilog_ports import find_foreign_port
from ibft.execution.verilog_probe import find_fault
from ibft.execution.verilog_text import allowed_systems, find_cheat, forbidden_names
from ibft.text.answers.verilog import extract_design, has_statement, header_of
from ibft.text.answers.verilog_modules import defined_modules
from ibft.text.answers.verilog_reader import VerilogReader
from ibft.text.answers.verilog_tokens import clean

__all__ = ["VERILOG", "Verilog"]

_ENTRY_POINT = "top_module"  # as in VerilogEval
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_EMPTY_CPU_S = 3.0  # for the empty module, with which a test bench may wait for ever


class Verilog(VerilogReader, Language):
    """Verilog and SystemVerilog, judged by Icarus Verilog against a test bench."""

    # A right design may simulate far more slowly than its reference: 30 s by default, as VerilogEval's harness has.
    min_cpu_factor = 10.0

    def judge(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Outcome:
        """Simulate a sample's design under the test bench.

        Args:
            job: the problem's `tests` are a test bench that instantiates the entry point. The limits hold for each
                command; that on files is raised to what compiled designs need.
            prepared: not used.
            sandboxes: where Icarus runs.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        assert job.sample is not None
        assert job.reference is not None
        problem, limits = self.completed(job.problem), job.limits
        source, sandbox = self.source(problem, job.sample), sandboxes(tools=installed_icarus()[:2])
        if not source:
            return Outcome(status="no_code", message="there is no Verilog in the answer")
        if not any(module.name == problem.entry_point for module in defined_modules(source)[0]):
            return Outcome(status="syntax_error", message=f"the answer defines no module {problem.entry_point}")
        if cheat := _find_cheat(problem, source):
            return Outcome(status="cheating_refused", message=f"the design {cheat}")
        run = _check_expanded(problem, source, sandbox, limits) if "`" in source else None
        if run is None or run.status == "passed":
            run = simulate(problem, source, sandbox, limits)
        if error := misfit(run):
            run = run._replace(message=f"the design does not fit the test bench: {error}")
        if run.status == "passed" and (disturbance := _disturbance(problem, run, job.reference)):
            run = run._replace(status="failed", message=disturbance)
        if run.status == "passed":
            run = compile_alone(problem, source, sandbox, limits, run)
        return _outcome(problem, run)

    def reference(self, job: Job, prepared: None, sandboxes: Sandboxes) -> Reference:
        """Simulate the problem's own design, to learn how a sample's run must look, and an empty one, which must fail.

        Raises:
            SandboxError: the sandbox itself failed.
        """
        problem, limits = self.completed(job.problem), job.limits
        design = _design_of(problem.canonical_solution or "", problem.prompt, problem.entry_point)
        if not design:
            return Reference(status="no_code", message="it has no reference solution, which Verilog problems need")
        sandbox = sandboxes(tools=installed_icarus()[:2])
        run = simulate(problem, design, sandbox, limits)
        if run.status == "passed" and not counts_mismatches(problem.tests):
            run = _checked_for_failure(run)
        if run.status == "passed":
            run = compile_alone(problem, design, sandbox, limits, run)
        outcome = _outcome(problem, run)
        reference = Reference(
            status=outcome.status,
            message=outcome.message,
            cpu_time_s=run.cpu_time_s,
            num_checked=run.num_checked,
            trace=run.trace,
        )
        if outcome.passed and _passes_empty(problem, design, sandbox, limits, reference):
            message = "an empty module passes its test bench, which so decides nothing"
            return msgspec.structs.replace(reference, status="failed", message=message)
        return reference

    def source(self, problem: Problem, sample: Sample) -> str:
        """Return the text to compile: a completion behind the prompt's header, a module alone; "" if it is not code."""
        text, entry_point = clean(sample.text), problem.entry_point or _ENTRY_POINT
        modules, body_end = defined_modules(text)
        if not modules and body_end is None and not has_statement(text):
            return ""
        if sample.completion is None or any(module.name == entry_point for module in modules):
            return text
        return text if modules and body_end is None else header_of(problem.prompt, entry_point) + text

    def completed(self, problem: Problem) -> Problem:
        """Return the problem with the name of its module, by default `top_module`."""
        refuse_python_fields(problem)
        name = problem.entry_point or _ENTRY_POINT
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{problem.task_id} has the entry_point {name!r}, which is not a Verilog name. Give the name of the "
                "module to write (default: top_module)."
            )
        for file in problem.files:
            if not _FILE_NAME.fullmatch(file.name) or file.name in reserved_files():
                raise ValueError(
                    f"{problem.task_id} has a file named {file.name!r}. Give a name of letters, digits, `_`, `-` and "
                    f"`.`, without a folder, and none of {', '.join(sorted(reserved_files()))}."
                )
        return msgspec.structs.replace(problem, entry_point=name)

    def versions(self) -> dict[str, str]:
        """Return the version of Icarus Verilog."""
        return {"icarus": installed_icarus().version}

    def try_out(self, level: Level) -> None:
        """Judge designs of known verdicts with the installed Icarus.

        Raises:
            UserError: a verdict is wrong, or Icarus does not run.
        """
        icarus = installed_icarus()
        with Sandbox(level, tools=icarus[:2]) as sandbox:
            fault = find_fault(self, sandbox)
        if fault:
            raise UserError(
                f"judge: nothing can be judged with Icarus Verilog {icarus.version} ({icarus.compiler}): {fault}. "
                "Put another version on the search path: 11.0, 12.0 and 13.0 are known to work."
            )

    def warnings(self) -> list[str]:
        """Return what the installed version cannot run."""
        warning = icarus_warning(installed_icarus().version)
        return [warning.rstrip(".")] if warning else []


VERILOG = Verilog()


def _find_cheat(problem: Problem, source: str) -> str:
    tests, entry_point = problem.tests, problem.entry_point
    allowed, names = allowed_systems(problem.canonical_solution or ""), forbidden_names(tests, entry_point)
    if cheat := find_cheat(source, allowed, names):
        return cheat
    reference = _design_of(problem.canonical_solution or "", problem.prompt, entry_point)
    return find_foreign_port(source, reference, entry_point, tests)


@functools.lru_cache(maxsize=1024)
def _design_of(solution: str, prompt: str, entry_point: str) -> str:
    design = extract_design(solution, prompt, entry_point)
    return design.source if design else ""


def _check_expanded(problem: Problem, source: str, sandbox: Sandbox, limits: Limits) -> Simulation:
    """Apply defense 1 to the preprocessed text."""
    # Macros can put a forbidden name together from parts, and directives can end a comment early.
    text, run = expand(source, sandbox, limits)
    if run.status == "passed" and (cheat := _find_cheat(problem, text)):
        return run._replace(status="cheating_refused", message=f"the design {cheat}")
    return run


def _disturbance(problem: Problem, run: Simulation, reference: Reference) -> str:
    """Return how the test bench ran otherwise than with the reference (defense 4); "" if it did not."""
    if not counts_mismatches(problem.tests):
        said, expected = run.trace.split("\n"), reference.trace.split("\n")
        if said == expected:
            return ""
        other = next((line for line in said if line not in expected), None)
        return f"the test bench says: {other}" if other else "the test bench says less than of the reference"
    if run.num_checked != reference.num_checked:
        return f"the run sampled {run.num_checked} outputs, that of the reference {reference.num_checked}"
    if run.trace != reference.trace:
        return "the reference in the test bench answered otherwise than in its own run: its inputs were disturbed"
    return ""


def _checked_for_failure(run: Simulation) -> Simulation:
    """Return the run of a reference with its verdict, where the test bench has said it in words."""
    for line in run.trace.split("\n"):
        if says_failure(line):
            return run._replace(status="failed", message=f"of the reference, the test bench says: {line}")
    return run


def _passes_empty(problem: Problem, source: str, sandbox: Sandbox, limits: Limits, reference: Reference) -> bool:
    """Decide whether a module without any content passes, too."""
    factor = min(1.0, max(_EMPTY_CPU_S, 10 * reference.cpu_time_s) / limits.cpu_s)
    run = simulate(problem, empty_design(source, problem.entry_point), sandbox, limits.scaled(factor))
    return run.status == "passed" and not _disturbance(problem, run, reference)


def _outcome(problem: Problem, run: Simulation) -> Outcome:
    """Return the verdict on a run; what Icarus warned about counts last, so that both readings can be computed."""
    status, message, warning = run.status, run.message, ""
    if status == "passed" and run.messages:
        texts = ("",) if problem.warnings_fail is True else problem.warnings_fail or ()
        failing = [line for line in run.messages if any(text in line for text in texts)]
        warning = [*failing, *run.messages][0]
        if failing:
            status, message = "failed", f"Icarus warns: {warning}"
    return Outcome(
        status=status, message=message, cpu_time_s=run.cpu_time_s, wall_time_s=run.wall_time_s, warning=warning
    )
