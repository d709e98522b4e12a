"""The text of designs and test benches: what no honest design says, and what a test bench must report. Pure.

`languages/verilog.py` says what these rules are for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ibft.text.answers.verilog_tokens import KEYWORDS, Token, tokenize

__all__ = ["TEST_BENCH_MODULE", "allowed_systems", "find_cheat", "forbidden_names", "instrument", "stand_in"]

TEST_BENCH_MODULE = "tb"

# Functions of their arguments alone: they see nothing of the simulation and change nothing in it.
_PURE_FUNCTIONS = frozenset(
    "$" + name
    for name in (
        *("signed", "unsigned", "bits", "clog2", "countones", "onehot", "onehot0", "isunknown", "high", "low"),
        *("left", "right", "size", "increment", "dimensions", "unpacked_dimensions"),
    )
)
_STATEMENT_WORDS = frozenset({"if", "for", "foreach", "case", "casex", "casez", "repeat", "while", "wait"})
_DEFINING_WORDS = frozenset({"module", "macromodule", "primitive", "interface", "program", "package", "class"})
_GATES = frozenset({"and", "or", "not", "nand", "nor", "xor", "xnor", "buf"})
_BEFORE_STATEMENT = frozenset(
    ("", ";", ")", ":", "begin", "end", "else", "fork", "join", "forever", "do", "initial", "final", "always")
)
_LONGEST_INDEX = 200  # in tokens, so that the time stays linear in a design's length
_REFUSED_KEYWORDS = frozenset({"force", "release", "bind"})
_SAMPLING = re.compile(r"always @\(posedge clk, negedge clk\) begin\s+stats1\.clocks\+\+;")
_ERROR = "stats1.errors++;"
_REFERENCE_OUTPUTS = re.compile(r"assign\s+tb_match\s*=\s*\(\s*\{([^{}]*)\}\s*===")


def find_cheat(source: str, allowed_systems: frozenset[str], forbidden_names: frozenset[str]) -> str:
    """Return what in a design's text no honest design needs, as the end of a sentence; "" where there is nothing.

    A name of the test bench is innocent where it can only be the design's own: a wire, a port, an instance.

    Args:
        source: the design, with or without its macros expanded.
        allowed_systems: system functions and tasks that it may use, such as `$signed`.
        forbidden_names: identifiers of the test bench.
    """
    if '"""' in source:
        return "has a string in triple quotes, which versions of Icarus read differently"
    tokens = list(tokenize(source))
    before = ""
    for number, token in enumerate(tokens):
        if token.kind == "system" and token.value not in allowed_systems and token.value != "$":
            return f"uses {token.value}"
        # Two backquotes paste two names into one, which no rule here would see.
        if token.kind == "directive" and (token.value == "`include" or "``" in token.value):
            return f"uses {token.value}"
        if token.kind == "name" and token.value in _REFUSED_KEYWORDS:
            return f"uses {token.value}"
        if token.kind in ("name", "escaped") and token.value in forbidden_names and _reaches_out(tokens, number):
            return f"uses {token.value}, a name of the test bench"
        if token.kind == "string" and before in ("import", "export"):
            return f"uses {before} of foreign functions"
        if before == "$" and token.value not in ("]", ":", "[", ")", ","):
            return "builds the name of a system task"
        before = token.value
    return ""


def _reaches_out(tokens: Sequence[Token], number: int) -> bool:
    """Decide whether a name is where it is looked up outside of the module: in a path, a call, an instance's type."""
    # Variables, nets and ports are only looked up in the module itself (IEEE 1800-2017, 23.8 and 23.9).
    earlier, before = (["", "", *(token.value for token in tokens[max(0, number - 2) : number])])[-2:]
    after = tokens[number + 1] if number + 1 < len(tokens) else tokens[number]._replace(kind="symbol", value="")
    if before in _DEFINING_WORDS or before == "disable" or _begins_path(tokens, number + 1):
        return True
    if before == ".":
        return earlier not in ("(", ",")  # `.port(net)` names a port, `a.b` is a path
    is_label = before == ":" and earlier in ("begin", "fork")
    if after.kind in ("name", "escaped"):
        return after.value not in KEYWORDS and not is_label
    if after.value == "(":
        is_instance = tokens[number - 1].kind in ("name", "escaped") and before not in KEYWORDS
        return number == 0 or not (before in _GATES or is_instance)
    if after.value == ";":
        return before in _BEFORE_STATEMENT or (number > 0 and tokens[number - 1].kind == "number" and not is_label)
    return after.value == "#"


