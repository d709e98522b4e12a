"""A scan's scores beside a data source: where they are, and whether they are of its examples."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ibft.data.tokenize import is_unicode
from ibft.memorization.examples import fingerprint
from ibft.rows import Pair, Subset
from ibft.score_table import SCORES_FILE, read_batches

__all__ = ["Scanned", "read_scanned", "scores_file"]


class Scanned(NamedTuple):
    """An example's score, its length in scored tokens, and what tells its code from other code."""

    value: float
    num_tokens: int
    fingerprint: str

    def is_of(self, pair: Pair) -> bool:
        """Whether the example that was scanned under the pair's id had its code (`examples.fingerprint`)."""
        return is_unicode(pair) and fingerprint(pair) == self.fingerprint


def scores_file(path: Path) -> Path:
    """The file of scores that a path stands for: itself, or that of a scan's folder, or of a run's."""
    inside = path / "scan" if (path / "scan").is_dir() else path
    return inside / SCORES_FILE if path.is_dir() else path


def read_scanned(path: Path, score: str, subset: Subset | None = None) -> dict[str, Scanned]:
    """The examples that have the score, by id, in the order of the scan.

    Args:
        path: of `scores_file`.
        score: the name of a score.
        subset: only these; None is all.

    Raises:
        UserError: there is no such file, or no such score in it.
    """
    found: dict[str, Scanned] = {}
    for batch in read_batches(path, ["id", "num_tokens", "fingerprint"], subset, [score]):
        rows = zip(batch["id"], batch[score], batch["num_tokens"], batch["fingerprint"], strict=True)
        found |= {row[0]: Scanned(*row[1:]) for row in rows if row[1] is not None}
    return found
