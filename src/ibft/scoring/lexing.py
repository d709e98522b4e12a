"""Code cut into tokens with their places: Python by `tokenize`, what it cannot read and all else by Pygments."""

from __future__ import annotations

import functools
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Any, Literal

from ibft.errors import UserError

__all__ = ["CLOSING", "NO_CODE", "Kind", "Token", "lexer_name", "tokens"]

Kind = Literal["word", "symbol", "string", "comment", "other"]
Token = tuple[Kind, int, int]  # kind, start, end; without white space

CLOSING = frozenset(")]};")
"""Symbols that close what was opened, or end a statement; each is a token of its own."""

_ALIASES = {"verilog": "systemverilog", "v": "systemverilog", "py": "python", "python3": "python"}
NO_CODE = frozenset({"other", "text", "plain", "plaintext", "output", "markdown", "md"})
"""Languages in which nothing is forced."""

# From Python 3.12 (3.14) on, an f-string (t-string) is several tokens; before, it is one. Here it is one.
_STRING_STARTS = {getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START")}
_STRING_ENDS = {getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END")}
_KINDS: dict[int, Kind] = {
    tokenize.NAME: "word",
    tokenize.OP: "symbol",
    tokenize.STRING: "string",
    tokenize.COMMENT: "comment",
    tokenize.NUMBER: "other",
    **dict.fromkeys(_STRING_STARTS | _STRING_ENDS, "string"),
}


def tokens(code: str, language: str) -> Iterator[Token]:
    """The tokens of code in a language that `lexer_name` gave, in order; none is white space.

    Strings are one token, also those with code inside; comments are tokens.
    """
    return _python_tokens(code) if language == "python" else _pygments_tokens(code, language)


def lexer_name(language: str) -> str | None:
    """The name under which code in the language is read; None where it is not.

    Raises:
        UserError: Pygments is needed (for all but Python) and not installed.
    """
    name = _ALIASES.get(language, language)
    if name in NO_CODE:
        return None
    return name if name == "python" or _lexer(name) is not None else None


def _python_tokens(code: str) -> Iterator[Token]:
    """The tokens of Python by `tokenize`; from the first that it cannot read on, by Pygments."""
    starts = [0, *(match.end() for match in re.finditer("\n", code))]
    position = string_start = num_strings = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.ERRORTOKEN:
                break
            kind = _KINDS.get(token.type)
            if kind is None:
                continue  # layout, which has places behind the end too
            start, end = starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]
            if token.type in _STRING_STARTS:
                string_start, num_strings = (string_start if num_strings else start), num_strings + 1
            elif token.type in _STRING_ENDS:
                start, num_strings = string_start, num_strings - 1
            if not num_strings:
                yield kind, start, end
                position = end
        else:
            return
    except (tokenize.TokenError, SyntaxError):
        pass
    if code[position:].strip():
        for kind, start, end in _pygments_tokens(code[position:], "python"):
            yield kind, position + start, position + end


def _pygments_tokens(code: str, language: str) -> Iterator[Token]:
    """The tokens by Pygments, strings in one piece where no code stands inside of them."""
    string_start = string_end = 0
    for start, token_type, text in _lexer(language).get_tokens_unprocessed(code):
        kind, end = _kind(token_type), start + len(text)
        if kind == "string" and string_end in (start, 0):
            string_start, string_end = (string_start if string_end else start), end
            continue
        if string_end:
            yield "string", string_start, string_end
            string_start, string_end = (start, end) if kind == "string" else (0, 0)
        if kind == "string" or text.isspace() or not text:
            continue
        if kind == "symbol" and not CLOSING.isdisjoint(text):
            yield from ((kind, at, at + 1) for at in range(start, end))
        else:
            yield kind, start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    if string_end:
        yield "string", string_start, string_end


@functools.cache
def _kind(token_type: Any) -> Kind:
    for name, kind in _PYGMENTS_KINDS.items():
        if name in str(token_type).split("."):
            return kind
    return "other"


_PYGMENTS_KINDS: dict[str, Kind] = {
    "Comment": "comment",
    "String": "string",
    "Keyword": "word",
    "Word": "word",  # an operator that is one
    "Operator": "symbol",
    "Punctuation": "symbol",
}


@functools.cache
def _lexer(name: str) -> Any:
    try:
        from pygments.lexers import ClassNotFound, get_lexer_by_name
    except ImportError:
        raise UserError(
            f"Which tokens syntax forces in {name} is found with Pygments, which is not installed. "
            "Install it with: pip install 'ibft[audit]'"
        ) from None
    try:
        return get_lexer_by_name(name)
    except ClassNotFound:
        return None
