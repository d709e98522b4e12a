"""RTLLM version 2: which references pass, and the real answers that lie beside it, judged here and by plain simulation.

    python benchmarks/rtllm.py FOLDER

FOLDER is hkust-zhiyao/RTLLM, with its answers of two models in _chatgpt35 and _chatgpt4 (five each for 29 designs).
"Plainly" compiles answer and test bench together and passes what prints a line with "Pass".
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.execution.icarus import installed_icarus
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import check_problems, judge_file

RENAMED = {"calender": "calendar"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(f"Icarus Verilog {installed_icarus().version}\n")
    source = f"rtllm:{folder}"
    references = check_problems(source, JudgeConfig())
    for task_id, reference in references.items():
        if not reference.passed:
            print(f"{task_id}: {reference.message}")
    print(f"{sum(reference.passed for reference in references.values())} of {len(references)} can be judged\n")
    problems = {problem.task_id: problem for problem in load_problems(source)}
    for model in ("_chatgpt35", "_chatgpt4"):
        samples = [
            Sample(task_id=RENAMED.get(path.stem, path.stem), solution=path.read_text(errors="replace"), index=index)
            for index, answers in enumerate(sorted((folder / model).iterdir()))
            for path in sorted(answers.glob("*.v"))
        ]
        _judge(model, source, samples, problems, [name for name in references if references[name].passed])


def _judge(model: str, source: str, samples: list[Sample], problems: dict[str, Problem], judged: list[str]) -> None:
    tasks = sorted({sample.task_id for sample in samples} & set(judged))
    with tempfile.TemporaryDirectory() as out:
        path = Path(out, "samples.jsonl")
        write_rows(path, samples)
        metrics = judge_file(source, path, Path(out, "judged"), JudgeConfig(cache=False), k=(1, 5), tasks=tasks)
        results = list(read_rows(Path(out, "judged", "results.jsonl"), Result))
    figures = {name: f"{100 * metrics.metrics[name].value:.1f}" for name in ("pass@1", "pass@5")}
    print(f"{model}: {figures}, of compiling {metrics.readings['syntax']}, {metrics.statuses}")
    chosen = [sample for sample in samples if sample.task_id in tasks]
    agreement: Counter[tuple[bool, bool]] = Counter()
    for sample, result in zip(chosen, results, strict=True):
        plain = _passes_plainly(problems[sample.task_id], sample.text)
        agreement[(result.passed, plain)] += 1
        if result.passed != plain:
            print(f"  {sample.task_id} {sample.index}: here {result.status} ({result.result}), plainly {plain}")
    print(f"  (here, plainly): {dict(agreement)}\n")


def _passes_plainly(problem: Problem, design: str) -> bool:
    icarus = installed_icarus()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in problem.files:
            (folder / file.name).write_text(file.content)
        (folder / "testbench.v").write_text(problem.tests)
        (folder / "design.v").write_text(design)
        compiling = [icarus.compiler, "-g2012", "-o", "sim", "testbench.v", "design.v"]
        if subprocess.run(compiling, cwd=folder, capture_output=True, check=False).returncode:
            return False
        try:
            run = subprocess.run(
                [icarus.simulator, "-n", "sim"], cwd=folder, capture_output=True, timeout=10, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return b"Pass" in run.stdout


if __name__ == "__main__":
    main()
