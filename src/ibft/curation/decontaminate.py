"""Find which benchmark problems are in a data source and in which examples, and write both without the other.

leakage.jsonl               a row for each example, problem and sign of it (`leakage.Leak`)
leakage.json                the same in numbers, for each benchmark
train_clean.jsonl           the data's own rows, without the examples that contain a problem
problems_clean_NAME.jsonl   a benchmark's problems that are not in the data, as a problem file (docs/problems.md)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, raw_row, write_atomically, write_rows
from ibft.artifacts.rows import Problem
from ibft.curation.leakage import OVERLAP, Leak, LeakKind, ProblemIndex
from ibft.curation.outputs import make_folder, refuse_source
from ibft.data.code import SIMILARITY
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.problems.loading import load_problems

__all__ = ["BenchmarkLeakage", "LeakageSummary", "find_leakage"]

_KINDS: tuple[LeakKind, ...] = ("words", "code", "near")


class BenchmarkLeakage(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark against the data.

    `num_by_kind` counts leaked problems by their signs, so that one problem may be counted more than once. `num_short`
    counts problems whose solution is missing or too short to be recognized by its structure, `num_short_descriptions`
    those whose description is too short to be found by its words. `num_examples` contain one of the problems. `clean`
    is the file of the problems that did not leak.
    """

    source: str
    num_problems: int
    num_by_kind: dict[LeakKind, int]
    num_examples: int
    leaked: list[str]
    num_short: int
    num_short_descriptions: int
    clean: str


class LeakageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The data against all benchmarks; `num_leaking` examples contain a problem of at least one of them."""

    num_examples: int
    num_leaking: int
    overlap: float
    similarity: float
    benchmarks: list[BenchmarkLeakage]


def find_leakage(
    source: str,
    split: str,
    benchmarks: Sequence[str],
    out: Path,
    *,
    overlap: float = OVERLAP,
    similarity: float = SIMILARITY,
) -> LeakageSummary:
    """Compare the data with the benchmarks, and write what leaked and what is clean to the folder `out`.

    Raises:
        UserError: data or problems cannot be read, the data is empty or would be overwritten, `out` cannot be made, a
            threshold is out of range, or a benchmark is given twice.
    """
    for option, value in (("overlap", overlap), ("similarity", similarity)):
        if not 0 < value <= 1:
            raise UserError(f"--{option} {value:g}: give a share above 0 and at most 1.")
    problems = {name: load_problems(name) for name in benchmarks}
    if len(problems) < len(benchmarks):
        raise UserError("--problems: a benchmark is given twice. Name each once.")
    index = ProblemIndex(problems, overlap, similarity)
    names = ("train_clean.jsonl", "leakage.jsonl", "leakage.json")
    refuse_source(source, [*(out / name for name in names), *out.glob("problems_clean_*.jsonl")])
    make_folder(out)
    leaks: list[Leak] = []
    num_examples = num_leaking = 0
    examples_of: Counter[str] = Counter()

    # Clean rows are written while the data is compared: one pass, with one example in memory.
    def clean_rows() -> Iterator[msgspec.Raw]:
        nonlocal num_examples, num_leaking
        with progress.task("Comparing examples", total=None) as task:
            for num_examples, example in enumerate(stream_examples(source, split), start=1):  # noqa: B007 - counted
                task.advance()
                if leaks_of_example := index.leaks(example.pair):
                    leaks.extend(leaks_of_example)
                    num_leaking += 1
                    # A set: an example with several problems of one benchmark counts once.
                    examples_of.update({leak.source for leak in leaks_of_example})
                else:
                    yield raw_row(example.row)
        # Inside of the generator, so that the writer removes the file that it has begun.
        if not num_examples:
            raise UserError(f"{source}: the data set is empty. Check the data.")

    write_rows(out / "train_clean.jsonl", clean_rows())
    write_rows(out / "leakage.jsonl", leaks)
    summary = LeakageSummary(
        num_examples=num_examples,
        num_leaking=num_leaking,
        overlap=overlap,
        similarity=similarity,
        benchmarks=_write_clean_problems(problems, index, leaks, examples_of, out),
    )
    write_atomically(out / "leakage.json", pretty_json(summary))
    return summary


def _write_clean_problems(
    problems: Mapping[str, Sequence[Problem]],
    index: ProblemIndex,
    leaks: Sequence[Leak],
    examples_of: Mapping[str, int],
    out: Path,
) -> list[BenchmarkLeakage]:
    benchmarks: list[BenchmarkLeakage] = []
    names: set[str] = set()
    for source, problems_of_source in problems.items():
        leaks_of_source = [leak for leak in leaks if leak.source == source]
        leaked = {leak.task_id for leak in leaks_of_source}
        # `humaneval`, `sanitized-mbpp`, `VerilogEval_Human`
        stem = Path(source.partition(":")[2] or source).name.partition(".")[0]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem) or "benchmark"
        # Files in different folders may have the same name.
        name = f"{name}-{len(names)}" if name in names else name
        names.add(name)
        clean = f"problems_clean_{name}.jsonl"
        write_rows(out / clean, (problem for problem in problems_of_source if problem.task_id not in leaked))
        kinds = Counter(kind for _, kind in {(leak.task_id, leak.kind) for leak in leaks_of_source})
        benchmarks.append(
            BenchmarkLeakage(
                source=source,
                num_problems=len(problems_of_source),
                num_by_kind={kind: kinds[kind] for kind in _KINDS},
                num_examples=examples_of.get(source, 0),
                leaked=[problem.task_id for problem in problems_of_source if problem.task_id in leaked],
                num_short=len(index.short[source]),
                num_short_descriptions=len(index.short_descriptions[source]),
                clean=clean,
            )
        )
    return benchmarks
