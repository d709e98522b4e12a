"""What finds a benchmark's problems in training data, what it mistakes for one, and what the pass over the data costs.

    .venv/bin/python benchmarks/leakage.py [--mbpp sanitized-mbpp.json] [--rows 100000]

Solutions are planted verbatim and changed, one at a time; functions of installed packages are what must not match.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ibft.artifacts.rows import Pair, Problem
from ibft.curation.decontaminate import find_leakage
from ibft.curation.duplicates import find_duplicates
from ibft.curation.leakage import ProblemIndex
from ibft.data.functions import function_pairs
from ibft.problems.loading import load_problems

PACKAGES = "numpy,pandas,sympy,networkx,torch,transformers"


def without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and len(node.body) > 1:
            node.body = node.body[1:]
    return ast.unparse(tree)


def renamed(source: str) -> str:
    tree = ast.parse(without_docstrings(source))
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    new = {name: f"name_{number}" for number, name in enumerate(sorted(names))}
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = new[node.arg]
        elif isinstance(node, ast.FunctionDef):
            node.name = new[node.name]
    return ast.unparse(tree)


def with_a_line(source: str) -> str:
    lines = without_docstrings(source).split("\n")
    place = random.Random(len(source)).randrange(1, len(lines) + 1)
    indent = len(lines[place - 1]) - len(lines[place - 1].lstrip()) + 4 * lines[place - 1].endswith(":")
    return "\n".join([*lines[:place], " " * indent + "checked = None", *lines[place:]])


def solution(problem: Problem) -> str:
    is_whole = problem.task_id.startswith("Mbpp/")
    return str(problem.canonical_solution) if is_whole else f"{problem.prompt}{problem.canonical_solution}"


def recall(name: str, problems: list[Problem]) -> None:
    index = ProblemIndex({name: problems})
    changes: dict[str, Callable[[str], str]] = {
        "verbatim": str,
        "reformatted, no docstring": without_docstrings,
        "also renamed": renamed,
        "one line inserted": with_a_line,
    }
    for title, change in changes.items():
        kinds: Counter[str] = Counter()
        num_found = 0
        for problem in problems:
            found = index.leaks(Pair("x", "Write it.", change(solution(problem))))
            own = {leak.kind for leak in found if leak.task_id == problem.task_id}
            num_found += bool(own)
            kinds.update(own)
        print(f"{name:<10} {title:<26} {num_found:>4} of {len(problems)}   {dict(kinds)}", flush=True)
    print(f"{name:<10} too short once renamed: {len(index.short[name])}")


def mistakes(benchmarks: dict[str, list[Problem]]) -> None:
    index = ProblemIndex(benchmarks)
    pairs = [*function_pairs("stdlib"), *function_pairs(PACKAGES)]
    start = time.process_time()
    found = [leak for pair in pairs for leak in index.leaks(pair)]
    print(f"found in {len(pairs)} functions of stdlib,{PACKAGES}: {len(found)} ({time.process_time() - start:.1f} s)")


def measure(verb: str, path: str, mbpp: str) -> None:
    """One pass in a process of its own, for its memory."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if verb == "leakage":
            sources = ["humaneval", *([f"mbpp:{mbpp}"] if mbpp else [])]
            find_leakage(path, "train", sources, Path(folder))
        else:
            find_duplicates(path, "train", 0.7, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{time.process_time() - start:6.1f} s CPU, {peak:5.0f} MiB at its highest")


def write_data(path: Path, num_rows: int) -> None:
    """Real functions, again and again with other constants and names in them, so that few are duplicates."""
    pairs = [*function_pairs("stdlib"), *function_pairs(PACKAGES)]
    chance = random.Random(0)
    with path.open("w") as file:
        for number in range(num_rows):
            pair = pairs[number % len(pairs)]
            words = pair.completion.split(" ")
            for place in range(len(words)):
                if words[place].isidentifier() and chance.random() < 0.3:
                    words[place] = f"{words[place]}_{chance.randrange(10**6)}"
            file.write(json.dumps({"prompt": pair.prompt, "completion": " ".join(words)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbpp", default="")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.measure:
        measure(*arguments.measure, arguments.mbpp)
        return
    benchmarks = {"humaneval": load_problems("humaneval")}
    if arguments.mbpp:
        benchmarks["mbpp"] = load_problems(f"mbpp:{arguments.mbpp}")
    for name, problems in benchmarks.items():
        recall(name, problems)
    mistakes(benchmarks)
    with tempfile.TemporaryDirectory() as folder:
        for num_rows in (arguments.rows // 10, arguments.rows):
            path = Path(folder) / f"{num_rows}.jsonl"
            write_data(path, num_rows)
            for verb in ("leakage", "duplicates"):
                print(f"{verb:<10} {num_rows:>7} rows, {path.stat().st_size / 1e6:4.0f} MB: ", end="", flush=True)
                command = [sys.executable, __file__, "--measure", verb, str(path), "--mbpp", arguments.mbpp]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
