"""Does the bottleneck help where the base model has memorized the data, and where it has not?

    python benchmarks/barrier.py train --folder runs/barrier --workers 9            # on a GPU, some minutes
    python benchmarks/barrier.py judge --folder runs/barrier --out barrier.json

Two base models: SmolLM2-135M-Instruct as it is (`plain`), and after several epochs of plain fine-tuning on one half of
the standard library's functions (`memorized`, which `ibft scan` says of it beside the other half). From each, every arm
is trained on that half, once for each seed, and writes --samples answers to each of HumanEval's 164 problems. All arms
of a seed see the same batches.

Processes take the jobs (an arm of a seed: train, then sample) in the order that matters, and begin none after
--seconds; so what is there at the end is complete for the first seeds. Table: means over seeds of Pass@1, Pass@5 and
Pass@5^(3), and the paired difference to `ft` with its 95% interval (ibft.comparison, of the seeds' mean).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from facts import facts
from halves import MODEL, audit_cells, ibft, read_audit, write_halves, write_recipe
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Result
from ibft.cli.recipes import quiet_libraries
from ibft.comparison import interval, p_value
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe, load_recipe
from ibft.stages.export import export
from ibft.stages.generate import generate
from ibft.stages.scan import scan
from ibft.stages.train import train as train_arm
from ibft.statistics.pass_at_k import Count, pass_at_k_m
from ibft.statistics.uncertainty import bootstrap_means

ARMS = [
    "ft",
    {"name": "ib", "arm": "ib-paper", "form": "paper"},
    {"name": "ib", "arm": "ib-controlled", "form": "controlled"},
    {"name": "ib", "arm": "ib-in-path", "form": "in_path"},
    "dft",
    "ft_kl",
]
MAIN, OTHERS = ("ft", "ib-paper", "ib-controlled"), ("ib-in-path", "dft", "ft_kl")
BASES = ("memorized", "plain")
Tallies = dict[str, Count]
"""By task id."""

METRICS = {"pass@1": (1, 1), "pass@5": (5, 1), "pass@5^(3)": (5, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "judge"])
    parser.add_argument("--folder", type=Path, default=Path("runs/barrier"))
    parser.add_argument("--workers", type=int, default=1, help="processes on the one GPU")
    parser.add_argument("--seconds", type=float, default=1e9, help="no job begins later")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--memorize-epochs", type=float, default=6)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--problems", type=int, default=164)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "train":
        train(arguments)
    else:
        judge(arguments)


def train(arguments: argparse.Namespace) -> None:
    folder, begin = arguments.folder.resolve(), time.time()
    ends = begin + arguments.seconds
    folder.mkdir(parents=True, exist_ok=True)
    _write_recipes(folder, arguments)
    (folder / "facts.json").write_text(json.dumps(facts()))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, context) as pool:
        memorized = pool.submit(_memorize, folder)
        futures: dict[str, Future[str]] = {}

        def submit(base: str, arms: Sequence[str], seeds: Sequence[int]) -> None:
            for seed in seeds:
                for arm in arms:
                    job = pool.submit(_arm, folder / f"{base}-{seed}.json", arm, ends)
                    futures[f"{base} {seed} {arm}"] = job

        seeds = range(arguments.seeds)
        submit("plain", [*MAIN, BASE_ARM], seeds[:1])
        submit("plain", MAIN, seeds[1:2])
        futures["plain scan"] = pool.submit(_scan, folder / "audit-plain.json")
        memorized.result()
        print(f"memorized: {time.time() - begin:.0f} s", flush=True)
        submit("memorized", [*MAIN, BASE_ARM], seeds[:1])
        futures["memorized scan"] = pool.submit(_scan, folder / "audit-memorized.json")
        submit("memorized", MAIN, seeds[1:])
        submit("plain", MAIN, seeds[2:])
        submit("memorized", OTHERS, seeds)
        submit("plain", OTHERS, seeds)
        for name, future in futures.items():
            print(f"{name}: {_outcome(future)} ({time.time() - begin:.0f} s)", flush=True)


def _outcome(future: Future[str]) -> str:
    try:
        return future.result()
    except Exception as error:  # one job's failure is not the others'
        return f"{type(error).__name__}: {error}"


def _write_recipes(folder: Path, arguments: argparse.Namespace) -> None:
    data = write_halves(folder, arguments.max_tokens)
    common = {"batch_size": arguments.batch_size, "learning_rate": 4e-4, "save_every": 10_000}
    epochs = {"epochs": arguments.memorize_epochs}
    names = {"plain": MODEL, "memorized": str(folder / "merged")}
    own = {"control": None}
    write_recipe(
        "memorize", folder, model={"name": MODEL}, data=data | own, objective="ft", train=common | epochs, seed=100
    )
    for base, name in names.items():
        model = {"name": name}
        write_recipe(f"audit-{base}", folder, model=model, data=data, scan={"prefix_tokens": 15, "suffix_tokens": 15})
        for seed in range(arguments.seeds):
            write_recipe(
                f"{base}-{seed}",
                folder,
                model=model,
                data=data | own,
                objective=ARMS,
                train=common | {"max_steps": arguments.steps},
                problems={"source": "humaneval", "limit": arguments.problems},
                generate={
                    "num_samples": arguments.samples,
                    "max_new_tokens": arguments.new_tokens,
                    "batch_size": 820,
                },
                seed=seed,
            )


def _open(path: Path) -> tuple[Recipe, RunFolder]:
    """In a job's process. Not by the command, which locks the run folder for itself."""
    quiet_libraries()
    recipe = load_recipe(path)
    return recipe, RunFolder(recipe)


