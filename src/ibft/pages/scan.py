"""What the scan left: its summary, the numbers for its figure, and its most memorized examples.

Only JSON is read: the table of all scores (`scan/scores.parquet`) needs pyarrow, the page does not. Every field may be
missing: a run folder of an older version is shown as far as it goes, and `ScanSummary.verdict` is None there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import ShownExample
from ibft.errors import UserError
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe
from ibft.run.stage import read_record

__all__ = [
    "SUBSET_NAMES",
    "Auroc",
    "AurocDifference",
    "Barrier",
    "BarrierVerdict",
    "ControlComparison",
    "Densities",
    "Extraction",
    "Rescan",
    "RescanSummary",
    "Scan",
    "ScanSummary",
    "ScoreAuroc",
    "SubsetSummary",
    "Trait",
    "read_scan",
    "read_shown_examples",
    "read_summary",
]

SUBSET_NAMES = {"train": "training data", "control": "control set"}

Interval = tuple[float | None, float | None]
"""A 95% interval; JSON has null for an end that is undefined."""


class SubsetSummary(msgspec.Struct, frozen=True):
    """The training data or the control set: medians of each score, over the examples that have it."""

    num_examples: int | None = None
    num_scored: int | None = None
    num_tokens: int | None = None
    medians: dict[str, float | None] = {}


class Auroc(msgspec.Struct, frozen=True):
    """The chance that a training example is more predictable than a control example."""

    value: float | None = None
    ci95: Interval = (None, None)


class AurocDifference(msgspec.Struct, frozen=True):
    """A score's AUROC minus that of the blind classifier."""

    value: float | None = None
    ci95: Interval = (None, None)


class ScoreAuroc(msgspec.Struct, frozen=True):
    """One score's AUROC; `beats_blind` is None where there is no blind classifier."""

    name: str
    auroc: Auroc = Auroc()
    above_blind: AurocDifference | None = None
    beats_blind: bool | None = None


class ControlComparison(msgspec.Struct, frozen=True):
    """The training data beside the control set, matched by length.

    `num_groups` counts what the intervals take for independent: files, or examples of no known file. `length` is what
    length alone still tells, `num_blind_pairs` the pairs that the blind classifier was tried on.
    """

    num_pairs: int | None = None
    num_unmatched: dict[str, int] = {}
    num_groups: dict[str, int] = {}
    length: Auroc | None = None
    num_blind_pairs: int | None = None
    blind: Auroc | None = None
    blind_features: str = ""
    scores: list[ScoreAuroc] = []


class Trait(msgspec.Struct, frozen=True):
    """What the memorized examples have more often than the others; shares are fractions, `ci95` is of the ratio."""

    kind: str
    name: str
    num_memorized: int | None = None
    share_of_memorized: float | None = None
    share_of_all: float | None = None
    ratio: float | None = None
    ci95: Interval = (None, None)


class Barrier(msgspec.Struct, frozen=True):
    """The share of the training data below the threshold, which `expected_share` of the control set is below.

    The share is of the `num_examples` that were matched by length; `num_train` counts all that have a score.
    """

    threshold: float
    share: float
    ci95: Interval = (None, None)
    num_examples: int | None = None
    expected_share: float = 0.05
    num_memorized: int | None = None
    num_train: int | None = None
    num_train_memorized: int | None = None
    traits: list[Trait] = []


class Extraction(msgspec.Struct, frozen=True):
    """How many of one subset's examples the model continues word for word, given the response's first tokens."""

    num_examples: int = 0
    share: float | None = None
    ci95: Interval = (None, None)
    median_matched: float | None = None
    num_too_short: int | None = None
    prefix_tokens: int | None = None
    suffix_tokens: int | None = None
    within: list[tuple[int, float | None]] = []


class BarrierVerdict(msgspec.Struct, frozen=True):
    """The scan's answer in words."""

    barrier: Literal["yes", "no", "unclear"]
    headline: str
    sentences: list[str] = []
    advice: str = ""
    remedy: str = ""


class ScanSummary(msgspec.Struct, frozen=True):
    """`scan/summary.json`."""

    score: str = "min_k_prob_20"
    region: str = "response"
    subsets: dict[str, SubsetSummary] = {}
    skipped: dict[str, dict[str, int]] = {}
    num_in_both: dict[str, int] = {}
    comparison: ControlComparison | None = None
    barrier: Barrier | None = None
    extraction: dict[str, Extraction] = {}
    verdict: BarrierVerdict | None = None


class Densities(msgspec.Struct, frozen=True):
    """`densities.json`: at most 2,000 values of the headline score for each set, by its name in the legend."""

    label: str = ""
    series: dict[str, list[float]] = {}


class RescanSummary(msgspec.Struct, frozen=True):
    """`rescan/<arm>/summary.json`: the training data under a fine-tuned model."""

    arm: str = ""
    num_examples: int | None = None
    median_after: float | None = None
    share_below_threshold: float | None = None


class Rescan(NamedTuple):
    """One fine-tuned arm's scan."""

    summary: RescanSummary
    densities: Densities


class Scan(NamedTuple):
    """The scan of the base model, and of the fine-tuned arms that were scanned again, in the recipe's order."""

    summary: ScanSummary
    densities: Densities
    rescans: list[Rescan]


def read_scan(recipe: Recipe, run: RunFolder) -> Scan | None:
    """The scan, None if it has not run. Rescans that were made beside another scan are left out.

    Raises:
        UserError: one of its files is damaged.
    """
    folder = run.path / "scan"
    summary = read_summary(folder / "summary.json", ScanSummary)
    if summary is None:
        return None
    rescans = []
    scanned = read_record(folder)
    for name in recipe.arms:
        again = run.path / "rescan" / name
        record = read_record(again)
        if scanned and record and record.inputs.get("scan") != scanned.identity:
            continue
        if name != BASE_ARM and (found := read_summary(again / "summary.json", RescanSummary)) is not None:
            found = msgspec.structs.replace(found, arm=name)
            rescans.append(Rescan(found, read_summary(again / "densities.json", Densities) or Densities()))
    return Scan(summary, read_summary(folder / "densities.json", Densities) or Densities(), rescans)


def read_shown_examples(run: RunFolder) -> list[ShownExample]:
    """The most memorized examples, the most memorized first.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / "scan" / "most_memorized.jsonl"
    return list(read_rows(path, ShownExample)) if path.exists() else []


Summary = TypeVar("Summary", bound=msgspec.Struct)


def read_summary(path: Path, summary_type: type[Summary]) -> Summary | None:
    """A stage's JSON file, None if it does not exist.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=summary_type)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"{path}: {error}. Remove the folder {path.parent}, then run its stage again.") from None
