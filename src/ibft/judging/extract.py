"""Which Verilog a completion answers with. Pure functions; docs/verilog.md lists the same rules with the same numbers.

1. **Clean.** Line ends become `\\n`; other control characters and odd spaces become spaces, so that a comment ends
   here exactly where it ends for the compiler.
2. **Fences.** A fence is a line that starts with three backticks. Code before the first fence is the answer (the
   prompt had opened that fence); otherwise the answer is what stands inside the fences, joined. Without a fence,
   or with only empty ones, it is the whole text.
3. **A body.** Where `endmodule` closes nothing the text opened, the text continues the prompt's module header:
   header, body and `endmodule`, and of what follows the helper modules (rule 5).
4. **A whole module.** Otherwise, where the text defines the entry point, that definition is the design.
5. **Helpers.** Beside the entry point stay only the modules it needs, directly or through others, and the
   declarations between modules (directives, packages, types, functions, primitives, interfaces, classes). Prose and
   test benches that the model added go; of two definitions of one module the first counts.
6. **A body without its end.** Otherwise text that has at least one statement continues the header. A missing
   `endmodule` is not added, neither here nor in rule 4: such text was cut short, and does not compile.
7. **Only other modules.** Modules without the entry point are kept as they are: the compiler will say what is missing.
8. **Not code.** Anything else, empty text and comments alone included, is no design (`None`).

Names, comments and strings are told apart by `tokenize`, so `endmodule` in a comment ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Design", "Rule", "Token", "clean", "extract_design", "tokenize"]

Rule = Literal["body", "whole_module", "unfinished_body", "other_modules"]


class Design(NamedTuple):
    """What to compile: `source` is Verilog text, `rule` says which rule found it."""

    source: str
    rule: Rule


class Token(NamedTuple):
    """One lexical element: `text[start:end]`, of which `value` leaves out the backslash of an escaped identifier.

    `is_first` says that nothing but white space and comments stands before it on its line.
    """

    kind: Literal["string", "directive", "system", "name", "escaped", "number", "symbol"]
    value: str
    start: int
    end: int
    is_first: bool


class _Module(NamedTuple):
    name: str
    start: int
    end: int
    is_closed: bool
    names: frozenset[str]  # every identifier inside: a superset of the modules it instantiates


# ASCII only, as for the compiler: no other letter extends a name. Numbers are cut short on purpose: `1force` is the
# number 1 and a keyword. A comment marker inside a string is none.
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>"(?:\\.|[^"\\\n])*"?)
      | (?P<escaped>\\[^\s]+)
      | (?P<directive>`[`\w$]*)
      | (?P<system>\$[\w$]*)
      | (?P<name>[A-Za-z_][\w$]*)
      | (?P<number>\d[\d_]*)
      | (?P<symbol>\S)""",
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_FENCE_LINE = re.compile(r"(?m)^[ \t]*```.*$")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\xa0\u200b\u2028\u2029\ufeff]")
# Bounded repeats: the search stays linear on hostile text.
_STATEMENT = re.compile(
    r"""(?mx)^[ \t]*(?:
        (?:assign|wire|reg|logic|integer|genvar|localparam|parameter|typedef|function|task|input|output)\b[^;]{0,2000};
      | (?:always(?:_ff|_comb|_latch)?|initial|generate)\s*(?:@|\bbegin\b|\#|\bif\b|\bfor\b|\w+\s*<?=)
      | (?:for|if|casex?|casez)\s*\([^;]{0,500};
      | [A-Za-z_]\w{0,99}\s{1,99}\w{1,99}\s{0,99}\([^;]{0,2000}\)\s{0,99};)"""
)
_MODULE_WORDS = frozenset({"module", "macromodule"})
_PAIRED_WORDS = frozenset({"package", "primitive", "interface", "class", "function", "task"})
_SIMPLE_WORDS = frozenset({"typedef", "localparam", "parameter", "import"})
_DIRECTIVE = re.compile(
    r"`(?:define|undef|undefineall|ifdef|ifndef|elsif|else|endif|timescale|default_nettype|resetall|include|line|pragma"
    r"|celldefine|endcelldefine|begin_keywords|end_keywords|unconnected_drive|nounconnected_drive)"
)
_REST_OF_DIRECTIVE = re.compile(r"(?:\\\n|[^\n])*")