def _begins_path(tokens: Sequence[Token], number: int) -> bool:
    """Decide whether `.` or `::` comes next, after an index in brackets if there is one."""
    depth = 0
    for place in range(number, min(number + _LONGEST_INDEX, len(tokens))):
        value = tokens[place].value
        depth += (value == "[") - (value == "]")
        if depth == 0 and value != "]":
            return value == "." or (value == ":" and [token.value for token in tokens[place + 1 : place + 2]] == [":"])
    return depth > 0


@functools.lru_cache(maxsize=1024)
def forbidden_names(tests: str, entry_point: str) -> frozenset[str]:
    """Return the modules of the test bench, and the names around the design with which a path could start."""
    tokens = [*tokenize(tests), *tokenize(";;")]
    modules: set[str] = set()
    around: set[str] = set()
    is_around = False
    for before, first, second, after in zip(tokens[-1:] + tokens, tokens, tokens[1:], tokens[2:], strict=False):
        if first.value in ("module", "macromodule"):
            modules.add(second.value)
            is_around = second.value == TEST_BENCH_MODULE
        elif is_around and _declares(before, first, second, after):
            around.add(second.value)
    return frozenset(modules - {entry_point} | around)


def _declares(before: Token, first: Token, second: Token, after: Token) -> bool:
    """Decide whether `second` names a task, a function, a block or an instance."""
    if first.value in ("task", "function") or (first.value == ":" and before.value in ("begin", "fork")):
        return second.kind in ("name", "escaped")
    is_instance = first.kind == "name" and second.kind in ("name", "escaped") and after.value == "("
    return is_instance and second.value not in _STATEMENT_WORDS


@functools.lru_cache(maxsize=1024)
def allowed_systems(canonical_solution: str) -> frozenset[str]:
    """Return the system functions and tasks that a design may use: pure functions and those that the reference uses."""
    return _PURE_FUNCTIONS | {token.value for token in tokenize(canonical_solution) if token.kind == "system"}


def stand_in(tests: str, entry_point: str) -> str:
    """Return a test bench with the names of `tests` on the way to the design, and nothing else in it."""
    # By these names a path or a `defparam` means the same in both, so that a design cannot tell which one it is in.
    instance = re.search(rf"\b{re.escape(entry_point)}\s+(\w+)\s*\(", tests)
    name = instance.group(1) if instance else "design"
    return f"module {TEST_BENCH_MODULE};\n{entry_point} {name} ();\nendmodule\n"


def instrument(tests: str, marker: str) -> str:
    """Return the test bench with its counts, and a hash of the reference's answers, printed behind `marker`.

    The hash is over every sampled value of the reference's outputs, in which an unknown bit differs from both 0 and 1;
    it is taken where the test bench counts a sample. Macros of the test bench are undefined at its end.
    """
    # The first wrong output ends the simulation, since it settles the verdict: 1,560 answers take 39 s, else 132 s.
    tests = tests.replace('"Mismatches: ', f'"{marker} Mismatches: ').replace(_ERROR, f"{_ERROR} $finish;")
    outputs = _REFERENCE_OUTPUTS.search(tests)
    sampling = _SAMPLING.search(tests)
    if outputs and sampling:
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
        tests = tests[: sampling.start()] + instrumented + tests[sampling.end() :]
    # So that no directive of the design, which follows, can ask for them and know that the test bench is there.
    macros = dict.fromkeys(re.findall(r"(?m)^\s*`define\s+(\w+)", tests))
    return tests + "\n" + "".join(f"`undef {name}\n" for name in macros)
