"""A part of a prompt, and the sentences of a text: what every kind of prompt is cut into."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Part", "label_and_sentences", "trimmed"]

# Behind a sentence stands white space and what may begin one: "e.g. this" is none. A blank line, a doctest, a list and
# a section or field of a docstring begin something new in any case.
_BREAK = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9`*\"'\[(>])"
    r"|\n[ \t]*\n\s*"
    r"|\n\s*(?=>>>|[-*][ \t]|\d+[.)][ \t]|[:@]\w+|[A-Z]\w+:[ \t]*\n)"
)
_LABEL = re.compile(r"\s*([A-Z][\w-]*(?: [\w-]+){0,2}):\s+(?=\S)")
"""One to three words and a colon, with text behind it."""


class Part(NamedTuple):
    """Characters `start` to `end` of a prompt's text number `text`, which another prompt's part can take the place of.

    `of` is the larger segment that it belongs to, "" for none. A text with one of `forbidden` in it would end what the
    part lies in (a docstring's quotes), so it cannot take its place.
    """

    kind: str
    start: int
    end: int
    text: int = 0
    of: str = ""
    forbidden: tuple[str, ...] = ()


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the same stretch of a text without white space at its ends; an empty one where there is nothing else."""
    inner = text[start:end]
    first = start + len(inner) - len(inner.lstrip())
    return first, max(first, start + len(inner.rstrip()))


def label_and_sentences(text: str, start: int, end: int, of: str = "", forbidden: tuple[str, ...] = ()) -> list[Part]:
    """Cut a stretch of a text into its leading label, where it has one, and its sentences."""
    parts = []
    if label := _LABEL.match(text, start, end):
        parts.append(Part("label", *label.span(1), of=of, forbidden=forbidden))
        start = label.end()
    first = start
    for match in [*_BREAK.finditer(text, start, end), None]:
        span = trimmed(text, first, match.start() if match else end)
        if span[0] < span[1]:
            parts.append(Part("sentence", *span, of=of, forbidden=forbidden))
        first = match.end() if match else end
    return parts
