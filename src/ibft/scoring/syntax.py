"""Which tokens of a response are forced by syntax, so that scores can be taken without them.

What the grammar demands is predictable to any model that knows the language, so it raises every memorization score
without saying anything of this text (SynPrune, arXiv 2511.07033). Forced is here what must come sooner or later because
of what stands before it, in the one form that the grammar allows:

- everywhere: closing brackets, and the quotes that end a string;
- in Python: the colon of a compound statement's header and of a lambda; `in` after `for` and after `not`, `import`
  after `from`, the `else` of a conditional expression; the bracket after a function's name; the line break that ends a
  statement, and indentation that goes on with a block or enters one (where it leaves one, the author chose to);
- in other languages: semicolons; keywords that close a block (`end...`, `fi`, `done`, `esac`); line breaks and
  indentation as above, which also may lead to something that closes. In Verilog also the bracket after `if`, `case`
  and the like, and the colon that follows a `?`.

All else is free: names, literals, operators, commas and dots, keywords that an author chooses (`if`, `return`), blank
lines and alignment, comments, docstrings, prose, and the fences around code.

Differences from SynPrune (the paper counts 47 conventions of Python; the authors' code, `src/run.py` of
Yuen647/SYNPRUNE at 09093a9, is a list of words and symbols that it compares with model tokens): that list also prunes
commas, dots, every colon and nearly all keywords (`def`, `if`, `for`, `pass`, ...), which an author does choose; it
prunes them inside of strings, comments and names too, since it never looks where a token stands; it leaves quotes,
layout and the bracket after a function's name in; and it knows Python alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ibft.data.code import code_of, language_of, parse_python
from ibft.data.named_code import FENCED
from ibft.errors import UserError
from ibft.scoring.lexing import CLOSING, NO_CODE, Kind, Token, lexer_name, tokens

__all__ = ["forced_characters", "forced_tokens"]

_VERILOG_MODULE = re.compile(r"\bendmodule\b|^[ \t]*(?:macro)?module\s+\w+\s*[#(;]", re.MULTILINE)
_STATEMENT_END = re.compile(r";[ \t]*$", re.MULTILINE)
_PARAGRAPH = re.compile(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+")
_INDENTED = re.compile(r"^[ \t]+\S", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*(?:[-*+]|\d+[.)])[ \t]", re.MULTILINE)
_QUOTES = re.compile(r"[A-Za-z]*(\"\"\"|'''|[\"'`])")
_HEADERS = frozenset(
    ("def", "class", "if", "elif", "else", "for", "while", "with", "try", "except", "finally", "match", "case")
)
_BLOCK_ENDS = frozenset({"fi", "done", "esac"})
_VERILOG_CONDITIONS = frozenset({"if", "case", "casex", "casez", "for", "foreach", "while", "repeat"})


class _Piece(NamedTuple):
    """Code that stands at `start` of the text, with `num_before` characters of context in front of it."""

    code: str
    start: int
    num_before: int
    language: str


class _Rules(Protocol):
    is_open: bool
    """Whether line breaks mean nothing here."""

    def forced_end(self, kind: Kind, text: str, is_first: bool) -> int:
        """How many of the token's last characters are forced; called for each token in order."""


def forced_tokens(
    text: str, offsets: Sequence[tuple[int, int]], language: str | None = None, context: str = ""
) -> list[bool]:
    """Whether each model token of the text is forced: whether all of its characters that are no white space are.

    A token of white space alone is forced where all of it is: where it ends a statement or continues or enters a block
    (the module's docstring says when). A token that mixes forced and free characters, or is empty, is free.

    Args:
        text: a response.
        offsets: the first character of each model token in `text`, and the one behind its last.
        language: as for `forced_characters`.
        context: as for `forced_characters`.

    Raises:
        UserError: as `forced_characters` does.
    """
    forced = forced_characters(text, language, context)
    return [_is_forced(text[start:end], forced[start:end]) for start, end in offsets]


