"""The pieces that a planted world's texts consist of: the vocabulary of a tokenizer of its own.

A statement is three to five tokens, a clause one for each word, a name two: so a task is some forty tokens, and a model
of half a million parameters learns the language in minutes on one core.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ibft.worlds.library import NUMBER_WORDS, Library, Step
from ibft.worlds.tasks import ADJECTIVES, NOUNS, Example, completion_of, prompt_of

__all__ = ["PIECES", "vocabulary"]

PIECES = (
    r"from \w+ import \*\n\n\n|def |\(xs\):\n|# | {4}\"\"\"|\"\"\"\n"
    r"| {4}xs = | {4}return xs\n|\(xs\)\n|\(xs, |\)\n|\.|:| ?[A-Za-z]+|[_-][a-z]+|\d|\n"
)
"""A regular expression whose matches, one behind the other, are a text's pieces (Python's `re` and Oniguruma)."""


def vocabulary(library: Library) -> list[str]:
    """Return every piece that texts of this library can have, whatever is planted, sorted."""
    return sorted({piece for text in _covering(library) for piece in re.findall(PIECES, text)})


def _covering(library: Library) -> Iterator[str]:
    """Yield texts that have every piece: each name and mark, each clause first and later, each statement."""
    for adjective, noun in [*zip(ADJECTIVES, NOUNS, strict=False), *((ADJECTIVES[0], noun) for noun in NOUNS)]:
        mark = f"{adjective}-{noun}"
        yield prompt_of(f"{adjective}_{noun}", library, f"{mark.capitalize()}: ", mark)
    for operation in library.operations:
        for number in operation.numbers or (None,):
            step = Step(operation.key, number)
            yield completion_of((step,), library)
            for phrasing in operation.phrasings:
                clause = phrasing if number is None else phrasing.format(n=NUMBER_WORDS[number])
                yield prompt_of("", library, Example("", "", (step, step), (clause, clause)).sentences)
