"""An example's tokens, colored by how surely the model expected each."""

from __future__ import annotations

import math
from typing import NamedTuple

from ibft.artifacts.rows import ShownExample

__all__ = ["LEGEND", "Heatmap", "Stretch", "heatmap"]

# Fixed probabilities rather than quantiles: a color then means the same in every example and every run, and an example
# that is known by heart looks like it.
_LIMITS = (0.1, 0.5, 0.9, 0.99)
LEGEND = ("below 10%", "10 to 50%", "50 to 90%", "90 to 99%", "99% and more")
"""The probability that the model gave to the token, for the classes `p0` to `p4`."""

# A page with whole examples, or with one huge token, would be too large to open.
_MAX_PROMPT_TOKENS = 120
_MAX_RESPONSE_TOKENS = 600
_MAX_TOKEN_CHARACTERS = 120


class Stretch(NamedTuple):
    """Neighboring tokens that look alike: `classes` are p0 to p4 and `matched`, or `prompt`."""

    classes: str
    text: str


class Heatmap(NamedTuple):
    """The stretches to show, in order, and how many tokens before and after them are hidden."""

    stretches: list[Stretch]
    num_hidden_before: int
    num_hidden_after: int


def heatmap(example: ShownExample, prefix_tokens: int | None) -> Heatmap:
    """Color the example: of the prompt its last 120 tokens, of the response its first 600.

    Args:
        example: the example; tokens without a log-probability stay uncolored.
        prefix_tokens: the number of the response's tokens that the model was given before it continued greedily; the
            `example.matched` tokens behind them are what it repeated. None where unknown: nothing is marked.
    """
    start = max(0, example.num_prompt_tokens - _MAX_PROMPT_TOKENS)
    end = min(len(example.tokens), example.num_prompt_tokens + _MAX_RESPONSE_TOKENS)
    matched = range(0) if prefix_tokens is None else range(prefix_tokens, prefix_tokens + (example.matched or 0))
    stretches: list[Stretch] = []
    for index in range(start, end):
        classes, text = _classes(example, index - example.num_prompt_tokens, matched), _shortened(example.tokens[index])
        if stretches and stretches[-1].classes == classes:
            stretches[-1] = Stretch(classes, stretches[-1].text + text)
        else:
            stretches.append(Stretch(classes, text))
    return Heatmap(stretches, start, len(example.tokens) - end)


def _classes(example: ShownExample, position: int, matched: range) -> str:
    if position < 0:
        return "prompt"
    classes = []
    if position < len(example.log_probs):
        # Rounding can leave a log-probability a little above 0.
        probability = math.exp(min(example.log_probs[position], 0.0))
        classes.append(f"p{sum(probability >= limit for limit in _LIMITS)}")
    if position in matched:
        classes.append("matched")
    return " ".join(classes)


def _shortened(token: str) -> str:
    hidden = len(token) - _MAX_TOKEN_CHARACTERS
    return token if hidden <= 0 else f"{token[:_MAX_TOKEN_CHARACTERS]}…(+{hidden:,} characters)"
