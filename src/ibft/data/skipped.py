"""Rows that are left out, so that nothing is dropped in silence: counted by reason, and named in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ibft import progress
from ibft.errors import PromptError, RowError

__all__ = ["LOUD_SHARE", "SkippedRow", "TakesSkipped", "counted", "say_skipped"]

LOUD_SHARE = 0.1
"""From this share of skipped rows on, a command says so where it cannot be missed."""


class SkippedRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row that is left out: what it is called, why in a few words, and the whole sentence where there is one.

    `source` is named where a row cannot be read and the data has several sources.
    """

    id: str
    reason: str
    message: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, row_id: str, error: RowError | PromptError, source: str | None = None) -> SkippedRow:
        """Return the row that an error is about."""
        reason = error.reason if isinstance(error, RowError) else "refused by the chat template"
        return cls(row_id, reason, str(error), source)


class TakesSkipped(Protocol):
    """Takes the rows that are left out while data is read: a list, or whatever counts them."""

    def append(self, row: SkippedRow, /) -> None:
        """Take one row."""


def counted(rows: Iterable[SkippedRow]) -> list[tuple[str, int]]:
    """Return reasons with the number of their rows, the most frequent first."""
    return Counter(row.reason for row in rows).most_common()


def say_skipped(num_used: int, skipped: Sequence[SkippedRow], file: Path) -> None:
    """Say how many rows are used and how many are left out, by reason; loudly where it is more than a tenth.

    Args:
        num_used: the rows that are used.
        skipped: those that are not.
        file: where they are named.
    """
    num_rows = num_used + len(skipped)
    if not skipped:
        progress.say(f"Data: {num_used:,} rows, none skipped")
        return
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in counted(skipped))
    text = f"{len(skipped):,} of {num_rows:,} rows are skipped ({reasons}), see {file}"
    if len(skipped) > LOUD_SHARE * num_rows:
        progress.warn(f"{100 * len(skipped) / num_rows:.0f}% OF THE DATA IS NOT TRAINED", text)
    else:
        progress.say(f"Data: {text}")
