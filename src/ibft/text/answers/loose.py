"""Python code amid prose that nothing marks off. Rule 5 of the package's docstring.

The text is cut at the lines that start a statement at the left margin. Each unit (that line and what belongs to it) is
code or prose for itself: prose does not parse, or parses only as a word or a label.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from ibft.text.answers.syntax import is_code, parse

__all__ = ["Found", "find_code", "indented_blocks", "looks_like_code"]

# Bounded repeats here and below: the search stays linear on hostile text.
_CODE_LINE = re.compile(
    r"""(?:async[ ]+)?(?:def|class)[ ]+\w+[ ]*[(:\[]
      | @\w | import[ ]+\w | from[ ]+[.\w]+[ ]+import\b
      | (?:if|for|while|with|try|match)\b.*:
      | (?:print|assert|raise|del)\b
      | [A-Za-z_][\w.]*(?:\[[^\]\n]{0,80}\]|[ ]?,[ ]?[A-Za-z_][\w.]*){0,9}  # targets
        [ ]?(?::[ \w\[\],.]{1,80})?[ ]?[-+*/%&|^@<>]{0,2}=(?!=)
      | [A-Za-z_][\w.]*\(""",
    re.VERBOSE,
)
_DEFINES = re.compile(r"(?:async[ ]+)?(?:def|class)[ ]+\w+[ ]*[(:\[]|@\w+")
_WORDS = re.compile(r"[A-Za-z]{2,20}[ ,]{1,3}[A-Za-z]{2}|[.:!?*`>][ \t]*$|^[-*>|<\d]")
_CONTINUES = re.compile(r"(?:elif|else|except|finally)\b.*:|[)\]}]")
_DEFINITION = re.compile(r"^(?P<indent>[ \t]+)(?:async[ ]+def|def|class)[ ]+(?P<name>\w+)", re.MULTILINE)
_TRIPLE = re.compile(r'"""|\'\'\'')
_OPENS = re.compile(r"\s*(?:async|def|class|if|elif|else|try|except|finally|for|while|with)\b.*:\s*(?:#.*)?$")
# More statements than that are not an answer, and reading them one by one would take seconds.
_MAX_UNITS = 3000


class Found(NamedTuple):
    """The code in a text: `num_prose` units were left out, `is_cut` says that the last unit is unfinished code.

    `is_broken` says that code which does not parse stands before other code: the whole was not meant as it is here.
    """

    code: str
    num_prose: int
    is_cut: bool
    is_broken: bool


def looks_like_code(line: str) -> bool:
    """Decide whether a line at the left margin starts a statement or a comment, or closes a bracket."""
    return _CODE_LINE.match(line) is not None or re.match(r"#(?!#)|[)\]}]|(?:pass|return)\b", line) is not None


def find_code(text: str) -> Found:
    """Leave out the prose of a text; what is left of it, put together, is one program."""
    kept: list[str] = []
    num_prose = 0
    is_cut = is_broken = False
    for number, unit in enumerate(_units(text)):
        if not unit.strip() or (number < _MAX_UNITS and _is_kept(unit)):
            kept.append(unit)
            is_broken = is_broken or (is_cut and unit.strip() != "")
        elif _DEFINES.match(unit) or not _WORDS.search(unit.partition("\n")[0]):
            is_broken, is_cut = is_broken or is_cut, True
        else:
            num_prose += 1
    return Found("".join(kept), num_prose, is_cut, is_broken)


def _is_kept(unit: str) -> bool:
    # A heading of Markdown is a comment to Python, too, and does no harm.
    if unit[0] == "#":
        return parse(unit) is not None
    return (unit[0] in "\"'" or _CODE_LINE.match(unit) is not None) and is_code(unit)


def indented_blocks(text: str, names: frozenset[str]) -> Iterator[str]:
    """Yield code that Markdown marks off by indentation alone, the last first: around definitions of `names`."""
    lines = text.split("\n")
    # Three at most: each is looked for from the start of the text, and a hostile one could have thousands.
    starts = [match for match in _DEFINITION.finditer(text) if match["name"] in names][-3:]
    for match in reversed(starts):
        margin = len(match["indent"])
        first = last = text.count("\n", 0, match.start())
        while first > 0 and _is_within(lines[first - 1], margin):
            first -= 1
        while last + 1 < len(lines) and _is_within(lines[last + 1], margin):
            last += 1
        if first and _OPENS.match(lines[first - 1]):
            continue  # a method or an inner function, not a block of Markdown's
        yield textwrap.dedent("\n".join(lines[first : last + 1])).strip("\n") + "\n"


def _is_within(line: str, margin: int) -> bool:
    return not line.strip() or len(line) - len(line.lstrip(" \t")) >= margin


def _units(text: str) -> Iterator[str]:
    """Cut a text before each line at the left margin that no string and no statement reaches over."""
    unit: list[str] = []
    quote = ""
    is_decorated = False
    for line in text.splitlines(keepends=True):
        starts = not quote and line[:1].strip() != "" and _CONTINUES.match(line) is None and not is_decorated
        if starts and unit:
            yield "".join(unit)
            unit = []
        if not quote:
            # A decorator belongs to the definition behind it, though both stand at the left margin.
            is_decorated = line.startswith("@") or (is_decorated and not line[:1].strip())
        unit.append(line)
        for match in _TRIPLE.finditer(line):
            quote = "" if match.group() == quote else quote or match.group()
    if unit:
        yield "".join(unit)
