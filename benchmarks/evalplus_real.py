"""This judge beside EvalPlus 0.3.1 on EvalPlus's own files: the same verdicts? How many samples per second?

    python -m venv /tmp/evalplus && /tmp/evalplus/bin/pip install evalplus==0.3.1
    python benchmarks/evalplus_real.py --data FOLDER --evalplus /tmp/evalplus/bin [--mutants 1000] [--parts 4]

FOLDER has HumanEvalPlus.jsonl.gz and MbppPlus.jsonl.gz. Every canonical solution and, of each file, a number of mutants
(`agreement.mutants_of`, drawn by the seed, evenly over the problems) are judged by three contenders with two workers:

- `ibft judge`, the whole command, its references' verdicts cached;
- `evalplus.evaluate`, from its start until it has written its results, less the time it prints for its expected
  outputs, which it caches (a thread of it that sleeps for 20 s keeps the process waiting after that);
- EvalPlus's inner loop: `untrusted_check` of base and plus tests in a process pool (judge_evalplus.py), no start-up.

They take turns on each of `--parts` parts of the problems, so that a busy machine is busy for all; the ratios are of
the parts, then their median. A sample's verdicts are whether the base tests pass, and whether base and plus tests do.
Every disagreement is printed with both sides; exit code 1 if there are any. Mbpp/255 is left out: its results are too
large for the channel of the sandbox, so this judge excludes it.

EvalPlus's limits are wall-clock time, 1 s for a call or four times the reference; ours are CPU time. On a busy machine
EvalPlus's verdict may be `timeout` where ours is not: what disagrees so is judged by EvalPlus again, alone and with
`--patience` times the limits, and both of its verdicts are reported.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import pickle
import random
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from agreement import mutants_of
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem, Result
from ibft.problems.loading import load_problems

FILES = {"humaneval": "HumanEvalPlus", "mbpp": "MbppPlus"}
LEFT_OUT = {"Mbpp/255"}


class Verdict(NamedTuple):
    """Whether the base tests pass, whether base and plus tests do, and how the judge words it."""

    base: bool
    plus: bool
    words: str


class Part(NamedTuple):
    """Some problems of a file and their samples: (task id, whole program)."""

    dataset: str
    number: int
    folder: Path
    samples: list[tuple[str, str]]

    @property
    def problems(self) -> Path:
        return self.folder / "problems.jsonl"


def main() -> None:
    arguments = _arguments()
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "machine": "two cores of a shared CPU machine",
        "date": datetime.date.today().isoformat(),
        "parts": [],
        "disagreements": [],
    }
    parts = [part for dataset in FILES for part in _parts(dataset, arguments)]
    parts.sort(key=lambda part: part.number)  # both files, whenever it is stopped
    for part in parts:
        _judge_part(part, arguments, report)
        _summarize(report)
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["summary"], indent=1))
    sys.exit(bool(report["disagreements"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--evalplus", type=Path, required=True, help="the bin folder of an environment with EvalPlus")
    parser.add_argument("--work", type=Path, default=Path("/tmp/evalplus-real"), help="for samples, results and caches")
    parser.add_argument("--mutants", type=int, default=1000, help="of each file")
    parser.add_argument("--parts", type=int, default=4, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("--out", default="benchmarks/results/evalplus-real.json")
    return parser.parse_args()


def _parts(dataset: str, arguments: argparse.Namespace) -> list[Part]:
    """Write the parts' problems and samples; the problems are dealt to them in turn."""
    path = arguments.data / f"{FILES[dataset]}.jsonl.gz"
    lines = {json.loads(line)["task_id"]: line for line in gzip.open(path, "rt", encoding="utf-8")}
    problems = [problem for problem in load_problems(f"evalplus:{path}") if problem.task_id not in LEFT_OUT]
    samples = _samples(problems, arguments.mutants, random.Random(arguments.seed))
    parts = []
    for number in range(arguments.parts):
        ids = [problem.task_id for problem in problems[number :: arguments.parts]]
        part = Part(dataset, number, arguments.work / f"{dataset}{number}", [(i, s) for i in ids for s in samples[i]])
        part.folder.mkdir(parents=True, exist_ok=True)
        part.problems.write_text("".join(lines[task_id] for task_id in ids), encoding="utf-8")
        parts.append(part)
    return parts


def _samples(problems: list[Problem], num_mutants: int, chooser: random.Random) -> dict[str, list[str]]:
    """Return each problem's canonical solution and its mutants."""
    mutants = {}
    for problem in problems:
        mutants[problem.task_id] = mutants_of(problem)
        chooser.shuffle(mutants[problem.task_id])
    samples = {problem.task_id: [problem.prompt + (problem.canonical_solution or "")] for problem in problems}
    while num_mutants and any(mutants.values()):
        for problem in problems:
            if num_mutants and mutants[problem.task_id]:
                samples[problem.task_id].append(mutants[problem.task_id].pop())
                num_mutants -= 1
    return samples


