"""Duplicates within the data: examples whose answers were there before, exact, equal as code, or nearly equal.

A duplicate makes a model memorize (Lee et al., arXiv 2107.06499), and inflates whatever is averaged over the data. What
is compared is what the model learns to write: the completion's code (`code.code_of`). Candidates for near-duplicates
come from MinHash and locality-sensitive hashing (rensa); the similarity that decides is computed exactly, so that
none is reported which is none, and one at the threshold is missed with a chance below 0.1%.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from ibft import progress
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.memorization.code import code_of, jaccard, prompt_text, shingles, whole
from ibft.rows import Pair, pretty_json, write_atomically, write_rows

__all__ = ["Duplicate", "DuplicateFinder", "DuplicateSummary", "find_duplicates"]

DuplicateKind = Literal["exact", "code", "near"]

MIN_TOKENS = 20
"""Below this, code is equal by chance (`return self.name`): only exact copies of prompt and completion count."""
SIMILARITY = 0.7
"""Jaccard similarity of 5-token shingles from which two answers are near-duplicates (StarCoder, arXiv 2305.06161)."""
_NUM_BANDS, _BAND_ROWS = 32, 4
"""Found with a chance of 1 - (1 - s^4)^32: 0.9998 at 0.7, 0.62 at 0.42; what is too much is then compared exactly."""


class Duplicate(msgspec.Struct, frozen=True):
    """An example, and the earlier one that it repeats.

    `kind`: `exact` (prompt and completion, but for white space at their ends), `code` (equal but for names, comments
    and layout) or `near`. `similarity`: Jaccard of the code's shingles; 1 for the other kinds.
    """

    id: str
    of: str
    kind: DuplicateKind
    similarity: float


class DuplicateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the examples repeat an earlier one, by kind."""

    num_examples: int
    num_duplicates: dict[DuplicateKind, int]
    similarity: float


class DuplicateFinder:
    """Compares each example with all the earlier ones that are no duplicates themselves.

    So every duplicate points at an example that stays if all duplicates are dropped, and the first of equal ones
    stays. Needs about 2 KB of memory for each that stays.

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
        self._sketch: Callable[[], Any] = lambda: RMinHash(num_perm=_NUM_BANDS * _BAND_ROWS, seed=0)
        self._near = RMinHashLSH(threshold=similarity, num_perm=_NUM_BANDS * _BAND_ROWS, num_bands=_NUM_BANDS)
        # What an equal example repeats: the example of that text or code, or what that one itself repeats.
        self._exact: dict[bytes, Duplicate] = {}
        self._code: dict[str, Duplicate] = {}
        self._kept: list[tuple[str, array[int]]] = []

    def add(self, pair: Pair) -> Duplicate | None:
        """The earlier example that this one repeats, if any."""
        prompt = prompt_text(pair)
        text = f"{prompt.strip()}\0{pair.completion.strip()}".encode(errors="replace")
        key = hashlib.blake2b(text, digest_size=16).digest()
        if (known := self._exact.get(key)) is not None:
            return msgspec.structs.replace(known, id=pair.id)
        unit = whole("\n".join(code_of(prompt, pair.completion)))
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
        best, of = 0.0, ""
        for number in sorted(self._near.query(sketch)):
            name, kept = self._kept[number]
            # Sizes alone bound the similarity, and most candidates end here.
            if min(len(found), len(kept)) < self.similarity * max(len(found), len(kept)):
                continue
            if (similarity := jaccard(found, set(kept))) > best:
                best, of = similarity, name
        if best >= self.similarity:
            return Duplicate(identity, of, "near", best)
        self._near.insert(len(self._kept), sketch)
        self._kept.append((identity, array("I", found)))
        return None


def find_duplicates(source: str, split: str, similarity: float, out: Path | None) -> DuplicateSummary:
    """Find the duplicates of a data source; with `out`, write duplicates.jsonl and duplicates.json there.

    Raises:
        UserError: the data cannot be read, the similarity is out of range, or rensa is not installed.
    """
    if not 0.5 < similarity <= 1:
        raise UserError(f"--similarity {similarity:g}: give a number above 0.5 and at most 1.")
    found: list[Duplicate] = []
    num_examples = 0
    finder = DuplicateFinder(similarity)
    with progress.task("Comparing examples", total=None) as task:
        for num_examples, example in enumerate(stream_examples(source, split), start=1):  # noqa: B007 - counted
            if (duplicate := finder.add(example.pair)) is not None:
                found.append(duplicate)
            task.advance()
    kinds: tuple[DuplicateKind, ...] = ("exact", "code", "near")
    summary = DuplicateSummary(
        num_examples=num_examples,
        num_duplicates={kind: sum(one.kind == kind for one in found) for kind in kinds},
        similarity=similarity,
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_rows(out / "duplicates.jsonl", found)
        write_atomically(out / "duplicates.json", pretty_json(summary))
    return summary