def _is_forced(text: str, forced: bytearray) -> bool:
    if 1 not in forced:
        return False
    return 0 not in forced or (
        not text.isspace() and all(mark or character.isspace() for mark, character in zip(forced, text, strict=True))
    )


def forced_characters(text: str, language: str | None = None, context: str = "") -> bytearray:
    """1 for each character of the text that syntax forces, else 0; as long as the text.

    Fenced blocks are read in the language that their fence names. Without a fence, the whole is code if a language is
    given or found, else prose; where it is no valid Python, paragraphs that look like prose are left out.

    Args:
        text: a response: code, a continuation of code, or prose with fenced code.
        language: `python`, `verilog`, any name that Pygments knows, or `other` for none of them; None to tell Python
            and Verilog from the text.
        context: what stands before the text (the prompt), which it may continue. None of it is marked.

    Raises:
        UserError: Pygments is needed and missing (for all but Python that tokenizes), or does not know `language`.
    """
    forced = bytearray(len(text))
    for piece in _pieces(text, language, context):
        is_verilog = piece.language == "systemverilog"
        rules = _PythonRules() if piece.language == "python" else _OtherRules(is_verilog)
        marks = _marks(piece.code, tokens(piece.code, piece.language), rules)
        length = len(piece.code) - piece.num_before
        forced[piece.start : piece.start + length] = marks[piece.num_before :]
    return forced


def _pieces(text: str, language: str | None, context: str) -> Iterator[_Piece]:
    if language is not None and language not in NO_CODE and lexer_name(language) is None:
        raise UserError(f"language {language!r}: not known. Give python, verilog, other, or a name that Pygments has.")
    fenced = list(FENCED.finditer(text))
    if fenced and parse_python(text) is not None:
        fenced = []  # those of a docstring
    for match in fenced:
        info = re.match(r"[\w+#.-]*", text[match.end(1) : match.start(2)].strip().lstrip("{.").lower())
        given = (info.group() if info else "") or language or _guess(match.group(2), "")
        name = lexer_name(given)
        if name is not None:
            yield _Piece(match.group(2), match.start(2), 0, name)
    name = None if fenced else lexer_name(language or _guess(text, context))
    if name == "python":
        yield from _python_pieces(text, context)
    elif name is not None:
        yield _Piece(text, 0, 0, name)


def _guess(text: str, context: str) -> str:
    if _VERILOG_MODULE.search(text) or (_VERILOG_MODULE.search(context) and _STATEMENT_END.search(text)):
        return "verilog"
    is_python = (context and language_of(context) == "python") or language_of(text) == "python"
    return "python" if is_python else "other"


def _python_pieces(text: str, context: str) -> Iterator[_Piece]:
    both = code_of(context, text)[0]
    if len(both) > len(text):
        yield _Piece(both, 0, len(both) - len(text), "python")
        return
    if parse_python(text) is not None:
        yield _Piece(text, 0, 0, "python")
        return
    # It may be cut off, a fragment, or stand between sentences: sentences are what neither parses nor is indented.
    start = end = 0
    for match in _PARAGRAPH.finditer(text):
        paragraph = match.group()
        is_fragment = _INDENTED.search(paragraph) is not None and not _BULLET.search(paragraph)
        if is_fragment or parse_python(paragraph) is not None:
            start, end = (start if end > start else match.start()), match.end()
        elif end > start:
            yield _Piece(text[start:end], start, 0, "python")
            start = end = match.end()
    if end > start:
        yield _Piece(text[start:end], start, 0, "python")