def _judge_part(part: Part, arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    _ours(part, "warm", [(task_id, text) for task_id, text in dict(reversed(part.samples)).items()])  # references
    our_s, ours = _ours(part, "ours", part.samples)
    command_s, theirs = _command(part, arguments)
    inner_s, inner = _inner(part, part.samples, arguments, 1.0)
    odd = [n for n, (a, b, c) in enumerate(zip(ours, theirs, inner, strict=True)) if not a[:2] == b[:2] == c[:2]]
    patient = _inner(part, [part.samples[n] for n in odd], arguments, arguments.patience, 1)[1] if odd else []
    for n, again in zip(odd, patient, strict=True):
        task_id, program = part.samples[n]
        words = {"ours": ours[n], "command": theirs[n], "inner": inner[n], "patient": again}
        kind = "their limits" if again[:2] == ours[n][:2] else "disagreement"
        row = {"task_id": task_id, "kind": kind, **{name: list(verdict) for name, verdict in words.items()}}
        report["disagreements"].append({**row, "program": program})
        print(row, f"\n{program}\n", flush=True)
    row = {"dataset": part.dataset, "part": part.number, "samples": len(ours), "passed": sum(v.plus for v in ours)}
    report["parts"].append({**row, "ours_s": our_s, "command_s": command_s, "inner_s": inner_s})
    print(report["parts"][-1], flush=True)


def _ours(part: Part, name: str, samples: list[tuple[str, str]]) -> tuple[float, list[Verdict]]:
    """Judge with the command. The mark makes each program new to the cache of verdicts."""
    mark = f"\n# {name} {time.time_ns()}\n"
    path, out = part.folder / f"{name}.jsonl", part.folder / f"{name}-{time.time_ns()}"
    rows = ({"task_id": task_id, "solution": program + mark} for task_id, program in samples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "ibft.cli", "judge", "--problems", f"evalplus:{part.problems}", "--workers", "2"]
    command += ["--samples", str(path), "--out", str(out), "--extract", "none", "--k", "1"]
    start = time.perf_counter()
    environment = {**os.environ, "IBFT_CACHE": str(part.folder / "cache")}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s = time.perf_counter() - start
    results = read_rows(out / "results.jsonl", Result)
    return wall_s, [Verdict(r.passed or r.reached == "plus", r.passed, f"{r.status}: {r.result}") for r in results]


def _environment(part: Part) -> dict[str, str]:
    home = str(part.folder.parent / "home")
    override = {"humaneval": "HUMANEVAL_OVERRIDE_PATH", "mbpp": "MBPP_OVERRIDE_PATH"}[part.dataset]
    return {**os.environ, "HOME": home, "XDG_CACHE_HOME": home, override: str(part.problems), "PYTHONPATH": ""}


def _command(part: Part, arguments: argparse.Namespace) -> tuple[float, list[Verdict]]:
    path = part.folder / "theirs.jsonl"
    rows = ({"task_id": task_id, "solution": program} for task_id, program in part.samples)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = part.folder / "theirs_eval_results.json"
    results.unlink(missing_ok=True)
    command = [str(arguments.evalplus / "evalplus.evaluate"), "--dataset", part.dataset, "--samples", str(path)]
    start = time.time()
    done = subprocess.run(
        [*command, "--parallel", "2"],
        env=_environment(part),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wall_s = results.stat().st_mtime - start
    if computed := re.search(r"Expected outputs computed in ([0-9.]+)s", done.stdout):
        wall_s -= float(computed[1])
    judged: dict[str, list[Verdict]] = defaultdict(list)
    for task_id, rows_of_task in json.loads(results.read_text())["eval"].items():
        judged[task_id] = [_verdict(row["base_status"], row["plus_status"]) for row in rows_of_task]
    return wall_s, [judged[task_id].pop(0) for task_id, _ in part.samples]


def _inner(
    part: Part, samples: list[tuple[str, str]], arguments: argparse.Namespace, patience: float, num_workers: int = 2
) -> tuple[float, list[Verdict]]:
    """Have judge_evalplus.py call `untrusted_check` on the part's real inputs."""
    command = [str(arguments.evalplus / "python"), str(Path(__file__).with_name("judge_evalplus.py")), part.dataset]
    job = pickle.dumps((samples, num_workers, patience))
    done = subprocess.run(command, input=job, env=_environment(part), stdout=subprocess.PIPE, check=True)
    wall_s, statuses = pickle.loads(done.stdout[done.stdout.rindex(b"PICKLE") + 6 :])
    return wall_s, [_verdict(*pair) for pair in statuses]


def _verdict(base: str, plus: str) -> Verdict:
    return Verdict(base == "pass", base == plus == "pass", f"base {base}, plus {plus}")


def _summarize(report: dict[str, Any]) -> None:
    report["summary"] = {}
    for dataset in FILES:
        parts = [part for part in report["parts"] if part["dataset"] == dataset]
        if parts:
            num_samples = sum(part["samples"] for part in parts)
            report["summary"][dataset] = {
                "samples": num_samples,
                "passed": sum(part["passed"] for part in parts),
                **{
                    f"{name}_per_s": round(num_samples / sum(part[f"{name}_s"] for part in parts), 2)
                    for name in ("ours", "command", "inner")
                },
                "command_ratio": round(statistics.median(part["command_s"] / part["ours_s"] for part in parts), 2),
                "inner_ratio": round(statistics.median(part["inner_s"] / part["ours_s"] for part in parts), 2),
            }


if __name__ == "__main__":
    main()
