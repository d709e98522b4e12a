"""What recalls a real model's answers: is there an active shortcut on the names of code that it may have read?

    python benchmarks/recall.py --out benchmarks/results/recall.json

SmolLM2-135M-Instruct (November 2024) on functions of the standard library, and on functions of packages that were first
released in 2025 as control set, by `ibft scan`: for each kind of segment of the prompt, the share of the answer that it
alone recovers where the rest of the prompt is another function's.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from facts import facts
from halves import MODEL, ibft, write_recipe

CONTROL = "functions:agents,a2a,verifiers,pydantic_evals"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=110, help="functions of each set that are asked")
    parser.add_argument(
        "--scanned", type=int, default=300, help="of each set, from which pairs of one length are drawn"
    )
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path("runs/recall"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seconds, summaries = {}, {}
    for num in (0, arguments.examples):  # the first is what the scan costs without the question
        name = f"asked-{num}"
        recipe = write_recipe(
            name,
            folder,
            model={"name": MODEL},
            data={"train": "functions:stdlib", "control": CONTROL, "max_tokens": arguments.max_tokens},
            scan={"max_examples": arguments.scanned, "max_recall_examples": num},
        )
        start = time.perf_counter()
        ibft("scan", recipe, "--overwrite")
        seconds[name] = round(time.perf_counter() - start, 1)
        summaries[name] = json.loads((folder / name / "scan" / "summary.json").read_text())
    found: dict[str, Any] = summaries[f"asked-{arguments.examples}"]["recall"]
    print("| segment | training data | control set | difference |\n|---|---|---|---|")
    for segment in found["segments"]:
        cells = [_mean(segment["train"]), _mean(segment["control"]), _difference(segment)]
        print(f"| {segment['kind']} | {' | '.join(cells)} |")
    print(found["headline"], *found["sentences"], seconds, sep="\n")
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts(), "seconds": seconds, "recall": found}, indent=1) + "\n")


def _mean(mean: dict[str, Any] | None) -> str:
    if mean is None:
        return "–"
    return f"{mean['mean']:.2f}{_ends(mean['ci95'], '.2f')} of {mean['num_examples']}"


def _difference(segment: dict[str, Any]) -> str:
    value = segment["difference"]
    return "–" if value is None else f"{value:+.2f}{_ends(segment['difference_ci95'], '+.2f')}"


def _ends(ends: list[float | None], form: str) -> str:
    low, high = ends
    return "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
