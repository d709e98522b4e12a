"""Duplicates within the data: examples whose answers were there before, exact, equal as code, or nearly equal.

Duplicates make a model memorize (Lee et al., arXiv 2107.06499), and inflate whatever is averaged over the data. What
is compared is what the model learns to write: the completion's code (`code.codes_of`). Candidates for near-duplicates
come from MinHash and locality-sensitive hashing (rensa), without those whose sketches agree far too little. The
similarity that decides is computed exactly, so that every reported duplicate is one; a duplicate at the threshold of
0.7 is missed with a chance below 0.1% (at 0.55: 5%). Code below 20 tokens is a duplicate only of an equal prompt and
completion.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, write_atomically, write_rows
from ibft.artifacts.rows import TrainingPair
from ibft.curation.outputs import make_folder, refuse_source
from ibft.data.code import MIN_TOKENS, SIMILARITY, codes_of, jaccard, prompt_text, shingles, whole
from ibft.data.training import stream_examples
from ibft.errors import UserError

__all__ = ["Duplicate", "DuplicateFinder", "DuplicateSummary", "find_duplicates", "text_key"]

DuplicateKind = Literal["exact", "code", "near"]

_NUM_BANDS, _BAND_ROWS = 32, 4
"""At similarity s a candidate with a chance of 1 - (1 - s^4)^32: 0.9998 at 0.7, 0.954 at 0.55, 0.64 at 0.42."""
_NUM_HASHES = _NUM_BANDS * _BAND_ROWS
_BLOCK = 256
"""Candidates whose shingles are compared together."""
_MISSED = 1e-4
"""The chance that the sketches of two answers of the threshold's similarity agree so little that they are not
compared."""


class Duplicate(msgspec.Struct, frozen=True):
    """An example, and the earlier one that it repeats.

    `kind`: `exact` (prompt and completion, except for white space at their ends), `code` (equal except for names,
    comments and layout) or `near`. `similarity`: Jaccard similarity of the code's shingles; 1 for the other kinds.
    """

    id: str
    of: str
    kind: DuplicateKind
    similarity: float


class _Kept(NamedTuple):
    """An example that stays: its sketch and its shingles."""

    id: str
    sketch: Any
    shingles: array[int]


class DuplicateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of examples that repeat an earlier one, by kind."""

    num_examples: int
    num_duplicates: dict[DuplicateKind, int]
    similarity: float


class DuplicateFinder:
    """Compares each example with all the earlier ones that are not duplicates themselves.

    So every duplicate points at an example that stays if all duplicates are dropped. An example that stays needs about
    5 KB of memory if it has 100 tokens, and 4 bytes for each further token.

    Args:
        similarity: Jaccard similarity from which two answers are near-duplicates, in (0.5, 1].

    Raises:
        UserError: rensa is not installed.
        ValueError: the similarity is out of range.
    """

    def __init__(self, similarity: float = SIMILARITY) -> None:
        if not 0.5 < similarity <= 1:
            raise ValueError(f"similarity is {similarity}: it must be above 0.5 and at most 1")
        try:
            from rensa import RMinHash, RMinHashLSH
        except ImportError:
            raise UserError(
                "rensa is not installed: duplicates are found with it. Run `pip install 'ibft[audit]'`."
            ) from None
        self.similarity = similarity
        self._sketch: Callable[[], Any] = lambda: RMinHash(num_perm=_NUM_HASHES, seed=0)
        self._near = RMinHashLSH(threshold=similarity, num_perm=_NUM_HASHES, num_bands=_NUM_BANDS)
        self._least_estimate = _least_agreeing(similarity) / _NUM_HASHES
        # What an equal example repeats: the first example of that text or code, or the one that this repeats itself.
        self._exact: dict[bytes, Duplicate] = {}
        self._code: dict[str, Duplicate] = {}
        self._kept: list[_Kept] = []

    def add(self, pair: TrainingPair) -> Duplicate | None:
        """Return the earlier example that this one repeats, if any; later ones are compared with this one, too."""
        return self._compare(pair, keeps=True)

    def find(self, pair: TrainingPair) -> Duplicate | None:
        """Return the example among those that were added that this one repeats, if any; this one is not added."""
        return self._compare(pair, keeps=False)

    def _compare(self, pair: TrainingPair, *, keeps: bool) -> Duplicate | None:
        key = text_key(pair)
        if (known := self._exact.get(key)) is not None:
            return msgspec.structs.replace(known, id=pair.id)
        unit = whole("\n".join(codes_of(pair)))
        duplicate = None
        if len(unit.tokens) >= MIN_TOKENS:  # `return self.name` is nobody's copy
            if (known := self._code.get(unit.fingerprint)) is not None:
                duplicate = msgspec.structs.replace(known, id=pair.id)
            else:
                duplicate = self._near_to(pair.id, shingles(unit.tokens), keeps=keeps)
                if keeps:
                    self._code[unit.fingerprint] = duplicate or Duplicate(pair.id, pair.id, "code", 1.0)
        if keeps:
            self._exact[key] = duplicate or Duplicate(pair.id, pair.id, "exact", 1.0)
        return duplicate

    def _near_to(self, identity: str, pieces: set[int], *, keeps: bool) -> Duplicate | None:
        sketch = self._sketch()
        sketch.update([shingle.to_bytes(4, "little") for shingle in pieces])
        # Answers that share a template are candidates in their thousands, so cheap tests come first: 4,000 rows of one
        # template took 149 s without them, and 5 s with them.
        # In the order of the data: of equally similar answers the earliest is named, whatever order the index has.
        candidates = (self._kept[number] for number in sorted(self._near.query(sketch)))
        likely = [kept for kept in candidates if sketch.jaccard(kept.sketch) >= self._least_estimate]
        best, of = 0.0, ""
        for start in range(0, len(likely), _BLOCK):
            for kept in _possible(pieces, likely[start : start + _BLOCK], self.similarity):
                if (similarity := jaccard(pieces, set(kept.shingles))) > best:
                    best, of = similarity, kept.id
        if best >= self.similarity:
            return Duplicate(identity, of, "near", best)
        if keeps:
            self._near.insert(len(self._kept), sketch)
            # An array: 4 bytes for each shingle, where a set takes many times as much.
            self._kept.append(_Kept(identity, sketch, array("I", pieces)))
        return None


