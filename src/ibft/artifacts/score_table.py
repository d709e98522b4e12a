"""A scan's rows as one Parquet file: written block by block, read column by column."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.artifacts.json_lines import error_reason
from ibft.artifacts.rows import Score, Subset
from ibft.errors import UserError

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "COUNTS",
    "SCORES_FILE",
    "WORD_FOR_WORD",
    "ScoredRow",
    "count_rows",
    "read_batches",
    "read_scores",
    "score_name",
    "score_table",
    "scores_file",
    "write_scores",
]

SCORES_FILE = "scores.parquet"

_HEADLINE = "ibft.score"  # key in the file's metadata, which other tools ignore

COUNTS = ("num_tokens", "num_prefix_tokens", "num_suffix_tokens", "num_matched_tokens")
"""Columns that count tokens; see `rows.Score`."""

WORD_FOR_WORD = ("extraction_strength", "exact_memorization")
"""Columns with shares of the response's tokens; see `rows.Score`."""

_NOT_SCORES = frozenset(Score.__struct_fields__) | {"num_free_tokens"}
"""The last is a column in tables of earlier versions, which also had every score without what syntax forces."""


class ScoredRow(NamedTuple):
    """One of an example's scores, with fields of `rows.Score`; `place` is its `index`, the number in the data."""

    place: int
    id: str
    value: float
    num_tokens: int
    fingerprint: str


def scores_file(path: Path) -> Path:
    """Return the file of scores that a path stands for: itself, or that of a scan's folder, or of a run's."""
    inside = path / "scan" if (path / "scan").is_dir() else path
    return inside / SCORES_FILE if path.is_dir() else path


def score_table(rows: Sequence[Score], score_names: Sequence[str], headline: str) -> pyarrow.Table:
    """Return the rows as a table with the columns of `write_scores`.

    Raises:
        UserError: pyarrow is not installed.
    """
    return _table(rows, _schema(score_names, headline))


def _table(rows: Sequence[Score], schema: pyarrow.Schema) -> pyarrow.Table:
    fields = Score.__struct_fields__
    columns = [
        [getattr(row, name) if name in fields else row.scores.get(name) for row in rows] for name in schema.names
    ]
    return _pyarrow().table(columns, schema=schema)


def write_scores(
    path: Path,
    blocks: Iterable[Iterable[Score]],
    score_names: Sequence[str],
    headline: str,
    *,
    keeps_tokens: bool = False,
) -> None:
    """Write the rows, one row group per block, sorted by `index`, under a temporary name first.

    One block is in memory at a time.

    Columns: the fields of `rows.Score`, with each score in a column of its own (float64, null where there is none).
    The headline score's name is in the file's metadata. With `keeps_tokens` there is a column for `log_probs`.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.
    """
    pa = _pyarrow()
    import pyarrow.parquet as pq

    # A kill leaves a file without its footer, which nobody can read: under the final name it must be whole.
    temporary = path.with_name(f".{path.name}.tmp")
    schema = _schema(score_names, headline)
    if keeps_tokens:
        schema = schema.append(pa.field("log_probs", pa.list_(pa.float64())))
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for block in blocks:
                # A block's rows come by length, as they were batched.
                rows = sorted(block, key=lambda row: row.index)
                writer.write_table(_table(rows, schema))
        os.replace(temporary, path)
        # pyarrow keeps freed memory in a pool of its own: it goes back before the findings need some.
        pa.default_memory_pool().release_unused()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error_reason(error)}). Free space, then run again.") from None


def _schema(score_names: Sequence[str], headline: str) -> pyarrow.Schema:
    pa = _pyarrow()
    return pa.schema(
        [("id", pa.string()), ("subset", pa.string()), ("index", pa.int64())]
        + [(name, pa.int64()) for name in COUNTS]
        + [(name, pa.float64()) for name in (*score_names, "suffix_log_prob", *WORD_FOR_WORD)]
        + [
            ("file", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("fingerprint", pa.string()),
            ("reason", pa.string()),
        ],
        metadata={_HEADLINE: headline},
    )


def score_name(path: Path, word: str | None) -> str:
    """Return a score's name, or what a shorter word stands for: `min_k` and `min_k_plus_plus` (K = 20), `nll`.

    None stands for the headline score of the scan that `path` stands for (`scores_file`).

    Raises:
        UserError: there is no such file.
    """
    if word is None:
        return str(_open(scores_file(path)).schema_arrow.metadata[_HEADLINE.encode()].decode())
    return {"min_k": "min_k_prob_20", "min_k_plus_plus": "min_k_plus_plus_20", "nll": "mean_nll"}.get(word, word)


def read_scores(path: Path, score: str, subset: Subset | None = None) -> Iterator[ScoredRow]:
    """Yield the examples that have a score, in the order of the data.

    Args:
        path: a scan's (`scores_file`).
        score: the name of the score.
        subset: only these; None is all.

    Raises:
        UserError: there is no such file, or no such score in it.
    """
    columns = ["index", "id", "num_tokens", "fingerprint"]
    # Column by column: the other scores of a large table are never read.
    for batch in read_batches(scores_file(path), columns, subset, [score]):
        rows = zip(batch["index"], batch["id"], batch[score], batch["num_tokens"], batch["fingerprint"], strict=True)
        yield from (ScoredRow(*row) for row in rows if row[2] is not None)


def read_batches(
    path: Path, columns: Sequence[str], subset: Subset | None, scores: Sequence[str] = (), *, only_scored: bool = False
) -> Iterator[dict[str, list[Any]]]:
    """Yield these columns and scores of the rows of one subset, or of all, a few thousand rows at a time.

    Args:
        path: the file.
        columns: fields of `rows.Score`.
        subset: only these; None is all.
        scores: names of scores; a value that is missing is None.
        only_scored: leave out the examples that have no scores.

    Raises:
        UserError: there is no such file, or no such column or score in it.
    """
    file = _open(path)
    known = file.schema_arrow.names
    names = [name for name in known if name not in _NOT_SCORES]
    missing = [name for name in scores if name not in names] + [name for name in columns if name not in known]
    if missing:
        raise UserError(f"{path} has no score {missing[0]!r}. It has {', '.join(names)}.")
    wanted = [*columns, *scores]
    with _explained(path):
        # Besides what was asked for, the two columns that rows are chosen by.
        for batch in file.iter_batches(batch_size=4096, columns=list({"subset", "num_tokens", *wanted})):
            if subset is not None:
                batch = batch.filter(_pyarrow().compute.equal(batch["subset"], subset))
            if only_scored:
                batch = batch.filter(_pyarrow().compute.greater(batch["num_tokens"], 0))
            yield {name: batch[name].to_pylist() for name in wanted}
    _pyarrow().default_memory_pool().release_unused()


def count_rows(path: Path) -> int:
    """Return how many rows the file of scores has, of both subsets, with scores or without.

    Raises:
        UserError: there is no such file.
    """
    return int(_open(path).metadata.num_rows)


def _open(path: Path) -> pyarrow.parquet.ParquetFile:
    _pyarrow()
    import pyarrow.parquet

    with _explained(path):
        return pyarrow.parquet.ParquetFile(path)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not a readable file of scores ({error}). Run `ibft scan` first.") from None


def _pyarrow() -> Any:
    # Imported here: judging and reporting work without it.
    try:
        import pyarrow
        import pyarrow.compute  # an attribute of pyarrow from here on
    except ImportError:
        raise UserError(
            "The scores of a scan are a Parquet file, and pyarrow is not installed: `pip install 'ibft[audit]'`."
        ) from None
    return pyarrow
