"""The report for programs: `report/report.json`.

`ibft export` reads it, and so do other tools: fields may be added, never renamed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ibft.artifacts.hollow import Hollow
from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.artifacts.metrics import Metric
from ibft.artifacts.summaries import read_summary
from ibft.artifacts.training import Alarm

__all__ = [
    "Arm",
    "AskedArm",
    "Comparison",
    "DecidedPair",
    "Difference",
    "Elicitation",
    "Forgetting",
    "FormatGain",
    "FormatShares",
    "Gain",
    "Kind",
    "Precision",
    "read_report",
    "write_report",
]

Kind = Literal["ability", "format", "open"]


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """The noise of a mean difference over P problems, all in units of the metric (0 to 1).

    `variance_between` and `variance_within` are of one problem's difference, so that the standard error is
    sqrt((between + within) / P); both are None where samples are too few to split it. `minimum_detectable` is the true
    difference that the rule finds in 4 of 5 such runs at the pair's level; None where too few problems are there.
    `narrowed_by_problems` and `narrowed_by_samples` are the shares by which twice as many narrow the interval; the
    latter is None where the split is unknown.
    """

    standard_error: float
    variance_between: float | None
    variance_within: float | None
    minimum_detectable: float | None
    narrowed_by_problems: float
    narrowed_by_samples: float | None


class DecidedPair(msgspec.Struct, frozen=True, kw_only=True):
    """Mean of `better` minus that of `other` over the problems both have, as a fraction, and what is decided of it.

    `better` has the higher mean (or comes first). `interval` has the `confidence` at which the pair was decided: 0.95
    for one pair alone, more among several. `p_value` is of the pair alone, `p_adjusted` corrected for the number of
    pairs. `is_separated`, `p_adjusted` <= 0.05 and an interval without 0 are one and the same.
    """

    better: str
    other: str
    value: float
    interval: tuple[float, float]
    confidence: float
    p_value: float
    p_adjusted: float
    # The rule's word: whoever compares floats again may decide otherwise at the edge.
    is_separated: bool
    num_problems: int


class Difference(DecidedPair, frozen=True, kw_only=True):
    """Two arms by the rule of `comparison`. `num_won`, `num_lost`: problems on which `better` is better, worse."""

    num_won: int
    num_lost: int
    precision: Precision

    @property
    def num_differing(self) -> int:
        """The number of problems on which the arms differ."""
        return self.num_won + self.num_lost

    def opponent(self, arm: str) -> str:
        """Return the other one of the two."""
        return self.other if arm == self.better else self.better

    def seen_from(self, arm: str) -> tuple[float, float, float]:
        """Return the lead of `arm` over the other one, negative where it is behind, and the ends of its interval."""
        low, high = self.interval
        return (self.value, low, high) if arm == self.better else (-self.value, -high, -low)


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest gain of an arm over every one of several references (intersection-union test).

    `value` is the smallest gain and `reference` whom it is over. `p_value` is the largest of the pairs', with 1 for a
    reference that the arm is not above, and `is_separated` says that it is at most the level. `interval` is of the
    smallest true gain: its lower end is above 0 exactly where the arm beats every reference.
    """

    arm: str
    reference: str
    value: float
    interval: tuple[float, float]
    confidence: float
    p_value: float
    is_separated: bool
    num_problems: int
    differences: list[Difference]


class FormatShares(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of an arm's samples, each with a 95% interval from a bootstrap over problems.

    program: P(the answer is a program: it is not empty, and compiles).
    passes_if_program: P(passes | it is a program).
    cut: P(it was cut at the token limit); undefined where that is not recorded.
    """

    program: Metric
    passes_if_program: Metric
    cut: Metric


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One judged arm; `shares` separate format from ability, `hollow` says that most samples hold no program."""

    name: str
    num_problems: int
    num_samples: int
    metrics: dict[str, Metric]
    statuses: dict[str, int]
    sandbox: str
    shares: FormatShares
    hollow: Hollow | None
    notes: list[str]

    @property
    def pass_at_1(self) -> Metric:
        """The metric that decides."""
        return self.metrics["pass@1"]


class AskedArm(msgspec.Struct, frozen=True, kw_only=True):
    """One arm in one format, one greedy sample per problem: Pass@1 and its two factors."""

    arm: str
    format: str
    num_problems: int
    pass_at_1: Metric
    shares: FormatShares


class FormatGain(msgspec.Struct, frozen=True, kw_only=True):
    """The gain of an arm over the base in every format.

    kind: `ability`, it beats the base in every format; `format`, it beats the base in its own format alone, and the
        base in another format is as good; `open`, neither is shown.
    """

    kind: Kind
    gain: Gain


class Elicitation(msgspec.Struct, frozen=True, kw_only=True):
    """`asked` has the base in every format and each arm in its own; `gains` the arms' gains, by arm.

    `missing` names the answers that were asked for and have no Pass@1 (not judged yet, or the sandbox failed): as long
    as there are any of the base, no gain is shown. `not_asked` names the recipe's formats in which the base was not
    asked.
    """

    asked: list[AskedArm]
    gains: dict[str, FormatGain]
    missing: list[str]
    not_asked: list[str]


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """Pass@1 on the second benchmark, by arm, and each arm's difference from the base, decided with all other pairs."""

    benchmark: str
    num_problems: int
    pass_at_1: dict[str, Metric]
    differences: list[Difference]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The judged arms compared, and the decision.

    `headline` is the decision in a few words, `verdict` its evidence in a sentence, `advice` what would separate
    arms that the data do not ("" where nothing has to be said). `candidates` are the arms that the best one is not
    shown to beat, itself included; one name means a clear winner, none that nothing could be compared. `differences`
    has every pair, decided together by the rule of `ibft.comparison`; `elicitation` what the base solves in other
    formats (None where it was not asked); `forgetting` what training cost on a
    second benchmark (None without one). `alarms` are of the training, for the arms that have any.
    """

    headline: str
    verdict: str
    advice: str
    candidates: list[str]
    arms: list[Arm]
    differences: list[Difference]
    elicitation: Elicitation | None
    forgetting: Forgetting | None
    alarms: dict[str, list[Alarm]]
    notes: list[str]
    k: list[int]
    temperature: float
    seed: int
    bootstrap_resamples: int


def write_report(folder: Path, comparison: Comparison) -> None:
    """Write `report.json` into the folder `report` of a run.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    write_atomically(folder / "report.json", pretty_json(comparison))


def read_report(folder: Path) -> Comparison | None:
    """Read `report.json` in the folder `report` of a run; None if there is none.

    Raises:
        UserError: it is damaged, or of another version of ibft.
    """
    return read_summary(folder / "report.json", Comparison, "Run `ibft report RECIPE` to make it again.")
