"""The shape of C++ text: comments and literals, braces, includes, `main`. Enough to cut and join, not to parse."""

from __future__ import annotations

import re

__all__ = ["body_end", "defines", "head", "macros", "num_open_braces", "without_main"]

_SKIPPED = re.compile(
    r"""//[^\n]*
      | /\*.*?(?:\*/|\Z)
      | \bR"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"
      | "(?:\\.|[^"\\\n])*"?
      | (?<![\w'])'(?:\\.|[^'\\\n])*'?""",  # behind a digit the mark only separates: 1'000
    re.DOTALL | re.VERBOSE,
)
_BRACE = re.compile(r"[{}]")
_MAIN = re.compile(r"^[ \t]*(?:(?:static|signed|int|void|auto)[ \t]+)+main[ \t]*\([^{};]*\{", re.MULTILINE)
_HEAD = re.compile(r"^[ \t]*(?:#[ \t]*include\b.*|using[ \t]+namespace[ \t]+[\w:]+[ \t]*;)[ \t]*$", re.MULTILINE)
_MACRO = re.compile(r"define(?:\s|/\*.*?\*/)+([A-Za-z_]\w*)", re.DOTALL)


def _blanked(text: str) -> str:
    """Return text of the same length with spaces for comments and literals."""
    return _SKIPPED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def num_open_braces(text: str) -> int:
    """Return how many braces are open at the end of a text; negative where it closes more than it opens."""
    blanked = _blanked(text)
    return blanked.count("{") - blanked.count("}")


def body_end(text: str, depth: int) -> int | None:
    """Return the place behind the brace that closes the outermost of `depth` braces open before a text, or None."""
    for brace in _BRACE.finditer(_blanked(text)):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.end()
    return None


def defines(text: str, name: str) -> bool:
    """Decide whether a text has the definition of a function, as opposed to declarations and calls."""
    return (
        bool(name) and re.search(rf"\b{re.escape(name)}[ \t]*\([^;{{}}]*\)[^;{{}}()]*\{{", _blanked(text)) is not None
    )


def head(text: str) -> str:
    """Return the includes and using-directives of a text."""
    return "".join(f"{match.group().strip()}\n" for match in _HEAD.finditer(text))


def without_main(text: str) -> str:
    """Return a text without its `main`, by which an answer shows how its function is used."""
    match = _MAIN.search(_blanked(text))
    if match is None or (end := body_end(text[match.end() :], 1)) is None:
        return text
    return text[: match.start()] + text[match.end() + end :]


def macros(text: str) -> set[str]:
    """Return every name that a directive of a text may define, and perhaps more: in whatever way it is hidden."""
    return set(_MACRO.findall(re.sub(r"\\[ \t]*\r?\n", "", text)))
