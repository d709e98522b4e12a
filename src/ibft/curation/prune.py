"""`ibft prune`: a data source without some of its examples, and a record of what was dropped and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, raw_row, write_atomically, write_rows
from ibft.artifacts.score_table import ScoredRow, read_scores, score_name, scores_file
from ibft.curation.duplicates import DuplicateFinder
from ibft.curation.outputs import make_folder, refuse_source
from ibft.curation.selection import (
    Dropped,
    drop_duplicates,
    drop_length_matched,
    drop_lowest,
    drop_random,
)
from ibft.data.fingerprint import has_fingerprint
from ibft.data.training import stream_examples
from ibft.errors import UserError

__all__ = ["Control", "Lengths", "PruneRecord", "prune"]

Control = Literal["none", "random", "length-matched", "duplicates"]


class Lengths(msgspec.Struct, frozen=True):
    """Lengths in scored tokens: how many examples, their mean, and the 5, 25, 50, 75 and 95% quantiles."""

    num_examples: int
    mean: float
    quantiles: tuple[float, ...]


class PruneRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of what was dropped, why, and what that did to the lengths.

    Only examples that the scan scored can be dropped: `num_unscored` others stay. `lengths` are those of the scored
    examples before and after, of the dropped ones, and of the most memorized ones, instead of which a control drops
    others. `notes` say where the result is not what was asked for.
    """

    data: str
    scores: str
    by: str
    control: Control
    seed: int
    num_examples: int
    num_unscored: int
    num_asked: int
    num_dropped: int
    lengths: dict[str, Lengths | None]
    notes: tuple[str, ...]
    dropped: list[Dropped]


def prune(
    source: str,
    split: str,
    scores: Path,
    out: Path,
    *,
    by: str | None = None,
    drop: str,
    control: Control = "none",
    seed: int = 0,
) -> PruneRecord:
    """Write the data's own rows, except for the dropped ones, to `out`, and the record beside it as `.json`.

    Args:
        source: the data that was scanned, as in `data.train`.
        split: split of a hub data set.
        scores: a run's folder, its scan folder, or its file of scores.
        out: a `.jsonl` file; neither it nor the record may be the data, or the record some other file.
        by: name of a score, see `score_table.score_name`; the lowest are the most memorized. None: the scan's headline
            score.
        drop: `10%` of the scored examples, or a number of examples.
        control: drop as many others instead: by chance, of the same lengths, or duplicates.
        seed: random seed of the controls.

    Raises:
        UserError: a bad argument, a scan of other data, an id that occurs twice, or a file that would be overwritten.
    """
    record_file = _record_file(source, out)
    scores, by = scores_file(scores), score_name(scores, by)
    scanned = {row.id: row for row in read_scores(scores, by, "train")}
    ids = _ids(source, split, scanned, scores)
    scored = {identity: scanned[identity] for identity in ids if identity in scanned}  # in the order of the data
    if not scored:
        raise UserError(f"--scores {scores}: has no score of an example of {source}. Scan this data first.")
    count = _count(drop, len(scored))
    dropped = _choose(control, scored, count, seed, source, split)
    gone = {example.id for example in dropped}
    make_folder(out.parent)
    # A second pass over the data: its rows are not held.
    kept = (example.row for example in stream_examples(source, split) if example.pair.id not in gone)
    write_rows(out, map(raw_row, kept))
    record = PruneRecord(
        data=source,
        scores=str(scores),
        by=by,
        control=control,
        seed=seed,
        num_examples=len(ids),
        num_unscored=len(ids) - len(scored),
        num_asked=count,
        num_dropped=len(dropped),
        lengths=_lengths_of_all(scored, gone, count),
        notes=_notes(control, count, len(dropped), len(ids) - len(scored)),
        dropped=dropped,
    )
    write_atomically(record_file, pretty_json(record))
    return record