def text_key(pair: TrainingPair) -> bytes:
    """Return 16 bytes, equal for examples that are equal except for white space at the ends of their texts."""
    # Some data has lone surrogates, which cannot be encoded.
    text = f"{prompt_text(pair).strip()}\0{pair.completion.strip()}".encode(errors="replace")
    return hashlib.blake2b(text, digest_size=16).digest()


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


def _possible(pieces: set[int], others: Sequence[_Kept], similarity: float) -> list[_Kept]:
    """Return those of the others whose similarity may be as high: all that have it, and few more."""
    # Of a shingle the last 16 bits are compared: never fewer of these agree than of the whole ones.
    has_bits = np.zeros(1 << 16, np.bool_)
    has_bits[np.fromiter(pieces, np.uint32, len(pieces)) & 0xFFFF] = True
    sizes = np.array([len(kept.shingles) for kept in others])
    joined = np.frombuffer(b"".join(kept.shingles for kept in others), np.uint32)
    shared = np.add.reduceat(has_bits[joined & 0xFFFF], np.cumsum(sizes) - sizes, dtype=np.int64)
    is_possible = shared / (len(pieces) + sizes - shared) >= similarity
    return [others[place] for place in np.flatnonzero(is_possible)]


def find_duplicates(source: str, split: str, similarity: float, out: Path | None) -> DuplicateSummary:
    """Find the duplicates of a data source; with `out`, write duplicates.jsonl and duplicates.json there.

    Raises:
        UserError: the data cannot be read or is empty, `out` cannot be made, the similarity is out of range, or rensa
            is not installed.
    """
    if not 0.5 < similarity <= 1:
        raise UserError(f"--similarity {similarity:g}: give a number above 0.5 and at most 1.")
    duplicates: list[Duplicate] = []
    num_examples = 0
    finder = DuplicateFinder(similarity)
    if out is not None:
        refuse_source(source, (out / "duplicates.jsonl", out / "duplicates.json"))
        make_folder(out)
    with progress.task("Comparing examples", total=None) as task:
        for num_examples, example in enumerate(stream_examples(source, split), start=1):  # noqa: B007 - counted
            if (duplicate := finder.add(example.pair)) is not None:
                duplicates.append(duplicate)
            task.advance()
    if not num_examples:
        raise UserError(f"{source}: the data set is empty. Check the data.")
    kinds = Counter(duplicate.kind for duplicate in duplicates)
    summary = DuplicateSummary(
        num_examples=num_examples,
        num_duplicates={kind: kinds[kind] for kind in get_args(DuplicateKind)},
        similarity=similarity,
    )
    if out is not None:
        write_rows(out / "duplicates.jsonl", duplicates)
        write_atomically(out / "duplicates.json", pretty_json(summary))
    return summary