def clean(text: str) -> str:
    """Normalize line ends and control characters (rule 1)."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def tokenize(text: str) -> Iterator[Token]:
    """Yield the tokens of Verilog text without white space and comments; never raises."""
    before = 0
    is_first = True
    for match in _TOKEN.finditer(text):
        kind, value = match.lastgroup, match.group()
        is_first = is_first or "\n" in text[before : match.start()]
        before = match.end()
        if kind == "comment":
            is_first = is_first or "\n" in value
            continue
        value = value[1:] if kind == "escaped" else value
        yield Token(kind, value, match.start(), match.end(), is_first)  # type: ignore[arg-type]
        is_first = False


def extract_design(completion: str, prompt: str, entry_point: str = "top_module") -> Design | None:
    """The design that a completion answers with, or None where it holds no code.

    Args:
        completion: a model's text: the continuation of `prompt`, or an answer of its own.
        prompt: may end with the header of the module to write; a body is put behind that header.
        entry_point: the name of the module to write.
    """
    text = _answer(clean(completion))
    modules, body_end = _modules(text)
    header = _header(clean(prompt), entry_point)
    own = next((module for module in modules if module.name == entry_point), None)
    if header and body_end and (own is None or body_end < own.start) and _is_body(text, body_end):
        return Design(_with_helpers(header + text[:body_end] + "\n", text, body_end, modules, entry_point), "body")
    if own is not None:
        return Design(_with_helpers("", text, 0, modules, entry_point), "whole_module")
    if modules:
        return Design(text[modules[0].start :], "other_modules")
    if header and _has_statement(text):
        return Design(f"{header}{text}\n", "unfinished_body")
    return None


def _answer(text: str) -> str:
    """Rule 2."""
    fences = list(_FENCE_LINE.finditer(text))
    if not fences or _has_statement(text[: fences[0].start()]):
        return text[: fences[0].start()] if fences else text
    ends = [fence.start() for fence in fences[1::2]]
    if len(fences) % 2:
        ends.append(len(text))
    inside = "".join(text[fence.end() : end] + "\n" for fence, end in zip(fences[::2], ends, strict=True))
    return inside if inside.strip() else _FENCE_LINE.sub("", text)


def _has_statement(text: str) -> bool:
    text = _TOKEN.sub(lambda match: " " if match.lastgroup == "comment" else match.group(), text)
    return bool(_STATEMENT.search(text[: text.rfind(";") + 1]))


def _is_body(text: str, end: int) -> bool:
    """Whether what `endmodule` closes is code, and not a sentence that mentions the word (rule 3)."""
    body = text[: end - len("endmodule")]
    return _has_statement(body) or next(tokenize(body), None) is None


def _header(prompt: str, entry_point: str) -> str | None:
    modules, _ = _modules(prompt)
    return next((prompt[m.start :] + "\n" for m in modules if m.name == entry_point and not m.is_closed), None)


def _modules(text: str) -> tuple[list[_Module], int | None]:
    """The module definitions at the outermost level, and where the first `endmodule` ends that closes none of them."""
    tokens = list(tokenize(text))
    modules: list[_Module] = []
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


def _module(text: str, tokens: list[Token], *, is_closed: bool) -> _Module:
    names = frozenset(token.value for token in tokens if token.kind in ("name", "escaped"))
    end = tokens[-1].end if is_closed else len(text)
    return _Module(_module_name(tokens, 0, is_nested=True), tokens[0].start, end, is_closed, names)


def _module_name(tokens: list[Token], i: int, *, is_nested: bool) -> str:
    """The name defined by the `module` at token `i`; empty where the word stands in a sentence."""
    if not (is_nested or tokens[i].is_first or tokens[i - 1].value in ("endmodule", ")", ";")):
        return ""
    after = [token for token in tokens[i + 1 : i + 4] if token.value not in ("automatic", "static")]
    if len(after) < 2 or after[0].kind not in ("name", "escaped") or after[1].value not in ("(", ";", "#", "import"):
        return ""
    return after[0].value


def _with_helpers(entry: str, text: str, start: int, modules: list[_Module], entry_point: str) -> str:
    """The design in the order of the text from `start` on: `entry`, and what rule 5 keeps beside it."""
    first: dict[str, _Module] = {}
    for module in modules:
        first.setdefault(module.name, module)
    needed = {entry_point}
    waiting = [token.value for token in tokenize(entry)] if entry else list(first[entry_point].names)
    while waiting:
        name = waiting.pop()
        if name in first and name not in needed:
            needed.add(name)
            waiting += first[name].names
    kept = [m for m in modules if m.name in needed and first[m.name] is m and not (entry and m.name == entry_point)]
    pieces = [entry]
    for module in modules:
        if module.start < start:
            continue
        pieces += _declarations(text[start : module.start])
        if module in kept:
            pieces.append(text[module.start : module.end] + "\n")
        start = module.end
    return "".join(pieces + _declarations(text[start:]))


def _declarations(text: str) -> list[str]:
    """The directives and closed declarations in the text between two modules."""
    tokens = list(tokenize(text))
    found: list[str] = []
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
        found.append(text[token.start : end] + "\n")
        while i < len(tokens) and tokens[i].start < end:
            i += 1
    return found


def _end_of(tokens: list[Token], i: int, closing: str) -> int:
    """Where the first `closing` outside braces ends, -1 where there is none."""
    depth = 0
    for j in range(i, len(tokens)):
        token = tokens[j]
        depth += (token.value == "{") - (token.value == "}")
        if token.value == closing and depth <= 0:
            return token.end
    return -1
