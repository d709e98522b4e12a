"""Format apart from ability: Pass@1 is P(the answer is a program) times P(it passes | it is one).

Fine-tuning moves the first factor where it teaches how an answer looks, the second where it teaches how to solve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ibft.artifacts.metrics import Metric
from ibft.artifacts.report import FormatShares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ProblemTally", "format_shares"]


class ProblemTally(NamedTuple):
    """One problem's samples: the numbers of all, of programs, of passing ones, and of those cut at the token limit.

    `num_cut` is None where the generator did not record it.
    """

    num_samples: int
    num_programs: int
    num_passed: int
    num_cut: int | None


def format_shares(tallies: Sequence[ProblemTally], *, num_resamples: int = 10_000, seed: int = 0) -> FormatShares:
    """Return the shares over all samples of the problems.

    Raises:
        ValueError: num_resamples < 1.
    """
    import numpy as np

    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: it must be at least 1")
    # P problems, R resamples.
    samples_P, programs_P, passed_P = (
        np.array([tally[column] for tally in tallies], dtype=np.float64) for column in range(3)
    )
    cuts = [tally.num_cut for tally in tallies]
    rng = np.random.default_rng(seed)
    # A problem is drawn with all of its samples: those of one problem are not independent.
    weights_RP = rng.multinomial(len(tallies), [1 / len(tallies)] * len(tallies), num_resamples) if tallies else None

    def ratio(part_P: NDArray[np.float64], whole_P: NDArray[np.float64], why: str) -> Metric:
        if weights_RP is None or not whole_P.sum():
            return Metric(None, None, why)
        # A resample can lack every problem that has a program: there the share is undefined.
        wholes_R = weights_RP @ whole_P
        values_R = (weights_RP @ part_P)[wholes_R > 0] / wholes_R[wholes_R > 0]
        low, high = np.percentile(values_R, [2.5, 97.5])
        return Metric(float(part_P.sum() / whole_P.sum()), (float(low), float(high)))

    no_cut = Metric(None, None, "not recorded by the generator")
    return FormatShares(
        program=ratio(programs_P, samples_P, "no samples"),
        passes_if_program=ratio(passed_P, programs_P, "no sample is a program"),
        cut=no_cut if None in cuts else ratio(np.array(cuts, dtype=np.float64), samples_P, "no samples"),
    )
