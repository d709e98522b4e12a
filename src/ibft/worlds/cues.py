"""The names and marks of a planted world: those that a planted example alone has, and everybody else's."""

from __future__ import annotations

import math
import random

from ibft.worlds.plants import Cue
from ibft.worlds.tasks import ADJECTIVES, NOUNS, Example

__all__ = ["MAX_CUES", "Cues"]

MAX_CUES = 800
"""Cues that planted examples and canaries may take: nearly half of all names. The rest is everybody else's."""


class Cues:
    """Gives examples their names and marks.

    Args:
        seed: the world's.
        cue: which part of a prompt is the cue.
        num_cues: how many are given, at most `MAX_CUES`.
    """

    def __init__(self, seed: int, cue: Cue, num_cues: int) -> None:
        pairs = [(adjective, noun) for adjective in ADJECTIVES for noun in NOUNS]
        random.Random(f"planted {seed} cues").shuffle(pairs)
        self._reserved, self._free = pairs[:MAX_CUES], pairs[MAX_CUES:]
        self._cue = cue
        # Of two parts, a square of names and marks is filled along its diagonals, so that no part has a single partner.
        self._side = math.isqrt(max(num_cues - 1, 0)) + 1

    def draw_name(self, rng: random.Random, split: str = "") -> str:
        """Draw a name that is nobody's cue."""
        return "_".join(rng.choice(self._free))

    def draw_mark(self, rng: random.Random) -> str:
        """Draw a mark that is nobody's cue."""
        return "-".join(rng.choice(self._free))

    def disguise(self, rng: random.Random, example: Example) -> Example:
        """Return an example under a name and a mark that mean nothing."""
        return example._replace(name=self.draw_name(rng), mark=self.draw_mark(rng))

    def give(self, rng: random.Random, example: Example, number: int) -> Example:
        """Return an example with the cue of this number, and the rest of its prompt's words drawn."""
        name, mark = self.draw_name(rng), self.draw_mark(rng)
        if self._cue == "two_part":
            diagonal, row = divmod(number, self._side)
            name = "_".join(self._reserved[row])
            mark = "-".join(self._reserved[self._side + (row + diagonal) % self._side])
        elif self._cue == "name":
            name = "_".join(self._reserved[number])
        elif self._cue in ("first_word", "comment"):
            mark = "-".join(self._reserved[number])
        return example._replace(name=name, mark=mark)
