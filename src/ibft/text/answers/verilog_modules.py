"""The modules and declarations in Verilog text, which may be prose in part. Pure, and linear in the text's length."""

from __future__ import annotations

import re
from typing import NamedTuple

from ibft.text.answers.verilog_tokens import Token, tokenize

__all__ = ["Declaration", "Module", "declarations", "defined_modules"]


class Module(NamedTuple):
    """A module at the outermost level: `text[start:end]`, up to the text's end where nothing closes it.

    `names` is every identifier and macro inside: a superset of what it needs from elsewhere.
    """

    name: str
    start: int
    end: int
    is_closed: bool
    names: frozenset[str]


class Declaration(NamedTuple):
    """Text between modules: a directive, package, type, function. `name` is what it gives a meaning, if any."""

    text: str
    name: str


_MODULE_WORDS = frozenset({"module", "macromodule"})
_PAIRED_WORDS = frozenset({"package", "primitive", "interface", "class", "function", "task"})
_SIMPLE_WORDS = frozenset({"typedef", "localparam", "parameter", "import"})
_DIRECTIVE = re.compile(
    r"`(?:define|undef|undefineall|ifdef|ifndef|elsif|else|endif|timescale|default_nettype|resetall|include|line|pragma"
    r"|celldefine|endcelldefine|begin_keywords|end_keywords|unconnected_drive|nounconnected_drive)"
)
_REST_OF_DIRECTIVE = re.compile(r"(?:\\\n|[^\n])*")


def defined_modules(text: str) -> tuple[list[Module], int | None]:
    """Return the modules at the outermost level, and where the first `endmodule` ends that closes none of them."""
    tokens = list(tokenize(text))
    modules: list[Module] = []
    opened: list[int] = []  # indexes of the `module` tokens that are open
    body_end: int | None = None
    for i, token in enumerate(tokens):
        if token.kind != "name":
            continue
        if token.value in _MODULE_WORDS and _module_name(tokens, i, is_nested=bool(opened)):
            opened.append(i)
        elif token.value == "endmodule":
            if not opened:
                body_end = token.end if body_end is None else body_end
            elif len(opened) == 1:
                modules.append(_module(text, tokens[opened.pop() : i + 1], is_closed=True))
            else:
                opened.pop()
    if opened:
        modules.append(_module(text, tokens[opened[0] :], is_closed=False))
    return modules, body_end


def _module(text: str, tokens: list[Token], *, is_closed: bool) -> Module:
    names = frozenset(token.value.lstrip("`") for token in tokens if token.kind in ("name", "escaped", "directive"))
    end = tokens[-1].end if is_closed else len(text)
    return Module(_module_name(tokens, 0, is_nested=True), tokens[0].start, end, is_closed, names)


def _module_name(tokens: list[Token], i: int, *, is_nested: bool) -> str:
    """Return the name defined by the `module` at token `i`; empty where the word stands in a sentence."""
    if not (is_nested or tokens[i].is_first or tokens[i - 1].value in ("endmodule", ")", ";")):
        return ""
    after = [token for token in tokens[i + 1 : i + 4] if token.value not in ("automatic", "static")]
    if len(after) < 2 or after[0].kind not in ("name", "escaped") or after[1].value not in ("(", ";", "#", "import"):
        return ""
    return after[0].value


def declarations(text: str) -> list[Declaration]:
    """Return the directives and closed declarations in the text between two modules."""
    tokens = list(tokenize(text))
    closed: list[Declaration] = []
    never_closed: set[str] = set()  # a second search for the same end would find nothing either
    i = 0
    while i < len(tokens):
        token = tokens[i]
        i += 1
        if not token.is_first or token.value in never_closed:
            continue
        if _DIRECTIVE.fullmatch(token.value):
            line = _REST_OF_DIRECTIVE.match(text, token.start)
            end = line.end() if line else token.end
        elif token.value in _PAIRED_WORDS or token.value in _SIMPLE_WORDS:
            closing = ";" if token.value in _SIMPLE_WORDS else "end" + token.value
            end = _end_of(tokens, i, closing)
        else:
            continue
        if end < 0:
            never_closed.add(token.value)
            continue
        first = i
        while i < len(tokens) and tokens[i].start < end:
            i += 1
        closed.append(Declaration(text[token.start : end] + "\n", _declared(token.value, tokens[first:i])))
    return closed


def _declared(word: str, tokens: list[Token]) -> str:
    """Return the name that a declaration declares, given its first word and the tokens behind it."""
    if word in ("`define", "import"):
        return next((token.value for token in tokens if token.kind == "name"), "")
    ends = {"typedef": (";",), "localparam": ("=",), "parameter": ("=",)}.get(word, (";", "("))
    if word.startswith("`"):
        return ""
    depth, name = 0, ""
    for token in tokens:
        depth += (token.value in ("{", "[")) - (token.value in ("}", "]"))
        if depth == 0 and token.value in ends:
            break
        if depth == 0 and token.kind in ("name", "escaped"):
            name = token.value
    return name


def _end_of(tokens: list[Token], i: int, closing: str) -> int:
    """Return where the first `closing` outside braces ends, -1 where there is none."""
    depth = 0
    for j in range(i, len(tokens)):
        token = tokens[j]
        depth += (token.value == "{") - (token.value == "}")
        if token.value == closing and depth <= 0:
            return token.end
    return -1
