"""Duplicates within the data: examples whose answers were there before, exact, equal as code, or nearly equal.

A duplicate makes a model memorize (Lee et al., arXiv 2107.06499), and inflates whatever is averaged over the data. What
is compared is what the model learns to write: the completion's code (`code.codes_of`). Candidates for near-duplicates
come from MinHash and locality-sensitive hashing (rensa), without those whose sketches agree far too little; the
similarity that decides is computed exactly, so that none is reported which is none, and one at the threshold of 0.7 is
missed with a chance below 0.1% (of 0.55: 5%). Code below 20 tokens is a duplicate only of an equal prompt and
completion.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, write_atomically, write_rows
from ibft.artifacts.rows import TrainingPair
from ibft.curation.outputs import make_folder, refuse_source
from ibft.data.code import MIN_TOKENS, SIMILARITY, codes_of, jaccard, prompt_text, shingles, whole
from ibft.data.training import stream_examples
from ibft.errors import UserError

__all__ = ["Duplicate", "DuplicateFinder", "DuplicateSummary", "find_duplicates"]

DuplicateKind = Literal["exact", "code", "near"]

_NUM_BANDS, _BAND_ROWS = 32, 4
"""A candidate with a chance of 1 - (1 - s^4)^32: 0.9998 at 0.7, 0.954 at 0.55, 0.64 at 0.42."""
_NUM_HASHES = _NUM_BANDS * _BAND_ROWS
_BLOCK = 256
"""Candidates whose shingles are looked at together."""
_MISSED = 1e-4
"""The chance that the sketches of two answers of the threshold's similarity agree so little that they are not
compared."""


class Duplicate(msgspec.Struct, frozen=True):
    """An example, and the earlier one that it repeats.

    `kind`: `exact` (prompt and completion, but for white space at their ends), `code` (equal but for names, comments
    and layout) or `near`. `similarity`: Jaccard of the code's shingles; 1 for the other kinds.
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
    """How many of the examples repeat an earlier one, by kind."""

    num_examples: int
    num_duplicates: dict[DuplicateKind, int]
    similarity: float


class DuplicateFinder:
    """Compares each example with all the earlier ones that are no duplicates themselves.

    So every duplicate points at an example that stays if all duplicates are dropped, and the first of equal ones
    stays. Needs about 5 KB of memory for each of 100 tokens that stays, and 4 bytes for each further token.

    Args:
        similarity: from which on two answers are near-duplicates, in (0.5, 1].

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
        # What an equal example repeats: the example of that text or code, or what that one itself repeats.
        self._exact: dict[bytes, Duplicate] = {}
        self._code: dict[str, Duplicate] = {}
        self._kept: list[_Kept] = []

    def add(self, pair: TrainingPair) -> Duplicate | None:
        """The earlier example that this one repeats, if any."""
        prompt = prompt_text(pair)
        text = f"{prompt.strip()}\0{pair.completion.strip()}".encode(errors="replace")
        key = hashlib.blake2b(text, digest_size=16).digest()
        if (known := self._exact.get(key)) is not None:
            return msgspec.structs.replace(known, id=pair.id)
        unit = whole("\n".join(codes_of(pair)))
        duplicate = None
        if len(unit.tokens) >= MIN_TOKENS:
            if (known := self._code.get(unit.fingerprint)) is not None:
                duplicate = msgspec.structs.replace(known, id=pair.id)
            else:
                duplicate = self._add_near(pair.id, shingles(unit.tokens))
                self._code[unit.fingerprint] = duplicate or Duplicate(pair.id, pair.id, "code", 1.0)
        self._exact[key] = duplicate or Duplicate(pair.id, pair.id, "exact", 1.0)
        return duplicate

    def _add_near(self, identity: str, found: set[int]) -> Duplicate | None:
        sketch = self._sketch()
        sketch.update([shingle.to_bytes(4, "little") for shingle in found])
        # Answers that share a template are candidates in their thousands, so what is cheap comes first.
        candidates = (self._kept[number] for number in sorted(self._near.query(sketch)))
        likely = [kept for kept in candidates if sketch.jaccard(kept.sketch) >= self._least_estimate]
        best, of = 0.0, ""
        for start in range(0, len(likely), _BLOCK):
            for kept in _possible(found, likely[start : start + _BLOCK], self.similarity):
                if (similarity := jaccard(found, set(kept.shingles))) > best:
                    best, of = similarity, kept.id
        if best >= self.similarity:
            return Duplicate(identity, of, "near", best)
        self._near.insert(len(self._kept), sketch)
        self._kept.append(_Kept(identity, sketch, array("I", found)))
        return None


def _least_agreeing(similarity: float) -> int:
    """How many of the hashes of two answers of this similarity agree, but for a chance of `_MISSED`.

    Each hash agrees with the chance of the similarity; rensa's estimate varies less than independent ones would.
    """
    below = 0.0
    for agreeing in range(_NUM_HASHES):
        ways = math.comb(_NUM_HASHES, agreeing)
        below += ways * similarity**agreeing * (1 - similarity) ** (_NUM_HASHES - agreeing)
        if below > _MISSED:
            return agreeing
    return _NUM_HASHES


def _possible(found: set[int], others: Sequence[_Kept], similarity: float) -> list[_Kept]:
    """Those of the others whose similarity may be as high: all that have it, and few more.

    Shared counts whatever agrees in its last 16 bits, which is never less than what agrees in all.
    """
    has_bits = np.zeros(1 << 16, np.bool_)
    has_bits[np.fromiter(found, np.uint32, len(found)) & 0xFFFF] = True
    sizes = np.array([len(kept.shingles) for kept in others])
    joined = np.frombuffer(b"".join(kept.shingles for kept in others), np.uint32)
    shared = np.add.reduceat(has_bits[joined & 0xFFFF], np.cumsum(sizes) - sizes, dtype=np.int64)
    is_possible = shared / (len(found) + sizes - shared) >= similarity
    return [others[place] for place in np.flatnonzero(is_possible)]


def find_duplicates(source: str, split: str, similarity: float, out: Path | None) -> DuplicateSummary:
    """Find the duplicates of a data source; with `out`, write duplicates.jsonl and duplicates.json there.

    Raises:
        UserError: the data cannot be read or is empty, `out` cannot be made, the similarity is out of range, or rensa
            is not installed.
    """
    if not 0.5 < similarity <= 1:
        raise UserError(f"--similarity {similarity:g}: give a number above 0.5 and at most 1.")
    found: list[Duplicate] = []
    num_examples = 0
    finder = DuplicateFinder(similarity)
    if out is not None:
        refuse_source(source, (out / "duplicates.jsonl", out / "duplicates.json"))
        make_folder(out)
    with progress.task("Comparing examples", total=None) as task:
        for num_examples, example in enumerate(stream_examples(source, split), start=1):  # noqa: B007 - counted
            if (duplicate := finder.add(example.pair)) is not None:
                found.append(duplicate)
            task.advance()
    if not num_examples:
        raise UserError(f"{source}: the data set is empty. Check the data.")
    kinds: tuple[DuplicateKind, ...] = ("exact", "code", "near")
    summary = DuplicateSummary(
        num_examples=num_examples,
        num_duplicates={kind: sum(one.kind == kind for one in found) for kind in kinds},
        similarity=similarity,
    )
    if out is not None:
        write_rows(out / "duplicates.jsonl", found)
        write_atomically(out / "duplicates.json", pretty_json(summary))
    return summary