def _memorize(folder: Path) -> None:
    recipe, run = _open(folder / "memorize.json")
    train_arm(recipe, run, recipe.objective[0])
    if not (folder / "merged").exists():
        export(recipe, run, "ft", folder / "merged", merge=True)


def _scan(path: Path) -> str:
    scan(*_open(path))
    return "done"


def _arm(path: Path, arm: str, ends: float) -> str:
    """One arm of one seed, if there is time left."""
    if time.time() > ends:
        return "not begun"
    recipe, run = _open(path)
    begin = time.time()
    for objective in recipe.objective:
        if objective.arm == arm:
            train_arm(recipe, run, objective)
    trained = time.time()
    generate(recipe, run, arm)
    return f"{trained - begin:.0f} s + {time.time() - trained:.0f} s"


def judge(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    audits = {base: read_audit(folder / f"audit-{base}") for base in BASES}
    passed: dict[str, dict[str, dict[int, Tallies]]] = {base: {} for base in BASES}
    for base in BASES:
        for seed in range(arguments.seeds):
            run = folder / f"{base}-{seed}"
            for samples in sorted(run.glob("generate/*/samples.jsonl")):
                arm = samples.parent.name
                out = run / "judged" / arm
                ibft("judge", "--samples", samples, "--problems", "humaneval", "--out", out)
                passed[base].setdefault(arm, {})[seed] = _tallies(out / "results.jsonl")
    found = {base: {arm: _summary(seeds, arms["ft"]) for arm, seeds in arms.items()} for base, arms in passed.items()}
    for base, arms in found.items():
        print(f"\n{base}: {' | '.join(audit_cells(audits[base]))}")
        print(f"| arm | seeds | {' | '.join(METRICS)} | {' | '.join(f'{name} - ft' for name in METRICS)} |")
        print("|---" * (2 + 2 * len(METRICS)) + "|")
        for arm, summary in arms.items():
            means = [f"{of_one['mean']:.1%}" for of_one in summary["metrics"].values()]
            versus = [_signed(of_one["minus_ft"]) for of_one in summary["metrics"].values()]
            print(f"| {arm} | {len(summary['seeds'])} | {' | '.join([*means, *versus])} |")
    if arguments.out:
        content = {
            **json.loads((folder / "facts.json").read_text()),
            "judged_with": ["python", *sys.argv],
            "audits": audits,
            "arms": found,
        }
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


def _tallies(path: Path) -> Tallies:
    results = list(read_rows(path, Result))
    correct = Counter(result.task_id for result in results if result.passed)
    total = Counter(result.task_id for result in results)
    return {task_id: Count(number, correct[task_id]) for task_id, number in total.items()}


def _summary(seeds: dict[int, Tallies], ft: dict[int, Tallies]) -> dict[str, Any]:
    metrics = {}
    for name, (k, m) in METRICS.items():
        ours, theirs = ({seed: _rates(of_one, k, m) for seed, of_one in of.items()} for of in (seeds, ft))
        shared = sorted(ours.keys() & theirs.keys())
        means = [_mean([of[seed] for seed in shared]) for of in (ours, theirs)]
        differences_P = np.array(means[0]) - np.array(means[1])
        low, high = interval(differences_P, p_value(differences_P))
        mean_P = _mean(list(ours.values()))
        metrics[name] = {
            "mean": statistics.fmean(mean_P),
            "ci95": list(bootstrap_means([mean_P])[0]),
            "seeds": {seed: statistics.fmean(rates_P) for seed, rates_P in ours.items()},
            "minus_ft": {"value": float(differences_P.mean()), "ci95": [low, high], "seeds": shared},
        }
    return {"seeds": sorted(seeds), "metrics": metrics}


def _rates(tallies: Tallies, k: int, m: int) -> list[float]:
    return [pass_at_k_m(*tallies[task_id], k, m) for task_id in sorted(tallies)]


def _mean(seeds: list[list[float]]) -> list[float]:
    """Over seeds, of each problem."""
    return [statistics.fmean(values) for values in zip(*seeds, strict=True)]


def _signed(difference: dict[str, Any]) -> str:
    low, high = difference["ci95"]
    return f"{100 * difference['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
