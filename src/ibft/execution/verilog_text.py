"""The text of designs: what no honest design says. Pure.

`languages/verilog.py` says what these rules are for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ibft.execution.verilog_benches import top_module
from ibft.execution.verilog_ports import instances
from ibft.text.answers.verilog_tokens import KEYWORDS, Token, tokenize

__all__ = ["allowed_systems", "find_cheat", "forbidden_names"]

# Functions of their arguments alone: they see nothing of the simulation and change nothing in it.
_PURE_FUNCTIONS = frozenset(
    "$" + name
    for name in (
        *("signed", "unsigned", "bits", "clog2", "countones", "onehot", "onehot0", "isunknown", "high", "low"),
        *("left", "right", "size", "increment", "dimensions", "unpacked_dimensions"),
    )
)
_DEFINING_WORDS = frozenset({"module", "macromodule", "primitive", "interface", "program", "package", "class"})
_GATES = frozenset({"and", "or", "not", "nand", "nor", "xor", "xnor", "buf"})
_BEFORE_STATEMENT = frozenset(
    ("", ";", ")", ":", "begin", "end", "else", "fork", "join", "forever", "do", "initial", "final", "always")
)
_LONGEST_INDEX = 200  # in tokens, so that the time stays linear in a design's length
_REFUSED_KEYWORDS = frozenset({"force", "release", "bind"})


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
    top, tokens = top_module(tests, entry_point), list(tokenize(tests))
    modules: set[str] = set()
    around: set[str] = set()
    start = None
    for before, first, second in zip(tokens[-1:] + tokens, tokens, tokens[1:] + tokens[-1:], strict=False):
        if first.value in ("module", "macromodule"):
            modules.add(second.value)
            start = first.start if second.value == top else None
        elif start is not None and first.value == "endmodule":
            around.update(known.name for known in instances(tests[start : first.start]))
        elif start is not None and _opens_scope(before, first) and second.kind in ("name", "escaped"):
            around.add(second.value)
    return frozenset(modules - {entry_point} | around)


def _opens_scope(before: Token, token: Token) -> bool:
    """Decide whether the next token names a task, a function or a block."""
    return token.value in ("task", "function") or (token.value == ":" and before.value in ("begin", "fork"))


@functools.lru_cache(maxsize=1024)
def allowed_systems(canonical_solution: str) -> frozenset[str]:
    """Return the system functions and tasks that a design may use: pure functions and those that the reference uses."""
    return _PURE_FUNCTIONS | {token.value for token in tokenize(canonical_solution) if token.kind == "system"}
