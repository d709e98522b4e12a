"""How often the rule for "A beats B" errs, cell by cell: false positives, families of arms, coverage and power.

    nice -n 5 python benchmarks/rule.py [--scale 1] [--out benchmarks/results/rule.json]

Writes every cell as JSON and prints the figures of docs/statistics.md. About 5 minutes of one core. The
populations are those of tests/comparison/rule_cells.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests/comparison"))
import rule_cells as cells  # noqa: E402

PROBLEMS = (5, 10, 20, 40, 80, 164)
SAMPLES = (1, 5, 20)
ARMS = ((2, 40, 1), (2, 40, 5), (3, 20, 1), (3, 80, 5), (5, 40, 1), (5, 20, 5), (10, 80, 1), (10, 164, 1), (10, 20, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="draws per cell, times this")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/rule.json")
    arguments = parser.parse_args()
    begin = time.time()
    draws = {
        name: int(number * arguments.scale)
        for name, number in (("equal", 4000), ("family", 1000), ("coverage", 1500), ("power", 1000))
    }
    found = {
        "false_positives": _false_positives(draws["equal"]),
        "familywise": _familywise(draws["family"]),
        "coverage": _coverage(draws["coverage"]),
        "power": _power(draws["power"]),
    }
    summary = _summary(found)
    _print_table(found)
    print(json.dumps(summary, indent=1))
    head = {"command": ["python", *sys.argv], "python": platform.python_version(), "numpy": np.__version__}
    content = {**head, "seconds": round(time.time() - begin), "draws": draws, "summary": summary, **found}
    text = json.dumps(content, indent=None, separators=(",", ":")).replace("},{", "},\n{")
    arguments.out.write_text(text + "\n")


def _grid(
    populations: tuple[cells.Population, ...], measure: Callable[[cells.Population, int, int, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = []
    for seed, population in enumerate(populations):
        for num_problems in PROBLEMS:
            for num_samples in SAMPLES:
                values = measure(
                    population, num_problems, num_samples, 10_000 * seed + 100 * num_problems + num_samples
                )
                rows.append({"population": population.name, "problems": num_problems, "samples": num_samples, **values})
    return rows


def _false_positives(draws: int) -> list[dict[str, Any]]:
    def measure(population: cells.Population, problems: int, samples: int, seed: int) -> dict[str, Any]:
        return {
            "is_tail_seen": cells.is_tail_seen(population, problems, samples),
            "rate": cells.false_positives(population, problems, samples, draws, seed),
        }

    return _grid(cells.EXCHANGEABLE + cells.EQUAL_MEANS, measure)


def _familywise(draws: int) -> list[dict[str, Any]]:
    return [
        {
            "arms": arms,
            "problems": problems,
            "samples": samples,
            "rate": cells.familywise(arms, problems, samples, draws, 1),
        }
        for arms, problems, samples in ARMS
    ]


def _coverage(draws: int) -> list[dict[str, Any]]:
    def measure(population: cells.Population, problems: int, samples: int, seed: int) -> dict[str, Any]:
        return {"coverage": cells.coverage(population, problems, samples, draws, seed)}

    return _grid(cells.UNEQUAL, measure)


def _power(draws: int) -> list[dict[str, Any]]:
    rows = []
    for num_problems in PROBLEMS[1:]:
        for num_samples in SAMPLES:
            for seed, population in enumerate(cells.better_arms(num_problems, num_samples)):
                rule, exact = cells.powers(population, num_problems, num_samples, draws, seed)
                rows.append(
                    {
                        "population": population.name,
                        "problems": num_problems,
                        "samples": num_samples,
                        "rule": rule,
                        "sign_flip": exact,
                    }
                )
    return rows


def _print_table(found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the worst cell for each number of problems, in percent and points."""
    print("| " + " | ".join(["", *(f"{number} problems" for number in PROBLEMS)]) + " |")
    print("|---" * (1 + len(PROBLEMS)) + "|")
    equal, unequal, power = found["false_positives"], found["coverage"], found["power"]
    for row in power:
        row["lost"] = row["sign_flip"] - row["rule"]
    seen, unseen = ([row for row in equal if row["is_tail_seen"] is flag] for flag in (True, False))
    exchangeable = [row for row in seen if row["population"] in {one.name for one in cells.EXCHANGEABLE}]
    for label, rows, key, pick in (
        ("false positives, exchangeable arms", exchangeable, "rate", max),
        ("false positives, equal means", [row for row in seen if row not in exchangeable], "rate", max),
        ("coverage, unequal arms: least", unequal, "coverage", min),
        ("coverage, unequal arms: median", unequal, "coverage", median),
        ("power below the sign-flip test's, points", power, "lost", max),
        ("false positives, tail not seen", unseen, "rate", max),
    ):
        values = [[row[key] for row in rows if row["problems"] == number] for number in PROBLEMS]
        print(f"| {label} | " + " | ".join(f"{100 * pick(of):.1f}" if of else "" for of in values) + " |")
    print(
        "| family of arms | "
        + " | ".join(f"{row['arms']} arms: {100 * row['rate']:.1f}" for row in found["familywise"])
    )


def _summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    seen = [row for row in found["false_positives"] if row["is_tail_seen"]]
    unseen = [row for row in found["false_positives"] if not row["is_tail_seen"]]
    # At equal means the interval misses exactly where the test rejects.
    covered = [row["coverage"] for row in found["coverage"]] + [1 - row["rate"] for row in seen]
    losses = [row["sign_flip"] - row["rule"] for row in found["power"]]
    return {
        "num_cells": {name: len(rows) for name, rows in found.items()},
        "worst_false_positives": max(seen, key=lambda row: row["rate"]),
        "num_tail_unseen": len(unseen),
        "worst_false_positives_tail_unseen": max(unseen, key=lambda row: row["rate"]),
        "worst_familywise": max(found["familywise"], key=lambda row: row["rate"]),
        "worst_coverage": min(covered),
        "worst_coverage_unequal": min(found["coverage"], key=lambda row: row["coverage"]),
        "median_coverage": median(covered),
        "largest_loss_of_power": max(losses),
        "mean_loss_of_power": sum(losses) / len(losses),
    }


if __name__ == "__main__":
    main()
