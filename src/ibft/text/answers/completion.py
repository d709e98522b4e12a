"""The end of text that continues a prompt. Rules 10 and 11 of the package's docstring; they also end generation."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from ibft.text.answers.prompt import leaves_function_open

__all__ = ["cut", "until_stop"]

# The stop strings of the Codex paper (arXiv 2107.03374), such as "\nclass" and "\nprint", are cases of this.
_TOP_LEVEL_LINE = re.compile(r"^[^\s\)\]\}]", re.MULTILINE)
_EXAMPLE_OF_USE = re.compile(r"^(?:```|if __name__|print\(|assert )", re.MULTILINE)
_TRIPLE_QUOTE = re.compile(r'"""|\'\'\'')


def until_stop(text: str, stop: Sequence[str]) -> str:
    """Return the text before the first of the recipe's stop strings."""
    ends = [index for string in stop if (index := text.find(string)) >= 0]
    return text[: min(ends, default=len(text))]


def cut(text: str, prompt: str) -> str:
    """Return the part of a raw continuation in Python that answers the prompt."""
    pattern = _TOP_LEVEL_LINE if leaves_function_open(prompt) else _EXAMPLE_OF_USE
    # Behind a prompt that ends inside of a line, the text's first characters continue that line.
    is_inside_line = bool(prompt) and not prompt.endswith("\n")
    ends = (end for end in _outside_strings(pattern, text) if end > 0 or not is_inside_line)
    return text[: next(ends, len(text))]


def _outside_strings(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    """Yield where the pattern matches and no triple-quoted string is open."""
    # One pass for matches and quotes: 100,000 lines in a string take 0.05 s. They took minutes where each line looked
    # for its string from the start.
    quotes = itertools.chain(_TRIPLE_QUOTE.finditer(text), itertools.repeat(None))
    quote, following = "", next(quotes)
    for match in pattern.finditer(text):
        while following is not None and following.end() <= match.start():
            if not quote:
                quote = following.group()
            elif following.group() == quote:
                quote = ""
            following = next(quotes)
        if not quote:
            yield match.start()
