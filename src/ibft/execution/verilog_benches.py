"""Verilog test benches: what is at their top, what a run of theirs must report, and the empty design under them. Pure.

A bench of VerilogEval's form counts and prints `Mismatches: N in M samples`. Any other bench decides by the lines in
which it speaks of a result ("Passed", "2 errors"), by `$error`, `$fatal` and failed assertions, and by the `$finish`
or `$stop` at which it ends: with a right design all of these are as with the reference (docs/verilog.md).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from ibft.execution.verilog_ports import closing, instances, value_at
from ibft.text.answers.verilog_modules import defined_modules
from ibft.text.answers.verilog_tokens import Token, tokenize

__all__ = ["counts_mismatches", "empty_design", "instrument", "result_lines", "says_failure", "stand_in", "top_module"]

_MARKER = "IBFT_MARKER"  # in the text that all samples of a problem share
_COUNTS = '"Mismatches: '
_PRINTING = frozenset(f"${name}{base}" for name in ("display", "write", "strobe", "monitor") for base in ("", *"bho"))
_ENDING = frozenset({"$finish", "$stop"})
_SAMPLING = re.compile(r"always @\(posedge clk, negedge clk\) begin\s+stats1\.clocks\+\+;")
_ERROR = "stats1.errors++;"
_REFERENCE_OUTPUTS = re.compile(r"assign\s+tb_match\s*=\s*\(\s*\{([^{}]*)\}\s*===")
_FAILURE_WORDS = (
    r"fail\w*|err(?:or)?s?|mismatch\w*|wrong|incorrect\w*|bad|unexpected|invalid|violat\w*|time(?:d |-)?out"
)
_RESULT = re.compile(
    rf"(?<![a-z])(?:{_FAILURE_WORDS}|pass\w*|success\w*|correct\w*|ok|good|match\w*|results?|expected|assert\w*)(?![a-z])",
    re.I,
)
_NO_FAILURE = re.compile(  # "0 / 100 failures", "no mismatches", "errors: 0"
    rf"\b(?:no|zero|without|0+)\b[^a-z1-9]*(?:\d+\s+)?(?:[a-z]+\s+)?(?:{_FAILURE_WORDS})\b"
    rf"|\b(?:{_FAILURE_WORDS})\b\s*(?:count\w*)?\s*[:=]*\s*0+\b",
    re.I,
)
_FAILURE = re.compile(rf"(?<![a-z])(?:{_FAILURE_WORDS})(?![a-z])", re.I)
_COLOR = re.compile(r"\x1b\[[\d;]*m")
_DIRECTIONS = frozenset({"input", "output", "inout"})
_PORT_WORDS = _DIRECTIONS | {"parameter", "localparam"}


class _Edit(NamedTuple):
    """A piece of text to put in the place of `text[start:end]`."""

    start: int
    end: int
    text: str


@functools.lru_cache(maxsize=1024)
def top_module(tests: str, entry_point: str) -> str:
    """Return the module at the top of a test bench: `tb`, or the one that nothing instantiates and that tests."""
    modules, _ = defined_modules(tests)
    if not modules or any(module.name == "tb" for module in modules):
        return "tb"
    used = {name for module in modules for name in module.names - {module.name}}
    tops = [module for module in modules if module.name not in used] or modules
    return next((module.name for module in tops if entry_point in module.names), tops[0].name)


def stand_in(tests: str, entry_point: str) -> str:
    """Return a test bench with the names of `tests` on the way to the design, and nothing else in it."""
    # By these names a path or a `defparam` means the same in both, so that a design cannot tell which one it is in.
    name = next((known.name for known in instances(tests) if known.module == entry_point), "design")
    return f"module {top_module(tests, entry_point)};\n{entry_point} {name} ();\nendmodule\n"


def empty_design(source: str, entry_point: str) -> str:
    """Return the design with nothing in its module but the declarations of ports: no output has a driver.

    It is "" where the module is not in the text as it stands, but comes out of a macro.
    """
    module = next((module for module in defined_modules(source)[0] if module.name == entry_point), None)
    if module is None:
        return ""
    tokens = [token for token in tokenize(source) if module.start <= token.start < module.end]
    place = next((number for number, token in enumerate(tokens) if token.value == ";"), len(tokens) - 1)
    kept = [source[: tokens[place].end]]
    if not any(token.value in _DIRECTIONS for token in tokens[:place]):  # the ports of Verilog 1995: declared inside
        for number, token in enumerate(tokens[place:], place):
            if token.value in _PORT_WORDS and tokens[number - 1].value in (";", "end", ")"):
                end = next((after.end for after in tokens[number:] if after.value == ";"), token.end)
                kept.append(source[token.start : end])
    return "\n".join(kept) + "\nendmodule\n" + source[module.end :]


def counts_mismatches(tests: str) -> bool:
    """Decide whether a test bench prints its verdict as VerilogEval's do."""
    return _COUNTS in tests


