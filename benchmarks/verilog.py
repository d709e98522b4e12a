"""The Verilog judge: does it say what the original harness says, and how fast?

    python benchmarks/verilog.py FOLDER

FOLDER has VerilogEval_{Human,Machine}.jsonl and samples_deepseek-coder-7b_human.jsonl.gz. First the references of both
benchmarks; then the metrics of the 1,560 real completions; then both harnesses, two workers each, in turns, on the
completions of every fourth problem. "The original's protocol" is VerilogEval v1's, done plainly here: the design put
before the test bench, compiled and simulated in a folder of its own, the mismatch count read from what it printed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, Sample
from ibft.execution.icarus import installed_icarus
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import check_problems, judge_file
from ibft.text.answers.verilog import extract_design

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(f"Icarus Verilog {installed_icarus().version}\n")
    for name in ("Human", "Machine"):
        found = check_problems(f"verilog-eval:{folder}/VerilogEval_{name}.jsonl", JudgeConfig())
        failing = [task_id for task_id, reference in found.items() if not reference.passed]
        print(f"{name}: {len(found) - len(failing)} of {len(found)} references pass {failing or ''}")
    source = f"verilog-eval:{folder}/VerilogEval_Human.jsonl"
    completions = folder / "samples_deepseek-coder-7b_human.jsonl.gz"
    with tempfile.TemporaryDirectory() as out:
        metrics = judge_file(source, completions, out, JudgeConfig(cache=False)).metrics
        names = ("pass@1", "pass@5", "pass@10", "pass@5^(5)", "pass@10^(10)")
        print("\n" + ", ".join(f"{name} {100 * metrics[name].value:.2f}" for name in names))
    problems = load_problems(source)[::4]
    chosen = {problem.task_id: problem for problem in problems}
    samples = [sample for sample in read_rows(completions, Sample) if sample.task_id in chosen]
    _race(source, chosen, samples)


def _race(source: str, problems: dict[str, Problem], samples: list[Sample]) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "samples.jsonl")
            write_rows(path, samples)
            start = time.perf_counter()
            passed = judge_file(
                source, path, Path(folder, "out"), JudgeConfig(cache=False, workers=2), k=(1,), tasks=list(problems)
            ).statuses["passed"]
            ours.append((time.perf_counter() - start, passed))
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as executor:
            passed = sum(executor.map(lambda sample: _original(problems[sample.task_id], sample), samples))
        theirs.append((time.perf_counter() - start, passed))
    print("\n| harness                 | samples/s | passed |")
    print("|-------------------------|-----------|--------|")
    for name, rounds in (("ibft, references included", ours), ("the original's protocol", theirs)):
        rate = statistics.median(len(samples) / seconds for seconds, _ in rounds)
        print(f"| {name:23} | {rate:9.1f} | {sorted({passed for _, passed in rounds})} |")
    ratio = statistics.median(other / own for (own, _), (other, _) in zip(ours, theirs, strict=True))
    print(f"\nours is {ratio:.1f} times as fast")


def _original(problem: Problem, sample: Sample) -> bool:
    design = extract_design(sample.completion or "", problem.prompt)
    if design is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "design.sv").write_text(f"{problem.tests}\n{design.source}\n")
        compile_ = ["iverilog", "-Wall", "-Winfloop", "-Wno-timescale", "-g2012", "-s", "tb", "-o", "sim", "design.sv"]
        try:
            compiled = subprocess.run(compile_, cwd=folder, capture_output=True, timeout=30)
            if compiled.returncode or compiled.stderr:
                return False
            run = subprocess.run(["vvp", "-n", "sim"], cwd=folder, capture_output=True, timeout=30)
        except subprocess.TimeoutExpired:
            return False
    found = re.search(rb"Mismatches: (\d+) in \d+ samples", run.stdout)
    return found is not None and found[1] == b"0" and not run.stderr


if __name__ == "__main__":
    main()
