"""One design under one test bench in Icarus Verilog: compiled, run, and what came of it."""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

from ibft.artifacts.rows import Problem, Status
from ibft.execution.icarus import abnormal_end, installed_icarus
from ibft.execution.sandbox import Limits, Sandbox
from ibft.execution.verilog_benches import counts_mismatches, instrument, result_lines, stand_in, top_module

__all__ = [
    "DESIGN",
    "TEST_BENCH",
    "Simulation",
    "compile_alone",
    "expand",
    "reserved_files",
    "simulate",
]

TEST_BENCH, DESIGN = "testbench.sv", "design.sv"
_ALONE, _COMPILED = "alone.sv", "sim.vvp"
_FLAGS = ("-g2012", "-Wall", "-Winfloop", "-Wno-timescale")  # those of VerilogEval's own harnesses
_FILE_BYTES = 16 << 20  # the compiled form of a large correct design takes megabytes
_EXPANDED_BYTES = 1 << 20  # as much of its output as the sandbox keeps


class Simulation(NamedTuple):
    """One run. `status` is `passed` where nothing was found wrong, even in a run that ended too early.

    `num_checked` and `trace` are as in `outcome.Reference`. `messages` are the lines of compiler and simulator on their
    standard error: warnings, where the design compiled.
    """

    status: Status
    message: str
    cpu_time_s: float
    wall_time_s: float
    num_checked: int | None = None
    trace: str = ""
    messages: tuple[str, ...] = ()


def reserved_files() -> frozenset[str]:
    """Return the names that no file of a problem can have."""
    return frozenset({TEST_BENCH, DESIGN, _ALONE, _COMPILED})


def simulate(problem: Problem, source: str, sandbox: Sandbox, limits: Limits) -> Simulation:
    """Compile test bench and design, and run them.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    icarus, marker = installed_icarus(), secrets.token_hex(8)
    # In this order: directives hold for all files that follow, and the design's must not reach the test bench.
    sources = {TEST_BENCH: instrument(problem.tests, marker).encode(), DESIGN: _encode(source)}
    files = {file.name: file.content.encode() for file in problem.files} | sources
    top = top_module(problem.tests, problem.entry_point)
    compiling = [icarus.compiler, *_FLAGS, "-s", top, "-o", _COMPILED, *sources]
    # -n ends a simulation that stops to ask; -none writes no waveforms, which the test benches dump.
    running = [icarus.simulator, "-n", _COMPILED, "-none"]
    results = sandbox.run_commands(files, [compiling, running], limits.with_files(_FILE_BYTES))
    spent = (sum(result.cpu_time_s for result in results), sum(result.wall_time_s for result in results))
    text = "".join(result.stderr.decode("utf-8", "replace") for result in results)
    messages = tuple(line.strip() for line in text.splitlines() if line.strip())
    ended = abnormal_end(results[-1], "compiler" if len(results) == 1 else "simulator")
    if ended is not None:
        return Simulation(*ended, *spent, messages=messages)
    output = results[-1].stdout.decode("utf-8", "replace")
    verdict = _counted if counts_mismatches(problem.tests) else _said
    return verdict(output, messages, marker, spent)._replace(messages=messages)


def compile_alone(problem: Problem, source: str, sandbox: Sandbox, limits: Limits, run: Simulation) -> Simulation:
    """Compile the design without the test bench, below an empty one; return the run with its verdict."""
    top = top_module(problem.tests, problem.entry_point)
    files = {_ALONE: stand_in(problem.tests, problem.entry_point).encode(), DESIGN: _encode(source)}
    command = [installed_icarus().compiler, "-g2012", "-t", "null", "-s", top, *files]
    (result,) = sandbox.run_commands(files, [command], limits.with_files(_FILE_BYTES))
    run = run._replace(cpu_time_s=run.cpu_time_s + result.cpu_time_s, wall_time_s=run.wall_time_s + result.wall_time_s)
    ended = abnormal_end(result, "compiler")
    if ended is None:
        return run
    if ended[0] == "syntax_error":
        ended = ("cheating_refused", "the design does not compile without the test bench")
    return run._replace(status=ended[0], message=ended[1])


def expand(source: str, sandbox: Sandbox, limits: Limits) -> tuple[str, Simulation]:
    """Return the design with its macros expanded, and how the preprocessor ended."""
    command = [installed_icarus().compiler, "-g2012", "-E", "-o", "-", DESIGN]
    (result,) = sandbox.run_commands({DESIGN: _encode(source)}, [command], limits.with_files(_FILE_BYTES))
    ended = abnormal_end(result, "compiler") or ("passed", "")
    if ended[0] == "passed" and len(result.stdout) >= _EXPANDED_BYTES:  # the rest was dropped, and would go unchecked
        ended = ("memory", "its macros expand to more than 1 MiB")
    return result.stdout.decode("utf-8", "replace"), Simulation(*ended, result.cpu_time_s, result.wall_time_s)


def misfit(run: Simulation) -> str:
    """Return the first error where all are in the test bench, which compiles with its reference; "" otherwise."""
    errors = [line for line in run.messages if ": error: " in line]
    is_misfit = run.status == "syntax_error" and all(line.startswith(TEST_BENCH) for line in errors)
    return errors[0] if errors and is_misfit else ""


def _counted(output: str, messages: tuple[str, ...], marker: str, spent: tuple[float, float]) -> Simulation:
    """Read the run of a test bench that counts mismatches."""
    counts = re.findall(rf"(?m)^{marker} Mismatches: (\d+) in (\d+) samples$", output)
    traces = re.findall(rf"(?m)^{marker} trace ([0-9a-f]+)$", output)
    if len(counts) != 1 or len(traces) > 1:  # a test bench of a user's own may have no trace
        return Simulation("failed", "the test bench did not come to its end", *spent)
    wrong, checked = map(int, counts[0])
    if not checked:
        return Simulation("failed", "the run ended before an output was sampled", *spent, checked)
    if wrong:
        return Simulation("failed", f"wrong at the sampled output {checked}", *spent, checked)
    return Simulation("passed", f"{checked} sampled outputs are right", *spent, checked, "".join(traces))


def _said(output: str, messages: tuple[str, ...], marker: str, spent: tuple[float, float]) -> Simulation:
    """Read the run of any other test bench."""
    lines = result_lines(output, messages, marker, TEST_BENCH)
    if not lines:
        return Simulation("failed", "the test bench printed no result and did not end itself", *spent, 0)
    message = "the test bench says what it says of the reference"
    return Simulation("passed", message, *spent, len(lines), "\n".join(lines))


def _encode(source: str) -> bytes:
    return source.encode("utf-8", "replace")