def instrument(tests: str, marker: str) -> str:
    """Return the test bench with whatever decides the verdict printed behind `marker`, and its macros undefined.

    It writes no waveforms, and so does not look up what it would have written: VerilogEval's benches name a wire there
    before they declare it, which Icarus 13 refuses.
    """
    return _instrumented(tests).replace(_MARKER, marker)


@functools.lru_cache(maxsize=256)
def _instrumented(tests: str) -> str:
    tests = _edited(tests, _without_waveforms(list(tokenize(tests))))
    if counts_mismatches(tests):
        tests = _with_trace(tests, _MARKER)
    else:
        tests = _edited(tests, _with_marker(list(tokenize(tests)), _MARKER))
    # So that no directive of the design, which follows, can ask for them and know that the test bench is there.
    macros = dict.fromkeys(re.findall(r"(?m)^\s*`define\s+(\w+)", tests))
    return tests + "\n" + "".join(f"`undef {name}\n" for name in macros)


def result_lines(output: str, messages: Sequence[str], marker: str, file: str) -> list[str]:
    """Return what decides the verdict in the run of a bench that does not count mismatches.

    Args:
        output: what the simulator printed.
        messages: what the compiler printed. A design that drives its own input there disturbs the test bench.
        marker: of the instrumented test bench.
        file: the test bench's file, by which Icarus names the place of an `$error`.
    """
    reported = re.compile(rf"(?:ERROR|FATAL): {re.escape(file)}:\d+: .*")
    lines = [line.partition("warning: ")[2] for line in messages if line.endswith(" is coerced to inout.")]
    for line in output.splitlines():
        said = _COLOR.sub("", line.replace(marker, ""))
        if (marker in line and (_RESULT.search(said) or said.startswith(" ends "))) or reported.fullmatch(line):
            lines.append(said.strip())
    return lines


def says_failure(line: str) -> bool:
    """Decide whether a result line speaks of a failure: "2 errors", but not "0 errors"."""
    return bool(_FAILURE.search(_NO_FAILURE.sub("", line)))


def _with_trace(tests: str, marker: str) -> str:
    """Return VerilogEval's test bench with its counts, and a hash of the reference's answers, behind the marker.

    The hash is over every sampled value of the reference's outputs, in which an unknown bit differs from both 0 and 1;
    it is taken where the test bench counts a sample.
    """
    # The first wrong output ends the simulation, since it settles the verdict: 1,560 answers take 39 s, else 132 s.
    tests = tests.replace(_COUNTS, f'"{marker} Mismatches: ').replace(_ERROR, f"{_ERROR} $finish;")
    outputs = _REFERENCE_OUTPUTS.search(tests)
    sampling = _SAMPLING.search(tests)
    if not outputs or not sampling:
        return tests
    vector, value, known, trace = f"{{{outputs.group(1)}}}", f"value_{marker}", f"known_{marker}", f"trace_{marker}"
    width = f"bit [$bits({vector})"
    declarations = f"{width} - 1:0] {value}, {known};\n{width} + 63:0] {trace} = 0;\n"
    report = f'final $display("{marker} trace %h", {trace});\n'
    step = (
        f"\n{value} = {vector}; {known} = ~({vector} ^ {vector});"  # two-state: an unknown bit becomes 0
        # Knuth's multiplier (MMIX): the order of the samples counts, too.
        f"\n{trace} = ({trace} * 64'd6364136223846793005 + {value}) * 64'd6364136223846793005 + {known};"
    )
    begin = sampling.group().removesuffix("stats1.clocks++;")
    instrumented = f"{declarations}{report}{begin}{step}\nstats1.clocks++;"
    return tests[: sampling.start()] + instrumented + tests[sampling.end() :]


def _with_marker(tokens: Sequence[Token], marker: str) -> list[_Edit]:
    """Return the edits that print all that a test bench prints, and its own end, behind the marker."""
    edits, num_ends = [], 0
    for number, token in enumerate(tokens):
        if token.value in _PRINTING and value_at(tokens, number + 1) == "(":
            comma = "" if value_at(tokens, number + 2) == ")" else ", "
            edits.append(_Edit(tokens[number + 1].end, tokens[number + 1].end, f'"{marker}"{comma}'))
        elif token.value in _ENDING:
            last = closing(tokens, number + 1) if value_at(tokens, number + 1) == "(" else number
            if value_at(tokens, last + 1) == ";":
                num_ends += 1
                edits.append(_Edit(token.start, token.start, f'begin $display("{marker} ends {num_ends}"); '))
                edits.append(_Edit(tokens[last + 1].end, tokens[last + 1].end, " end"))
    return edits


def _without_waveforms(tokens: Sequence[Token]) -> list[_Edit]:
    edits = []
    for number, token in enumerate(tokens):
        if token.value == "$dumpvars":
            last = closing(tokens, number + 1) if value_at(tokens, number + 1) == "(" else number
            edits.append(_Edit(token.start, tokens[last].end, ""))
    return edits


def _edited(text: str, edits: Sequence[_Edit]) -> str:
    for edit in reversed(edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text
