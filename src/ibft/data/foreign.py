"""Foreign text for the parts of a prompt: parts of the same kind from other examples, drawn by seed."""

from __future__ import annotations

import itertools
import random
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from ibft.artifacts.rows import TrainingPair
from ibft.data.fingerprint import fingerprint
from ibft.data.parts import Part
from ibft.data.segments import SegmentedPrompt, segmented
from ibft.data.tokens import unusable

__all__ = ["Donors"]


class Donors:
    """Examples whose prompts lend their parts to other examples.

    Args:
        pairs: the examples; one that cannot be used, or has no prompt, lends nothing.
        seed: random seed of the draws. What an example is lent depends on it, on the example and on the donors, and
            not on the order in which examples are asked for.
    """

    def __init__(self, pairs: Sequence[TrainingPair], seed: int = 0) -> None:
        self._seed = seed
        self._prompts: list[SegmentedPrompt] = []
        self._codes: list[tuple[str, str]] = []
        self._by_kind = defaultdict[str, list[tuple[int, int]]](list)
        for pair in pairs:
            if unusable(pair):
                continue
            prompt = segmented(pair)
            for number, part in enumerate(prompt.parts):
                self._by_kind[part.kind].append((len(self._prompts), number))
                if (family := _family(part.kind)) != part.kind:
                    self._by_kind[family].append((len(self._prompts), number))
            self._prompts.append(prompt)
            self._codes.append(_codes(pair))

    def lend(self, pair: TrainingPair, prompt: SegmentedPrompt) -> dict[int, str]:
        """Return foreign text for the parts of an example's prompt, by their numbers.

        All are of one donor as far as it has such parts and may lend them. What is lacking is of others, and a sentence
        of a place that no donor has (`sentence 7`) is another sentence. No text is the example's own, layout and case
        aside, and no donor has its code or its completion. A part without any donor is missing: it stays as it is.
        """
        if not self._prompts:
            return {}
        own = _codes(pair)
        rng = random.Random(f"{self._seed} {pair.id} {' '.join(own)}")
        first = rng.randrange(len(self._prompts))
        lent = {}
        for number, part in enumerate(prompt.parts):
            avoided = _canonical(prompt.text_of(part))
            for kind in dict.fromkeys((part.kind, _family(part.kind))):
                text = self._draw(rng, first, kind, part, avoided, own)
                if text is not None:
                    lent[number] = text
                    break
        return lent

    def _draw(
        self, rng: random.Random, first: int, kind: str, part: Part, avoided: str, own: tuple[str, str]
    ) -> str | None:
        places = self._by_kind.get(kind, [])
        if not places:
            return None
        start = rng.randrange(len(places))
        # Those of one donor are neighbors; from a random place on, all are looked through.
        begin = bisect_left(places, (first, 0))
        of_first = itertools.takewhile(lambda place: place[0] == first, itertools.islice(places, begin, None))
        for donor, number in itertools.chain(of_first, places[start:], places[:start]):
            prompt = self._prompts[donor]
            text = prompt.text_of(prompt.parts[number])
            is_foreign = _canonical(text) != avoided and not set(own) & set(self._codes[donor])
            if is_foreign and not any(mark in text for mark in part.forbidden):
                return text
        return None


def _family(kind: str) -> str:
    """Return what sentences of all places are called: donors may be shorter than the example."""
    return "sentence" if "sentence" in kind else kind


def _canonical(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def _codes(pair: TrainingPair) -> tuple[str, str]:
    """Return what two examples of one code have in common: their fingerprints, or their completions."""
    return fingerprint(pair), _canonical(pair.completion)