def _choose(
    control: Control, scores: Mapping[str, ScoredRow], count: int, seed: int, source: str, split: str
) -> list[Dropped]:
    if control == "random":
        return drop_random(scores, count, seed)
    if control == "length-matched":
        return drop_length_matched(scores, count, seed)
    if control == "duplicates":
        finder = DuplicateFinder()
        duplicates = [finder.add(example.pair) for example in stream_examples(source, split)]
        # As by the other controls, only what the scan has scored is dropped: the shares are of these.
        return drop_duplicates([copy for copy in duplicates if copy is not None and copy.id in scores], count)
    return drop_lowest(scores, count)


def _record_file(source: str, out: Path) -> Path:
    """Return where the record goes; neither it nor `out` may overwrite the data, nor the record a foreign file."""
    if out.suffix != ".jsonl":
        raise UserError(f"--out {out}: give the name of a .jsonl file.")
    record = out.with_suffix(".json")
    refuse_source(source, (out, record))
    try:
        if record.exists():
            msgspec.json.decode(record.read_bytes(), type=PruneRecord)
    except (OSError, msgspec.MsgspecError):
        raise UserError(
            f"--out: the record would overwrite {record}, which `ibft prune` did not write. Choose another name."
        ) from None
    return record


def _ids(source: str, split: str, scanned: Mapping[str, ScoredRow], scores: Path) -> dict[str, None]:
    """Return the ids of the data in its order, and check that those with scores are of the same examples."""
    ids: dict[str, None] = {}
    num_scored = num_others = 0
    with progress.task("Reading the data", total=None) as task:
        for example in stream_examples(source, split):
            task.advance()
            if example.pair.id in ids:
                raise UserError(
                    f"{source}: the id {example.pair.id!r} occurs twice, so its score could be of either example. "
                    "Give each row its own id, or none."
                )
            ids[example.pair.id] = None
            if (row := scanned.get(example.pair.id)) is not None:
                num_scored += 1
                # An id is a line's number where rows have none, so it may be of another example by now.
                num_others += not has_fingerprint(example.pair, row.fingerprint)
    if num_others:
        raise UserError(
            f"--scores {scores}: {num_others} of the {num_scored} examples of {source} that have scores are not what "
            "was scanned under their ids. Scan this data again; where rows come, go or move after a scan, give each an "
            "`id` of its own before it."
        )
    return ids


def _count(drop: str, num_scored: int) -> int:
    """Return how many examples `10%` or `500` are."""
    share, is_share, rest = drop.strip().partition("%")
    try:
        count = round(float(share) / 100 * num_scored) if is_share and not rest else int(drop)
    except (ValueError, OverflowError):  # `inf%` overflows
        raise UserError(f"--drop {drop}: expected a share such as 10%, or a number of examples.") from None
    if not 0 < count < num_scored:
        raise UserError(
            f"--drop {drop}: that is {count} of {num_scored} scored examples. Drop at least one, and leave one."
        )
    return count


def _lengths_of_all(scores: Mapping[str, ScoredRow], gone: set[str], num_asked: int) -> dict[str, Lengths | None]:
    """Return the lengths before and after, of the dropped examples, and of those that a control drops others for."""
    groups = {
        "before": set(scores),
        "after": scores.keys() - gone,
        "dropped": gone,
        "most memorized": {example.id for example in drop_lowest(scores, num_asked)},
    }
    return {name: _lengths(scores, ids) for name, ids in groups.items()}


def _lengths(scores: Mapping[str, ScoredRow], ids: set[str]) -> Lengths | None:
    """Return the lengths of these examples; None without examples."""
    values = [row.num_tokens for identity, row in scores.items() if identity in ids]
    if not values:
        return None
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    return Lengths(len(values), float(np.mean(values)), tuple(quantiles.tolist()))


def _notes(control: Control, asked: int, num_dropped: int, num_unscored: int) -> tuple[str, ...]:
    notes = []
    if num_dropped < asked:
        why = "duplicates" if control == "duplicates" else "other examples"
        notes.append(f"Only {num_dropped} of {asked} were dropped: there are no more {why}.")
    if num_unscored:
        notes.append(f"{num_unscored} examples have no score (see the scan's reasons, or scan.max_examples): all stay.")
    return tuple(notes)
