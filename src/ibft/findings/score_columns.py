"""A scan's table as columns: read in small batches, and each score when it is needed."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibft.artifacts.rows import Subset
from ibft.artifacts.score_table import COUNTS, count_rows, read_batches
from ibft.findings.columns import Columns, first_copies

__all__ = ["common_rows", "read_columns", "read_places", "read_reasons", "read_shares"]


def read_columns(path: Path, subset: Subset, score_names: Sequence[str]) -> Columns:
    """Read the scored examples of one subset, with a few thousand rows in memory besides the columns."""
    # At most 8 bytes per number: 200,000 examples take 1.04 times the memory of 10,000 (docs/performance.md).
    # Arrays of the table's size from the start: lists of numbers would take several times as much.
    most = count_rows(path)
    numbers: dict[str, NDArray[Any]] = {name: np.empty(most, np.int32) for name in COUNTS}
    numbers |= {"suffix_log_prob": np.empty(most, np.float64)}
    numbers |= {name: np.empty(most, np.int64) for name in ("fingerprint", "example", "file")}
    files: list[str | None] = []
    tags: list[tuple[str, ...]] = []
    known_tags: dict[tuple[str, ...], tuple[str, ...]] = {}
    names = ["id", *COUNTS, "suffix_log_prob", "file", "tags", "fingerprint"]
    for batch in read_batches(path, names, subset, only_scored=True):
        new = slice(len(files), len(files) + len(batch["id"]))
        for name in (*COUNTS, "suffix_log_prob"):
            numbers[name][new] = batch[name]
        numbers["fingerprint"][new] = _codes(batch["fingerprint"])
        # With the subset, since equal ids in two sources are not copies.
        numbers["example"][new] = _codes(f"{subset} {identity}" for identity in batch["id"])
        numbers["file"][new] = _codes(f"file {file or ''}" for file in batch["file"])
        # One object for equal files and for equal tags: 70 bytes per distinct one, and not per example.
        files += [None if file is None else sys.intern(file) for file in batch["file"]]
        tags += [known_tags.setdefault(names, names) for names in map(tuple, batch["tags"])]
    numbers = {name: column[: len(files)] for name, column in numbers.items()}
    first = first_copies(numbers["fingerprint"])
    has_file = np.fromiter((file is not None for file in files), bool, len(files))
    return Columns(
        groups=np.where(has_file, numbers["file"], numbers["example"][first]),
        scores=_Scores(path, subset, score_names),
        suffix_log_prob=numbers["suffix_log_prob"],
        files=files,
        tags=tags,
        codes=numbers["fingerprint"],
        **{name: numbers[name] for name in COUNTS},
    )


def _codes(keys: Iterable[str]) -> NDArray[np.int64]:
    """Return 64 bits of each text's hash: the findings hold numbers, not texts, so that their memory stays flat."""
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), np.int64)


class _Scores(Mapping[str, NDArray[np.float64]]):
    """Each score's column, read from the file each time it is needed, so that one of many is in memory."""

    def __init__(self, path: Path, subset: Subset, names: Sequence[str]) -> None:
        self._path, self._subset, self._names = path, subset, tuple(names)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self._names:
            raise KeyError(name)
        values, num = np.empty(count_rows(self._path), np.float64), 0
        for batch in read_batches(self._path, [], self._subset, [name], only_scored=True):
            values[num : num + len(batch[name])] = batch[name]
            num += len(batch[name])
        return values[:num]

    def __contains__(self, name: object) -> bool:  # a Mapping's own would read the column
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_places(path: Path, subset: Subset) -> list[int]:
    """Return the places in the data of the rows that `read_columns` returns, in their order."""
    batches = read_batches(path, ["index"], subset, only_scored=True)
    return [place for batch in batches for place in batch["index"]]


def common_rows(a: Path, b: Path, subset: Subset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of two tables' columns whose examples have scores in both, in the order of the data."""
    # An example may have finite probabilities under one of two models alone.
    of_a, of_b = (np.array(read_places(path, subset), np.int64) for path in (a, b))
    _, rows_a, rows_b = np.intersect1d(of_a, of_b, assume_unique=True, return_indices=True)
    return rows_a.astype(np.int64), rows_b.astype(np.int64)


def read_shares(path: Path, subset: Subset, name: str) -> NDArray[np.float64]:
    """Return a column of `WORD_FOR_WORD`, of the rows that `read_columns` returns, in their order."""
    batches = read_batches(path, [name], subset, only_scored=True)
    return np.array([value for batch in batches for value in batch[name]], np.float64)


def read_reasons(path: Path, subset: Subset) -> dict[str, int]:
    """Count the examples of a subset that have no scores, by reason."""
    reasons = (reason for batch in read_batches(path, ["reason"], subset) for reason in batch["reason"])
    return dict(Counter(reason for reason in reasons if reason is not None))
