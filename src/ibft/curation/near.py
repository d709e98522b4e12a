"""Near-copies: an index of token shingles, in which the similarity that decides is computed exactly.

Candidates come from MinHash and locality-sensitive hashing (rensa), without those whose sketches agree far too little.
A pair at the threshold of 0.7 is missed with a chance below 0.1% (at 0.55: 5%).
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.code import jaccard, prompt_text
from ibft.data.fingerprint import canonical
from ibft.errors import UserError

__all__ = ["NearIndex", "Similar", "answer_keys", "exact_key"]

_NUM_BANDS, _BAND_ROWS = 32, 4
"""At similarity s a candidate with a chance of 1 - (1 - s^4)^32: 0.9998 at 0.7, 0.954 at 0.55, 0.64 at 0.42."""
_NUM_HASHES = _NUM_BANDS * _BAND_ROWS
_BLOCK = 256
"""Candidates whose shingles are compared together."""
_MISSED = 1e-4
"""The chance that the sketches of two answers of the threshold's similarity agree so little that they are not
compared."""


def exact_key(pair: TrainingPair) -> bytes:
    """Return 16 bytes, equal for equal examples: white space at the ends of prompts, completions and turns is ignored.

    Conversations are equal whose roles, contents, other fields (such as the calls of tools) and tools are. One question
    with one answer, and nothing besides, is equal to the pair of the two.
    """
    if isinstance(pair, Conversation):
        return _keys_of(pair)[-1]
    return _text_key(prompt_text(pair), pair.completion)


def answer_keys(pair: TrainingPair) -> list[tuple[bytes, bool]]:
    """Return the key of each answer with all that stands before it, and whether the answer is trained.

    The key is that of `exact_key` for the turns up to the answer as an example of their own.
    """
    if not isinstance(pair, Conversation):
        return [(exact_key(pair), True)]
    turns = zip(pair.turns, _keys_of(pair)[1:], strict=True)
    return [(key, turn.is_trained) for turn, key in turns if turn.role == "assistant"]


def _keys_of(conversation: Conversation) -> list[bytes]:
    """Return the key of no turn, of the first turn, of the first two, and so on to all."""
    digest = hashlib.blake2b(canonical(conversation.tools), digest_size=16)
    keys = [digest.digest()]
    for place, turn in enumerate(conversation.turns):
        content = (turn.content or "").strip()
        digest.update(b"\n" + canonical([turn.role, content, turn.fields]))
        before = conversation.turns[:place]
        is_plain = not (conversation.tools or turn.fields) and turn.role == "assistant"
        if is_plain and len(before) == 1 and before[0].role == "user" and not before[0].fields:
            keys.append(_text_key(before[0].content or "", content))
        else:
            keys.append(digest.digest())
    return keys


def _text_key(prompt: str, completion: str) -> bytes:
    # Some data has lone surrogates, which cannot be encoded.
    text = f"{prompt.strip()}\0{completion.strip()}".encode(errors="replace")
    return hashlib.blake2b(text, digest_size=16).digest()


class Entry(NamedTuple):
    """What the index knows of an answer: its sketch and its shingles."""

    sketch: Any
    shingles: array[int]


class Similar(NamedTuple):
    """An answer in the index, numbered from 0 as it was added, and its Jaccard similarity to the one asked for."""

    number: int
    similarity: float


class NearIndex:
    """Finds the answers that are near-copies of another one. An entry needs about 5 KB for 100 tokens.

    Args:
        similarity: Jaccard similarity of shingles from which on two answers are near-copies, in (0.5, 1].

    Raises:
        UserError: rensa is not installed.
    """

    def __init__(self, similarity: float) -> None:
        try:
            from rensa import RMinHash, RMinHashLSH
        except ImportError:
            raise UserError(
                "rensa is not installed: duplicates are found with it. Run `pip install 'ibft[audit]'`."
            ) from None
        self._similarity = similarity
        self._sketch: Callable[[], Any] = lambda: RMinHash(num_perm=_NUM_HASHES, seed=0)
        self._near = RMinHashLSH(threshold=similarity, num_perm=_NUM_HASHES, num_bands=_NUM_BANDS)
        self._least_estimate = _least_agreeing(similarity) / _NUM_HASHES
        self._entries: list[Entry] = []

    def entry(self, pieces: set[int]) -> Entry:
        """Return what the index needs of an answer with these shingles."""
        sketch = self._sketch()
        sketch.update([shingle.to_bytes(4, "little") for shingle in pieces])
        return Entry(sketch, array("I", pieces))

    def similar(self, entry: Entry, skips: Callable[[int], bool] = lambda number: False) -> Iterator[Similar]:
        """Yield the answers that are similar enough, in the order in which they were added.

        Args:
            entry: the answer.
            skips: the numbers that need not be compared; it is asked for each just before.
        """
        pieces = set(entry.shingles)
        # Answers that share a template are candidates in their thousands, so cheap tests come first: 4,000 rows of one
        # template took 149 s without them, and 5 s with them.
        likely = (
            number
            for number in sorted(self._near.query(entry.sketch))
            if not skips(number) and entry.sketch.jaccard(self._entries[number].sketch) >= self._least_estimate
        )
        while block := list(islice(likely, _BLOCK)):
            for place in _possible(pieces, [self._entries[number] for number in block], self._similarity):
                if skips(block[place]):
                    continue
                if (similarity := jaccard(pieces, set(self._entries[block[place]].shingles))) >= self._similarity:
                    yield Similar(block[place], similarity)

    def add(self, entry: Entry) -> int:
        """Add an answer, and return its number."""
        self._near.insert(len(self._entries), entry.sketch)
        self._entries.append(entry)
        return len(self._entries) - 1


def _least_agreeing(similarity: float) -> int:
    """Return how many of the hashes of two answers of this similarity agree, except for a chance of `_MISSED`."""
    below = 0.0
    # Each hash agrees with the chance of the similarity. That they were independent is the safe side: rensa's estimate
    # varies less.
    for agreeing in range(_NUM_HASHES):
        ways = math.comb(_NUM_HASHES, agreeing)
        below += ways * similarity**agreeing * (1 - similarity) ** (_NUM_HASHES - agreeing)
        if below > _MISSED:
            return agreeing
    return _NUM_HASHES


def _possible(pieces: set[int], others: Sequence[Entry], similarity: float) -> list[int]:
    """Return the places of those whose similarity may be as high: all that have it, and few more."""
    # Of a shingle the last 16 bits are compared: never fewer of these agree than of the whole ones.
    has_bits = np.zeros(1 << 16, np.bool_)
    has_bits[np.fromiter(pieces, np.uint32, len(pieces)) & 0xFFFF] = True
    sizes = np.array([len(entry.shingles) for entry in others])
    joined = np.frombuffer(b"".join(entry.shingles for entry in others), np.uint32)
    shared = np.add.reduceat(has_bits[joined & 0xFFFF], np.cumsum(sizes) - sizes, dtype=np.int64)
    is_possible = shared / (len(pieces) + sizes - shared) >= similarity
    return [int(place) for place in np.flatnonzero(is_possible)]
