"""A scan's table as columns for the findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibft.memorization.comparison import Columns
from ibft.rows import Subset
from ibft.score_table import COUNTS, read_table

if TYPE_CHECKING:
    import pyarrow

__all__ = ["read_columns", "read_places", "read_reasons"]


def read_columns(path: Path, subset: Subset, score_names: Sequence[str]) -> Columns:
    """The scored examples of one subset."""
    import numpy as np

    wanted = ["subset", "id", *COUNTS, "suffix_log_prob", "file", "tags", "fingerprint"]
    table = _scored(path, wanted, subset, score_names)

    def numbers(name: str) -> Any:
        return table[name].to_numpy().astype(np.float64 if name not in COUNTS else np.int64)

    ids = table["id"].to_pylist()
    return Columns(
        ids=ids,
        scores={name: numbers(name) for name in score_names},
        suffix_log_prob=numbers("suffix_log_prob"),
        files=table["file"].to_pylist(),
        tags=table["tags"].to_pylist(),
        duplicate_of=_duplicates(ids, table["fingerprint"]),
        **{name: numbers(name) for name in COUNTS},
    )


def read_places(path: Path, subset: Subset) -> list[int]:
    """The places in the data of the rows that `read_columns` gives, in their order."""
    places: list[int] = _scored(path, ["subset", "index", "num_tokens"], subset)["index"].to_pylist()
    return places


def _scored(path: Path, columns: Sequence[str], subset: Subset, score_names: Sequence[str] = ()) -> pyarrow.Table:
    """`num_tokens` must be among the columns."""
    table = read_table(path, columns, subset, score_names)
    import pyarrow.compute

    return table.filter(pyarrow.compute.greater(table["num_tokens"], 0))


def _duplicates(ids: Sequence[str], fingerprints: pyarrow.ChunkedArray) -> list[str | None]:
    """For each example the id of the first with the same fingerprint, if that is another."""
    import numpy as np

    codes = fingerprints.combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    places = first[inverse]
    return [None if place == row else ids[place] for row, place in enumerate(places.tolist())]


def read_reasons(path: Path, subset: Subset) -> dict[str, int]:
    """How many examples of a subset have no scores, by reason."""
    counts = read_table(path, ["subset", "reason"], subset)["reason"].drop_null().value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}
