"""The parts of a prompt that is prose: its fields, else its leading label and its sentences."""

from __future__ import annotations

import re

from ibft.data.parts import Part, label_and_sentences, trimmed

__all__ = ["prose_parts"]

_MAX_FIELDS = 5
_FIELD = re.compile(r"(?m)^[ \t]*(?:#{1,6}[ \t]*([A-Z][\w -]{0,40}?)[ \t]*:?[ \t]*$|([A-Z][\w-]*(?: [\w-]+){0,2}):)")
"""A line that is a heading of Markdown, or that begins with one to three words and a colon."""


def prose_parts(prompt: str) -> list[Part]:
    """Cut prose into its fields, of which those beyond the fifth are joined; where it has fewer than two, into label
    and sentences.

    What stands before the first field is `opening`. A field's label is not of its part: it stays where it is.
    """
    fields = [*_FIELD.finditer(prompt)]
    if len(fields) < 2:
        return label_and_sentences(prompt, 0, len(prompt))
    stretches = [("opening", 0, fields[0].start())]
    ends = [field.start() for field in fields[1:]] + [len(prompt)]
    for field, end in zip(fields, ends, strict=True):
        stretches.append((f"field {(field.group(1) or field.group(2)).lower()}", field.end(), end))
    if len(stretches) > _MAX_FIELDS + 1:
        stretches[_MAX_FIELDS:] = [("later fields", stretches[_MAX_FIELDS][1], len(prompt))]
    spans = [(kind, *trimmed(prompt, start, end)) for kind, start, end in stretches]
    return [Part(kind, start, end) for kind, start, end in spans if start < end]