def _marks(code: str, found: Iterator[Token], rules: _Rules) -> bytearray:
    """Applies a language's rules to each token, and those of layout to the white space in front of it."""
    marks = bytearray(len(code))
    position = indentation = 0
    for kind, start, end in found:
        line_break = code.find("\n", position, start) if start > position else -1
        is_first = not position or (line_break >= 0 and not rules.is_open and "\\" not in code[position:line_break])
        count = rules.forced_end(kind, code[start:end], is_first)
        if count:
            marks[end - count : end] = b"\1" * count
        if is_first:
            column = start - code.rfind("\n", 0, start) - 1
            if line_break >= 0:
                marks[line_break] = 1
            if column >= indentation or count == end - start:
                marks[start - column : start] = b"\1" * column
            indentation = column
        position = end
    line_break = code.find("\n", position)
    if line_break >= 0 and not rules.is_open:
        marks[line_break] = 1
    return marks


class _PythonRules:
    """Follows brackets, `for`, `lambda` and the first word of a statement."""

    def __init__(self) -> None:
        self.is_open = False
        self._depth = 0
        self._for_depths: list[int] = []
        self._lambda_depths: list[int] = []
        self._statement = ""  # its first word, until its header has ended
        self._is_start = False
        self._before = self._before_that = ""

    def forced_end(self, kind: Kind, text: str, is_first: bool) -> int:
        if kind == "comment":
            return 0
        is_start = self._is_start or is_first
        if is_start:
            self._statement = text
            self._is_start = text == "async"
            self._for_depths.clear()
            self._lambda_depths.clear()
        count = 0
        if kind == "word":
            count = self._forced_word(text, is_start)
        elif kind == "symbol":
            count = self._forced_symbol(text)
        elif kind == "string":
            count = _closing_quotes(text)
        self._before_that, self._before = self._before, text
        return count

    def _forced_word(self, text: str, is_start: bool) -> int:
        if text == "for":
            self._for_depths.append(self._depth)
        elif text == "lambda":
            self._lambda_depths.append(self._depth)
        elif text == "in":
            return 2 if self._pop(self._for_depths) or self._before == "not" else 0
        elif text == "else":
            return 0 if is_start else 4
        elif text == "import":
            return 6 if self._statement == "from" else 0
        return 0

    def _forced_symbol(self, text: str) -> int:
        if text in ")]}":
            self._depth = max(self._depth - 1, 0)
            self.is_open = self._depth > 0
            return 1
        if text in "([{":
            self._depth += 1
            self.is_open = True
            return int(text == "(" and self._before_that == "def")
        if text == ":":
            if self._pop(self._lambda_depths):
                return 1
            if not self._depth and self._statement in _HEADERS:
                self._statement, self._is_start = "", True
                return 1
        elif text == ";":
            self._is_start = not self._depth
        return 0

    def _pop(self, depths: list[int]) -> bool:
        if not depths or depths[-1] != self._depth:
            return False
        depths.pop()
        return True


class _OtherRules:
    """What languages of the families of C, Pascal and shell have in common, and Verilog's own."""

    is_open = False

    def __init__(self, is_verilog: bool) -> None:
        self._is_verilog = is_verilog
        self._num_questions = 0
        self._before = ""

    def forced_end(self, kind: Kind, text: str, is_first: bool) -> int:
        before, self._before = self._before, text
        if kind == "string":
            return _closing_quotes(text)
        if kind == "comment":
            return 0
        if text in CLOSING:
            return 1
        if kind == "word" and (text in _BLOCK_ENDS or text.lower().startswith("end")):
            return len(text)
        return self._forced_in_verilog(text, before) if self._is_verilog else 0

    def _forced_in_verilog(self, text: str, before: str) -> int:
        if text == "`endif":
            return len(text)
        if text == "(":
            return int(before in _VERILOG_CONDITIONS)
        if text == "?":
            self._num_questions += 1
        elif text == ":" and self._num_questions:
            self._num_questions -= 1
            return 1
        return 0


def _closing_quotes(text: str) -> int:
    match = _QUOTES.match(text)
    if match is None:
        return int(text[-1] in "\"'`")  # the end of a string with code inside
    quotes = match.group(1)
    return len(quotes) if text.endswith(quotes) and len(text) >= match.end() + len(quotes) else 0
