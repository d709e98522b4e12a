"""What intervals over seeds and problems hold: the widest of the three, and what each rule alone would.

    OMP_NUM_THREADS=1 python benchmarks/seeds.py --studies 2000

Two arms with equal means, as in `tests/statistics/test_crossed.py`, whose mixtures of variances these are. For each
number of seeds the table has the coverage of 95% intervals in the worst of all cells (20, 80 and 164 problems, 1 and 10
samples, eight mixtures); a share of 2,000 studies has a standard error of half a point.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

from ibft.statistics.crossed import Crossed, cross
from ibft.statistics.student import student_quantile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.statistics.test_crossed import SHARES, drawn

RULES = {"the widest of the three": (0, 1, 2), "Satterthwaite's alone": (2,), "the wider one of the other two": (0, 1)}


def holds(found: Crossed, places: tuple[int, ...]) -> bool:
    """Whether 0 is within the widest interval of these standard errors (all, where fewer are defined)."""
    errors = [found.errors[place] for place in places if place < len(found.errors)] or found.errors
    return any(abs(found.value) <= error * student_quantile(freedom) for error, freedom in errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    arguments = parser.parse_args()
    worst = {}
    for seeds in (3, 5, 10):
        rng = np.random.default_rng(seeds)
        cells = itertools.product((20, 80, 164), (1, 10), SHARES)
        for problems, samples, spreads in cells:
            tables = drawn(rng, (arguments.studies, seeds, problems), samples, *spreads)
            crossed = [cross(table) for table in tables]
            for rule, places in RULES.items():
                share = float(np.mean([holds(found, places) for found in crossed]))
                worst[rule, seeds] = min(share, worst.get((rule, seeds), 1.0))
    print("| | 3 seeds | 5 seeds | 10 seeds |\n|---|---|---|---|")
    for rule in RULES:
        print(f"| {rule} | {' | '.join(f'{worst[rule, seeds]:.1%}' for seeds in (3, 5, 10))} |")


if __name__ == "__main__":
    main()
