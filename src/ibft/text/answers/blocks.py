"""The blocks of code in a chat answer, and the text around them. Rule 4 of the package's docstring.

Fences are read as models write them, which is more than CommonMark knows: code on the fence's own line, a fence that
opens behind words, one that closes behind code, one that never closes. A closing fence inside a docstring closes
nothing, which is found by what parses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["OTHER_LANGUAGES", "PYTHON", "VERILOG", "Block", "Split", "has_fence", "split_blocks"]

PYTHON = frozenset({"python", "py", "python3", "python2", "py3", "pycon", "ipython", "ipython3", "sage", "gyp"})
VERILOG = frozenset({"verilog", "systemverilog", "sv", "v", "vlog", "systemverilog2012"})
_OTHER_WORDS = """
    bash sh shell zsh fish console terminal shell-session powershell ps1 cmd bat dos text txt plain plaintext output
    out log json jsonl json5 yaml yml toml ini cfg conf xml html css scss csv tsv sql diff patch markdown md mdx rst
    latex tex math mermaid dot graphviz makefile make dockerfile docker javascript js jsx typescript ts tsx java kotlin
    scala groovy c cpp c++ cc h hpp csharp cs c# go golang rust rs ruby rb php perl pl r julia jl matlab octave swift
    dart lua haskell hs ocaml ml fsharp f# clojure lisp scheme elixir erlang vhdl vhd tcl none result results error
    traceback doctest pseudocode pseudo ascii
