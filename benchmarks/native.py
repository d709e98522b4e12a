"""Does the judge say what a plain interpreter says? On mutants of the reference solutions of five benchmarks.

    python benchmarks/native.py --data SHARED/data [--mutants 5000] [--seed 0]

A mutant is a reference solution with one change to its syntax tree (agreement.py's). Natively a program and its tests
are run as one module, in a process of their own with the same limits and no sandbox, and pass if that ends well. The
class-level problems are ours (native.jsonl): their tests change arguments and results, keep objects, compare identity
and print, which no channel carries.

Every disagreement is printed. Explained are those in which time or memory decided, in either of the two, and mutants
of a helper of the prompt's that the tests use: here that is the prompt's own, out of the candidate's reach. Exit code 1
for any other.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import signal
import sys
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agreement import mutants_of
from ibft.artifacts.rows import Problem, Sample
from ibft.execution import Pool, check_references, execute_all
from ibft.execution.outcome import Outcome
from ibft.problems.loading import load_problems
from ibft.text.names import bound_names, free_names

CPU_S, WALL_S, MEMORY_BYTES = 4, 30, 2 << 30
EXPLAINED = ("timeout_cpu", "timeout_wall", "memory")


def main() -> None:
    arguments = _arguments()
    sources = {
        "HumanEval": "humaneval",
        "MBPP": f"mbpp:{arguments.data}/mbpp/sanitized-mbpp.json",
        "HumanEval+": f"evalplus:{arguments.data}/evalplus/HumanEvalPlus.jsonl.gz",
        "MBPP+": f"evalplus:{arguments.data}/evalplus/MbppPlus.jsonl.gz",
        "classes (ours)": str(Path(__file__).with_name("native.jsonl")),
    }
    chooser = random.Random(arguments.seed)
    print("| problems | programs | pass here | weak | pass natively | of time or memory | of a helper | other |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    num_wrong = 0
    for name, source in sources.items():
        problems = load_problems(source)
        references = check_references(problems)
        problems = [problem for problem in problems if references[problem.task_id].passed]
        programs = [(problem, problem.prompt + (problem.canonical_solution or "")) for problem in problems]
        changed = [(problem, mutant) for problem in problems for mutant in mutants_of(problem)]
        wanted = arguments.mutants // len(sources)
        programs += chooser.sample(changed, min(wanted, len(changed)))
        answers = [(problem, Sample(task_id=problem.task_id, solution=program)) for problem, program in programs]
        with Pool() as pool:
            ours = execute_all(answers, pool=pool, references=references)
        with ThreadPoolExecutor(2) as executor:
            natively = list(executor.map(lambda pair: passes_natively(*pair), programs))
        num_wrong += _print(name, programs, ours, natively)
    sys.exit(num_wrong > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def passes_natively(problem: Problem, program: str) -> bool | None:
    """Whether a program passes in a plain interpreter; None where time or memory ended it."""
    pid = os.fork()
    if not pid:
        _be_native(f"{problem.setup}\n{program}\n{problem.tests}")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 2:
        return None
    return os.WEXITSTATUS(status) == 0


def _be_native(source: str) -> None:
    exit_code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.alarm(WALL_S)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        sys.argv[1:] = []  # which `unittest.main()` would read
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)
        exit_code = 0
    except MemoryError:
        exit_code = 2
    except SystemExit as error:  # `unittest.main()`
        exit_code = int(bool(error.code))
    except BaseException:
        exit_code = 1
    finally:
        os._exit(exit_code)


def _print(name: str, programs: list[tuple[Problem, str]], ours: list[Outcome], natively: list[bool | None]) -> int:
    row: Counter[str] = Counter()
    for (problem, program), outcome, native in zip(programs, ours, natively, strict=True):
        row["here"] += outcome.passed
        row["weak"] += outcome.passed and outcome.is_weak
        row["there"] += bool(native)
        if outcome.passed != bool(native):
            kind = "other"
            if native is None or outcome.status in EXPLAINED:
                kind = "explained"
            elif _helpers(problem, program) != _helpers(problem, problem.prompt + (problem.canonical_solution or "")):
                kind = "helper"
            row[kind] += 1
            if kind == "other":
                print(
                    f"{problem.task_id}: {outcome.message!r}, natively {native}\n    " + program.replace("\n", "\n    ")
                )
    print(
        f"| {name} | {len(programs)} | {row['here']} | {row['weak']} | {row['there']} | {row['explained']} "
        f"| {row['helper']} | {row['other']} |",
        flush=True,
    )
    return row["other"]


def _helpers(problem: Problem, program: str) -> list[str]:
    """What a program makes of the functions that the tests take from the prompt."""
    names = bound_names(problem.setup) & free_names(problem.tests)
    return [ast.unparse(node) for node in ast.parse(program).body if getattr(node, "name", "") in names]


if __name__ == "__main__":
    main()
