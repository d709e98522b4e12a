"""A look at the data in words, and its tokens as text in which nothing is invisible: for the page and the terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ibft.artifacts.preview import Preview, ProblemOverlap, Repeat, Repeats, SetPreview, ShownRun
from ibft.pages.audit_rows import percent

__all__ = [
    "VisibleRun",
    "length_sentences",
    "overlap_sentences",
    "repeat_sentences",
    "set_name",
    "set_sentences",
    "visible_runs",
]

_SPACES = re.compile(r"^ +| {2,}| +$", re.MULTILINE)
"""Spaces that are shown as dots: at the ends of lines and runs, and several in a row."""
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_KINDS = {"exact": "equal", "code": "equal code", "near": "nearly equal"}


class VisibleRun(NamedTuple):
    """A run of tokens, each with its id and its text in which nothing is invisible."""

    is_trained: bool
    is_special: bool
    tokens: list[tuple[int, str]]

    @property
    def text(self) -> str:
        """The text of all its tokens."""
        return "".join(text for _, text in self.tokens)


def visible_runs(runs: Sequence[ShownRun]) -> list[VisibleRun]:
    """Return runs in which everything can be seen.

    A line break is `↵` and a line break, a tab `→`, a space at the end of a line or a run, or beside another, `·`. What
    has no look of its own (control characters, marks of direction, other spaces) is its code as Python writes it; a
    token that ends inside a character is `◌`, and the token that completes the character has it.
    """
    return [
        VisibleRun(run.is_trained, run.is_special, list(zip(run.ids, _visible(run.pieces), strict=True)))
        for run in runs
    ]


def _visible(pieces: Sequence[str]) -> Iterator[str]:
    text = "".join(pieces)
    dots = {place for match in _SPACES.finditer(text) for place in range(*match.span())}
    start = 0
    for piece in pieces:
        shown = "".join("·" if start + place in dots else _look(letter) for place, letter in enumerate(piece))
        yield shown or "◌"
        start += len(piece)


def _look(letter: str) -> str:
    if letter in "\n\t ":
        return {"\n": "↵\n", "\t": "→", " ": " "}[letter]
    is_invisible = unicodedata.category(letter) in _INVISIBLE
    return letter.encode("unicode_escape").decode() if is_invisible else letter


def set_name(name: str) -> str:
    """Return what a set is called."""
    return "Training data" if name == "train" else f"{name.capitalize()} set"


def set_sentences(examples: SetPreview) -> list[str]:
    """Return how many rows of a set are used, and how many of their tokens are trained."""
    skipped = f"{examples.num_skipped:,} skipped ({percent(examples.num_skipped / max(1, examples.num_rows))})"
    rows = f"{examples.num_examples:,} of {examples.num_rows:,} rows are used"
    sentences = [f"{rows}, {skipped if examples.num_skipped else 'none skipped'}."]
    if examples.num_examples:
        share = percent(examples.num_trained / examples.num_tokens)
        sentences.append(
            f"{examples.num_tokens:,} tokens, of which {examples.num_trained:,} ({share}) are trained; "
            f"the median example has {examples.median_tokens:,g}."
        )
    return sentences


def length_sentences(preview: Preview, examples: SetPreview) -> list[str]:
    """Return the longest row against what the recipe and the model allow."""
    context = "no limit" if preview.context_tokens is None else f"{preview.context_tokens:,} tokens"
    sentences = []
    if (longest := examples.longest) is not None:
        limit = f"data.max_tokens is {preview.max_tokens:,}, the model's context has {context}"
        sentences.append(f"The longest row has {longest.num_tokens:,} tokens ({longest.id}); {limit}.")
    if examples.num_beyond_context:
        sentences.append(
            f"Longer than the model's context: {examples.num_beyond_context:,} of {examples.num_examples:,} examples. "
            f"Set data.max_tokens: {preview.context_tokens}."
        )
    return sentences


def repeat_sentences(repeats: Repeats) -> list[str]:
    """Return how many examples of a set repeat one of the training data, and some of them by name."""
    is_train = repeats.name == "train"
    total = repeats.num_exact + repeats.num_code + repeats.num_near
    of = "an earlier one" if is_train else "one of the training data"
    kinds = {
        "equal": repeats.num_exact,
        "equal except for names and layout": repeats.num_code,
        "nearly equal": repeats.num_near,
    }
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    name = "" if is_train else f" of the {set_name(repeats.name).lower()}"
    sentences = [f"{total:,} of {repeats.num_examples:,} examples{name} repeat {of}{f' ({counts})' if counts else ''}."]
    if repeats.is_partial:
        against = "" if is_train else f", and the first {repeats.num_against:,} of the training data"
        sentences.append(
            f"Exact copies were looked for everywhere, others among its first {repeats.num_compared:,} examples"
            f"{against}; `ibft duplicates` compares all of a data set."
        )
    return sentences + [f"For example: {_repeat(repeat)}." for repeat in _one_of_each(repeats.first)]


def _one_of_each(repeats: Sequence[Repeat]) -> list[Repeat]:
    return list({repeat.kind: repeat for repeat in reversed(repeats)}.values())[::-1]


def _repeat(repeat: Repeat) -> str:
    similarity = f", similarity {repeat.similarity:.2f}" if repeat.kind == "near" else ""
    return f"{repeat.id} repeats {repeat.of or 'an earlier example'} ({_KINDS[repeat.kind]}{similarity})"


def overlap_sentences(overlap: ProblemOverlap, num_examples: int) -> list[str]:
    """Return how many of a benchmark's problems are in the training data, and some of them by name.

    Args:
        overlap: what was found.
        num_examples: the examples of the training data that are used.
    """
    sentences = [
        f"{overlap.num_leaked:,} of {overlap.num_problems:,} problems of {overlap.source} are in the training data, in "
        f"{overlap.num_examples:,} examples."
    ]
    if overlap.num_compared < num_examples:
        sentences.append(
            f"The first {overlap.num_compared:,} examples were compared; `ibft leakage` compares all, and writes the "
            "data without them."
        )
    elif overlap.num_leaked:
        sentences.append("`ibft leakage` shows what they share, and writes the data without them.")
    named = (
        f"{leak.id} has {leak.task_id} ({leak.part}, {leak.kind}, {leak.similarity:.2f})" for leak in overlap.first
    )
    return sentences + [f"For example: {name}." for name in list(named)[:3]]
