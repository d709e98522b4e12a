"""The segments of a prompt: which characters of it are the name, the signature, the docstring, one of its sentences.

A prompt is cut into `Part`s that do not overlap; what lies between them (`def`, quotes, indentation, a field's label)
is its form, which stays when parts are exchanged. A `Segment` is what a person would name: one part or several, and
segments may overlap (the signature contains the name, the docstring its sentences).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.code_parts import function_parts, module_parts
from ibft.data.parts import Part
from ibft.data.prose_parts import prose_parts

__all__ = ["MAX_SEGMENTS", "Segment", "SegmentedPrompt", "exchanged", "segmented"]

MAX_SEGMENTS = 8
"""Most segments of a prompt: each costs a forward pass."""
_FIRST = ("name", "signature", "docstring", "description", "label")
_LATER_SENTENCES = "later sentences"
_OTHER = "other parts"


class Segment(NamedTuple):
    """A named part of a prompt: `parts` are numbers of `SegmentedPrompt.parts`, ascending."""

    kind: str
    parts: tuple[int, ...]


class SegmentedPrompt(NamedTuple):
    """A prompt's texts (one, or one per turn of a conversation), its parts in their order, and its segments."""

    texts: tuple[str, ...]
    parts: tuple[Part, ...]
    segments: tuple[Segment, ...]

    def text_of(self, part: Part) -> str:
        """Return the characters of a part."""
        return self.texts[part.text][part.start : part.end]


def segmented(pair: TrainingPair) -> SegmentedPrompt:
    """Cut an example's prompt into segments.

    Kinds of a Python function that the prompt begins: `name`, `signature` (name, parameters, annotations), `docstring`,
    `label` (`Amber-lion` in `Amber-lion: first keep ...`), `sentence 1` and so on (of the docstring), `comment` (the
    lines right above), `decorator`, `context` (what stands above: imports, helpers), of a method `class`, `body` (code
    behind the docstring). Of a Verilog module: `name`, `signature` (with the ports), `description` (what stands above)
    and its sentences. Of other prompts: `field NAME` where two lines or more begin with `Name:` or `## Name`, else
    `label` and sentences. Of a conversation: those of its last user turn, `system`, and `earlier turns`.

    At most 8: sentences beyond the last free place are joined as `later sentences`, and what is still too many as
    `other parts`. A segment that is all there is of a prompt is left out: it says nothing that the prompt does not. So
    a prompt of one sentence has no segments, and neither has text without a prompt.
    """
    texts, parts = _parts_of(pair)
    named = _named(parts)
    views: dict[str, list[int]] = {}
    for number, part in enumerate(named):
        if part.kind != "parameters":  # they are shown with the name, as the signature
            views.setdefault(part.kind, []).append(number)
        if part.of:
            views.setdefault(part.of, []).append(number)
    kinds = sorted(views, key=lambda kind: _FIRST.index(kind) if kind in _FIRST else len(_FIRST))
    segments = [Segment(kind, tuple(views[kind])) for kind in kinds]
    if len(segments) > MAX_SEGMENTS:
        rest = sorted({number for segment in segments[MAX_SEGMENTS - 1 :] for number in segment.parts})
        segments = [*segments[: MAX_SEGMENTS - 1], Segment(_OTHER, tuple(rest))]
    whole = len(named)
    return SegmentedPrompt(texts, tuple(named), tuple(part for part in segments if len(part.parts) < whole))


def exchanged(pair: TrainingPair, prompt: SegmentedPrompt, foreign: Mapping[int, str]) -> TrainingPair:
    """Return the example with other texts in the place of some parts of its prompt; its completion stays.

    Args:
        pair: the example that `prompt` is of.
        prompt: its segments.
        foreign: number of a part to its text.
    """
    texts = [list[str]() for _ in prompt.texts]
    ends = [0] * len(texts)
    for number, part in enumerate(prompt.parts):
        if number in foreign:
            texts[part.text] += [prompt.texts[part.text][ends[part.text] : part.start], foreign[number]]
            ends[part.text] = part.end
    joined = ["".join(pieces) + own[end:] for pieces, own, end in zip(texts, prompt.texts, ends, strict=True)]
    if not isinstance(pair, Conversation):
        return msgspec.structs.replace(pair, prompt=joined[0]) if joined else pair
    turns = list(pair.turns)
    for place, text in enumerate(joined):
        if text != prompt.texts[place]:  # a turn without content stays without
            turns[place] = msgspec.structs.replace(turns[place], content=text)
    return msgspec.structs.replace(pair, turns=tuple(turns))


def _parts_of(pair: TrainingPair) -> tuple[tuple[str, ...], list[Part]]:
    """Return the texts of a prompt, and its parts with sentences that are not numbered yet."""
    if not isinstance(pair, Conversation):
        return ((), []) if pair.prompt is None else ((pair.prompt,), _parts_of_text(pair.prompt))
    turns = pair.prompt
    texts = tuple(turn.content or "" for turn in turns)
    asked = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=-1)
    parts = []
    for place, (turn, text) in enumerate(zip(turns, texts, strict=True)):
        if place == asked:
            parts += [part._replace(text=place) for part in _parts_of_text(text)]
        elif text.strip():
            start = len(text) - len(text.lstrip())
            kind = "system" if turn.role in ("system", "developer") else "earlier turns"
            parts.append(Part(kind, start, len(text.rstrip()), text=place))
    return texts, parts


def _parts_of_text(text: str) -> list[Part]:
    return function_parts(text) or module_parts(text) or prose_parts(text)


def _named(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with numbers for the sentences, of which those beyond the free places are joined."""
    sentences = [part for part in parts if part.kind == "sentence"]
    others = {part.kind for part in parts} - {"sentence", "parameters"} | {part.of for part in parts if part.of}
    free = max(1, MAX_SEGMENTS - len(others))
    kept = sentences if len(sentences) <= free else sentences[: free - 1]
    numbered = [part._replace(kind=f"sentence {number}") for number, part in enumerate(kept, start=1)]
    if len(sentences) > free:
        numbered.append(sentences[free - 1]._replace(kind=_LATER_SENTENCES, end=sentences[-1].end))
    others_kept = (part for part in parts if part.kind != "sentence")
    return sorted([*numbered, *others_kept], key=lambda part: (part.text, part.start))
