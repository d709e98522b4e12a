"""Duplicates within the data: examples whose answers were there before, exact, equal as code, or nearly equal.

Duplicates make a model memorize (Lee et al., arXiv 2107.06499), and inflate whatever is averaged over the data. What
is compared is what the model learns to write: the completion's code (`code.codes_of`). Candidates for near-duplicates
come from MinHash and locality-sensitive hashing (rensa), without those whose sketches agree far too little. The
similarity that decides is computed exactly, so that every reported duplicate is one; a duplicate at the threshold of
0.7 is missed with a chance below 0.1% (at 0.55: 5%). Code below 20 tokens is a duplicate only of an equal prompt and
completion.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, write_atomically, write_rows
from ibft.artifacts.rows import TrainingPair
from ibft.curation.near import NearIndex, exact_key
from ibft.curation.outputs import make_folder, refuse_source
from ibft.data.code import MIN_TOKENS, SIMILARITY, codes_of, shingles, whole
from ibft.data.training import stream_examples
from ibft.errors import UserError

__all__ = ["Duplicate", "DuplicateFinder", "DuplicateSummary", "find_duplicates"]

DuplicateKind = Literal["exact", "code", "near"]


class Duplicate(msgspec.Struct, frozen=True):
    """An example, and the earlier one that it repeats.

    `kind`: `exact` (prompt and completion, except for white space at their ends), `code` (equal except for names,
    comments and layout) or `near`. `similarity`: Jaccard similarity of the code's shingles; 1 for the other kinds.
    """

    id: str
    of: str
    kind: DuplicateKind
    similarity: float


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
        self.similarity = similarity
        self._near = NearIndex(similarity)
        # What an equal example repeats: the first example of that text or code, or the one that this repeats itself.
        self._exact: dict[bytes, Duplicate] = {}
        self._code: dict[str, Duplicate] = {}
        self._ids: list[str] = []

    def add(self, pair: TrainingPair) -> Duplicate | None:
        """Return the earlier example that this one repeats, if any; later ones are compared with this one, too."""
        return self._compare(pair, keeps=True)

    def find(self, pair: TrainingPair) -> Duplicate | None:
        """Return the example among those that were added that this one repeats, if any; this one is not added."""
        return self._compare(pair, keeps=False)

    def _compare(self, pair: TrainingPair, *, keeps: bool) -> Duplicate | None:
        key = exact_key(pair)
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
        entry = self._near.entry(pieces)
        best = max(self._near.similar(entry), key=lambda found: found.similarity, default=None)  # of equals, the first
        if best is not None:
            return Duplicate(identity, self._ids[best.number], "near", best.similarity)
        if keeps:
            self._near.add(entry)
            self._ids.append(identity)
        return None


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
