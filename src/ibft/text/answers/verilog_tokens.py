"""The lexical elements of Verilog, for the extractor and for the judge's rules on a design's text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["KEYWORDS", "Token", "clean", "tokenize", "without_comments"]


class Token(NamedTuple):
    """One lexical element: `text[start:end]`, of which `value` leaves out the backslash of an escaped identifier.

    `is_first` says that nothing but white space and comments stands before it on its line.
    """

    kind: Literal["string", "directive", "system", "name", "escaped", "number", "symbol"]
    value: str
    start: int
    end: int
    is_first: bool


# ASCII only, as for the compiler: no other letter extends a name. Numbers are cut short on purpose: `1force` is the
# number 1 and a keyword. A comment marker inside a string begins no comment.
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
# They become spaces, so that a comment ends here exactly where it ends for the compiler.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\xa0\u200b\u2028\u2029\ufeff]")
_KEYWORD_TEXT = """
    always always_comb always_ff always_latch and assign automatic begin bit buf byte case casex casez const default
    defparam disable do edge else end endcase endfunction endgenerate endmodule endpackage endprimitive endtask enum
    export for force forever fork function generate genvar if iff import initial inout input inside int integer
    interface join localparam logic longint macromodule module nand negedge nor not or output package packed parameter
    posedge primitive property real reg release repeat return shortint signed static string struct supply0 supply1
    table task time timescale tri typedef union unique unsigned var void wait while wire wor xnor xor
"""
KEYWORDS = frozenset(_KEYWORD_TEXT.split())


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


def without_comments(text: str) -> str:
    """Return the text with blanks in the place of comments, line breaks kept."""
    return _TOKEN.sub(
        lambda match: re.sub(r"[^\n]", " ", match.group()) if match.lastgroup == "comment" else match.group(), text
    )
