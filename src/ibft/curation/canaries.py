"""`ibft canary`: plant canaries in a data source, and measure with a model's scores how well it remembers them.

OUT                        the data with the canaries among it, to train on
canaries.jsonl             beside it: every canary (`canary_generator.Canary`), and how often it was planted
canaries_planted.jsonl     the planted ones, each once, and
canaries_held_out.jsonl    their twins that were not: `data.train` and `data.control` of the scan that scores them
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import raw_row, read_rows, write_rows
from ibft.artifacts.rows import Pair
from ibft.artifacts.score_table import read_scores, score_name
from ibft.curation.canary_generator import Canary, Language, make_canaries, plant_rows, row_like
from ibft.curation.outputs import make_folder, refuse_source
from ibft.data.fingerprint import has_fingerprint
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.statistics.uncertainty import Interval, auroc, auroc_interval

__all__ = ["CanaryCheck", "Remembered", "check_canaries", "exposure", "plant_canaries"]


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of how well the canaries that were planted `repeats` times are distinguished from the held-out ones.

    `auroc`: the chance that a planted canary scores lower (more predictable) than a held-out one, with its 95%
    interval. `mean_exposure`: bits, see `exposure`; `num_extreme`: how many score lower than every held-out canary.
    """

    repeats: int
    num_canaries: int
    auroc: float
    ci95: Interval
    mean_exposure: float
    num_extreme: int


class CanaryCheck(msgspec.Struct, frozen=True, kw_only=True):
    """All repetition counts, and what exposure is without memorization and at most."""

    by: str
    num_held_out: int
    exposure_by_chance: float
    exposure_at_most: float
    remembered: list[Remembered]
    num_unscored: int


def plant_canaries(
    source: str, split: str, out: Path, *, count: int, repeats: Sequence[int], seed: int, language: Language
) -> list[Canary]:
    """Write the data with canaries among it, in the shape of its first row, and the canaries beside it.

    Raises:
        UserError: the data cannot be read, is empty or would be overwritten, or the folder has canaries already.
    """
    truth = out.parent / "canaries.jsonl"
    if truth.exists():
        raise UserError(f"{truth} exists already: it is the truth about an earlier file. Choose another folder.")
    # The files beside it have names that begin so.
    if out.suffix != ".jsonl" or out.name.startswith("canaries"):
        raise UserError(f"--out {out}: give the name of a .jsonl file that does not begin with 'canaries'.")
    planted_file, held_out_file = (out.parent / f"canaries_{name}.jsonl" for name in ("planted", "held_out"))
    refuse_source(source, (out, planted_file, held_out_file))
    canaries = make_canaries(count, repeats, seed, language)
    # A pass of its own counts the rows: each copy's place is drawn among all of them.
    first, num_rows = None, 0
    with progress.task("Reading the data", total=None):
        for num_rows, example in enumerate(stream_examples(source, split), start=1):  # noqa: B007 - counted
            first = first or example.row
    if first is None:
        raise UserError(f"{source} has no examples to plant canaries among.")
    planted = [row_like(first, canary, copy + 1) for canary in canaries for copy in range(canary.repeats)]
    rows = (example.row for example in stream_examples(source, split))
    make_folder(out.parent)
    write_rows(out, map(raw_row, plant_rows(rows, num_rows, planted, seed)))
    write_rows(planted_file, (canary for canary in canaries if canary.repeats))
    write_rows(held_out_file, (canary for canary in canaries if not canary.repeats))
    # Last, since a folder that has it is refused: an interrupted command can be run again.
    write_rows(truth, canaries)
    return canaries


def exposure(value: float, held_out: Sequence[float]) -> float:
    """Return log2 of the number of candidates minus log2 of the canary's rank (Carlini et al., arXiv 1802.08232).

    The candidates are the held-out canaries and the canary itself, a sample of all that the generator could have made,
    so exposure is at most log2(len(held_out) + 1). Equal scores share the middle of their ranks.

    Args:
        value: the canary's score; lower = more predictable.
        held_out: scores of the canaries that were not planted.
    """
    below = sum(other < value for other in held_out)
    equal = sum(other == value for other in held_out)
    return math.log2(len(held_out) + 1) - math.log2(1 + below + equal / 2)


def exposure_by_chance(num_held_out: int) -> float:
    """Return the mean exposure if all ranks are equally likely: log2(n) - log2(n!) / n of n candidates.

    1.44 bits for many candidates.
    """
    num = num_held_out + 1
    return math.log2(num) - math.lgamma(num + 1) / math.log(2) / num


def check_canaries(canaries: Path, scores: Sequence[Path], by: str = "nll", seed: int = 0) -> CanaryCheck:
    """Compare planted canaries with held-out ones by a model's scores.

    Args:
        canaries: the file of `plant_canaries`.
        scores: runs' folders, their scan folders, or files of scores, in which each canary has its id.
        by: name of a score, see `score_table.score_name`.
        seed: random seed of the bootstrap.

    Raises:
        UserError: a file cannot be read, a scan is of anything but these canaries, or fewer than two of some kind have
            a score.
    """
    known = {canary.id: canary for canary in read_rows(canaries, Canary)}
    values: dict[str, float] = {}
    for path in scores:
        # By content as well as by id: another list may have other canaries under the same ids.
        scanned = {row.id: row for row in read_scores(path, score_name(path, by))}
        num_others = sum(
            (canary := known.get(row.id)) is None
            or not has_fingerprint(Pair(canary.id, canary.prompt, canary.completion), row.fingerprint)
            for row in scanned.values()
        )
        if num_others:
            raise UserError(
                f"--scores {path}: {num_others} of {len(scanned)} scored examples are not among the canaries of "
                f"{canaries}. Scan canaries_planted.jsonl and canaries_held_out.jsonl from beside that file."
            )
        values |= {row.id: row.value for row in scanned.values()}
    groups: dict[int, list[float]] = {}
    for canary in known.values():
        of_group = groups.setdefault(canary.repeats, [])
        if canary.id in values:
            of_group.append(values[canary.id])
    held_out = groups.pop(0, [])  # planted 0 times
    few = [f"planted {repeats} times" for repeats, planted in sorted(groups.items()) if len(planted) < 2]
    few += ["held out"] if len(held_out) < 2 else []
    if few or not groups:
        raise UserError(
            f"{canaries}: fewer than two canaries {few[0] if few else 'planted'} have a score. Scan canaries_planted."
            "jsonl as data.train and canaries_held_out.jsonl as data.control, and give that scan's folder."
        )
    return CanaryCheck(
        by=by,
        num_held_out=len(held_out),
        exposure_by_chance=exposure_by_chance(len(held_out)),
        exposure_at_most=math.log2(len(held_out) + 1),
        remembered=[
            Remembered(
                repeats=repeats,
                num_canaries=len(planted),
                auroc=auroc(planted, held_out),
                ci95=auroc_interval(planted, held_out, seed=seed),
                mean_exposure=math.fsum(exposure(value, held_out) for value in planted) / len(planted),
                num_extreme=sum(value < min(held_out) for value in planted),
            )
            for repeats, planted in sorted(groups.items())
        ],
        num_unscored=len(known) - len(values),
    )