"""
OTHER_LANGUAGES = frozenset(_OTHER_WORDS.split())
_KNOWN = PYTHON | VERILOG | OTHER_LANGUAGES


class Block(NamedTuple):
    """One block: the first word of its info string in lower case, its lines, and whether anything closed it."""

    language: str
    code: str
    is_closed: bool


class Split(NamedTuple):
    """A text's blocks, and everything else, a line break where a block stood.

    The blocks are in their order, except for one that the prompt had opened, which is the last.
    """

    blocks: list[Block]
    loose: str
    is_continued: bool  # the last block is one that the prompt had opened


_RUN = re.compile(r"`{3,}|~{3,}")
_FENCE = re.compile(r"```|^[ \t]*~~~", re.MULTILINE)
_PREFIX = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?")
_INFO = re.compile(r"[ \t]*\{?[.#]?(?P<language>[A-Za-z][\w+#-]*(?=[\s:,}]|$))?")
# The code may begin on the fence's own line: "```python def root_sum(xs): ...".
_STARTS_CODE = re.compile(
    r"[ \t]*(?:(?:def|class|async|import|from|return|@\w+|module|assign|always|`\w+|lambda|if|for|while)\b|\w+ = )"
)
# Bounded repeats: the search stays linear on hostile text. Nothing but opening tags is the slowest that was found, with
# 1.2 s for 100,000 characters.
_TAG = re.compile(
    r"(?:<pre>\s{0,9})?<(?P<name>code|pre|python|verilog)(?:\s[^<>\n]{0,80})?>|\[(?P<word>PYTHON|CODE)\]"
    r"|\\begin\{(?P<latex>code|verbatim|lstlisting|minted)\}(?:\{\w{1,20}\}|\[[^\]\n]{0,80}\])?",
    re.IGNORECASE,
)
# Some models put such tags around the whole answer, fence and all.
_ANSWER_TAG = re.compile(r"^[ \t]*</?(?:answer|solution|response|final|final_answer|output)>", re.IGNORECASE)
_MARKDOWN = frozenset({"markdown", "md", "mdx", "rst"})
_MAX_RETRIES = 8  # each reads the rest of the text again: without a limit the time would grow with its square
_MAX_DEPTH = 2  # hostile text could put fences of Markdown into one another without end
_STRING = re.compile(r"#[^\n]*|\"\"\"|'''|\\.|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def has_fence(text: str) -> bool:
    """Decide whether a text has a fence of code anywhere: backticks behind words count, tildes begin a line."""
    return _FENCE.search(text) is not None


def split_blocks(text: str, is_answer: Callable[[str], bool], parses: Callable[[str], bool] | None = None) -> Split:
    """Find the blocks of a text, in time that grows with its length alone.

    Args:
        text: an answer without reasoning and control tokens.
        is_answer: decides whether what stands before a first bare fence is the code of a block that the prompt opened.
        parses: decides whether code is whole, for languages whose strings can hold fences; None for others.
    """
    return _Scanner(text, is_answer, parses).scan()


class _Open(NamedTuple):
    """A block that is being read."""

    close: str  # the run of backticks or tildes, or the closing tag, that ends it
    language: str
    indent: int
    quote: str  # the marks of a block quote around it
    line: int  # where it opened


class _Scanner:
    """The lines of a text, read once; up to `_MAX_RETRIES` times again from a fence that was taken for a string's."""

    def __init__(
        self, text: str, is_answer: Callable[[str], bool], parses: Callable[[str], bool] | None, depth: int = 0
    ) -> None:
        self.lines = text.split("\n")
        self.is_answer, self.parses = is_answer, parses
        self.is_first, self.depth = True, depth
        self.blocks: list[Block] = []
        self.continued: list[Block] = []
        self.loose: list[str] = []
        self.retries = _MAX_RETRIES if parses else 0
        self.opened: _Open | None = None
        self.code: list[str] = []
        self.string = ""  # the triple quote that is open in the block
        self.doubted: tuple[int, list[str]] | None = None  # the first closing fence that a string held, the code so far

    def scan(self) -> Split:
        number = 0
        while number < len(self.lines) or self.opened:
            if number == len(self.lines):
                number = self._close(number, is_closed=False)
            elif self.opened is None:
                self._outside(number)
                number += 1
            elif self.opened.close.startswith(("`", "~")):
                number = self._in_fence(number, self.opened)
            else:
                number = self._in_tag(number, self.opened)
        # A block that the prompt had opened is last: it continues the prompt, as whatever comes after its end does not.
        return Split([*self.blocks, *self.continued], "\n".join(self.loose), bool(self.continued))

    def _outside(self, number: int) -> None:
        line = _ANSWER_TAG.sub("", self.lines[number])
        run = _RUN.search(line)
        tag = _TAG.search(line)
        # Before a quotation mark a tag is a string of the code, not markup.
        if tag and not (run and run.start() < tag.start()) and line[tag.end() : tag.end() + 1] not in ('"', "'", "`"):
            name = (tag["name"] or tag["word"] or tag["latex"]).lower()
            closing = f"[/{name}]" if tag["word"] else f"</{name}>" if tag["name"] else f"\\end{{{name}}}"
            language = name if name in _KNOWN else ""
            self._open(number, line[: tag.start()], closing, language, line[tag.end() :])
        # Within a line tildes are Python's (`x = ~~~1`), and only backticks open a block.
        elif run and (not line[: run.start()].strip() or run.group()[0] == "`"):
            self._open_fence(number, line, run)
        else:
            self.loose.append(line)

    def _open_fence(self, number: int, line: str, run: re.Match[str]) -> None:
        before, after = line[: run.start()], line[run.end() :]
        info = _INFO.match(after)
        word = (info["language"] or "") if info else ""
        rest = after[info.end() :] if info and word else after
        is_attribute = bool(word) and run.group() not in rest and not _STARTS_CODE.match(rest)  # a title, a file name
        if word.lower() not in _KNOWN and rest.strip() and (not is_attribute or _STARTS_CODE.match(after)):
            word, rest, is_attribute = "", after, False
        # The prompt may have opened a block, which the first bare fence then closes.
        is_first, self.is_first = self.is_first, False
        if is_first and not after.strip() and not before.strip() and self.is_answer(code := "\n".join(self.loose)):
            self.continued = [Block("", code + "\n", True)]
            self.loose = [""]
        else:
            self._open(number, before, run.group(), word.lower(), "" if is_attribute else rest)

    def _open(self, number: int, before: str, close: str, language: str, rest: str) -> None:
        prefix = _PREFIX.match(before)
        is_prose = prefix is None or prefix.end() < len(before)
        if is_prose:
            self.loose.append(before)
        quote = "" if is_prose or ">" not in before else ">"
        indent = 0 if is_prose or quote else len(before.expandtabs(4))
        self.opened = _Open(close, language, indent, quote, number)
        self.code, self.string, self.doubted = [], "", None
        if rest.strip():
            at = rest.find(close) if close.startswith(("`", "~")) else rest.lower().find(close)
            if at >= 0:
                self.code.append(rest[:at])
                self._finish(is_closed=True)
                self.loose.append(rest[at + len(close) :])
            else:
                self._add(rest)

    def _in_fence(self, number: int, block: _Open) -> int:
        """Read a line inside a fence; return the number of the line to read next."""
        line = self._inner(self.lines[number], block)
        if line is None:
            return self._close(number, is_closed=True)
        run = next((run for run in _RUN.finditer(line) if run.group().startswith(block.close)), None)
        if run is None or (block.close[0] == "~" and line[: run.start()].strip()):
            self._add(line)
            return number + 1
        before, after = line[: run.start()], line[run.end() :]
        if self.string or (before.strip() and _is_quoted(before, after)):
            # That a string is open here is a guess. If the block does not parse in the end, it ended at this fence.
            if self.doubted is None and not before.strip():
                self.doubted = (number, list(self.code))
            self._add(line)
            return number + 1
        if before.strip():
            self.code.append(before)
        # A language behind the fence: it opens the next block, and the fence that closes this one was forgotten.
        if not before.strip() and after.strip().lower() in _KNOWN and len(run.group()) == len(block.close):
            # Or the block is a page of Markdown around the next one, so far with words alone.
            if block.language in _MARKDOWN:
                self.code = []
            return self._close(number, is_closed=True)  # and the line is read again, as one that opens a block
        following = self._close(number + 1, is_closed=True)
        if following == number + 1 and after.strip():
            self.loose.append(after)
        return following

    def _in_tag(self, number: int, block: _Open) -> int:
        line = self.lines[number]
        if _RUN.match(line.lstrip()):  # the tag stood around a fence
            self.loose += self.code
            self.opened = None
            return number
        at = line.lower().find(block.close)
        if at < 0:
            self.code.append(line)
            return number + 1
        self.code.append(line[:at])
        self._finish(is_closed=True)
        self.loose.append(line[at + len(block.close) :])
        return number + 1

    def _inner(self, line: str, block: _Open) -> str | None:
        """Return the line without what stands left of the block, None where a block quote ends."""
        if block.quote:
            stripped = line.lstrip()
            if not stripped.startswith(">"):
                return None
            return stripped[1:].removeprefix(" ")
        blank = len(line) - len(line.lstrip(" \t"))
        return line[min(block.indent, blank) :]

    def _add(self, line: str) -> None:
        self.code.append(line)
        if self.parses:
            self.string = _open_string(line, self.string)

    def _close(self, following: int, *, is_closed: bool) -> int:
        """End the block; return the line to read next: an earlier one where a docstring's fence closed it after all."""
        assert self.opened is not None
        if self.doubted and self.retries and self.parses and not self.parses("\n".join(self.code)):
            number, self.code = self.doubted
            self.retries -= 1
            self._finish(is_closed=True)
            return number + 1
        self._finish(is_closed=is_closed)
        return following

    def _finish(self, *, is_closed: bool) -> None:
        assert self.opened is not None
        code = "\n".join(self.code)
        if self.opened.language in _MARKDOWN and _RUN.search(code) and self.depth < _MAX_DEPTH:
            inner = _Scanner(code, lambda _: False, self.parses, self.depth + 1).scan()
            self.blocks += inner.blocks
            self.loose.append(inner.loose)
        elif code.strip():
            self.blocks.append(Block(self.opened.language, code + "\n" if not code.endswith("\n") else code, is_closed))
        self.loose.append("")
        self.opened = None


def _open_string(line: str, quote: str) -> str:
    """Return the triple quote that is open behind a line, given the one that is open before it."""
    position = 0
    while position < len(line):
        if quote:
            end = line.find(quote, position)
            if end < 0:
                return quote
            position, quote = end + 3, ""
        match = _STRING.search(line, position)
        if match is None:
            break
        position = match.end()
        if match.group() in ('"""', "'''"):
            quote = match.group()
    return quote


def _is_quoted(before: str, after: str) -> bool:
    return any(mark in before and mark in after for mark in "\"'") or "#" in before
