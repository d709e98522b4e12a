import gzip
import re
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.loading import load_problems, select_problems

OWN = Problem(task_id="own/0", prompt="def f():\n", tests="assert f() == 1\n")


def test_limit_keeps_the_first() -> None:
    assert [problem.task_id for problem in load_problems("humaneval", 2)] == ["HumanEval/0", "HumanEval/1"]


def test_own_format_plain_and_compressed(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [OWN])
    with gzip.open(tmp_path / "own.jsonl.gz", "wb") as file:
        file.write((tmp_path / "own.jsonl").read_bytes())
    assert load_problems(str(tmp_path / "own.jsonl")) == load_problems(str(tmp_path / "own.jsonl.gz")) == [OWN]


def test_malformed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"task_id": "a", "prompt": "", "tests": "assert a"}\n\n{"task_id": "b", "tests": ""}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 3: .*`prompt`"):
        load_problems(str(path))


def test_duplicates_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [OWN, OWN])
    with pytest.raises(UserError, match="'own/0'"):
        load_problems(str(tmp_path / "own.jsonl"))


@pytest.mark.parametrize(
    "source",
    [
        "mbpp:{}/none.json",
        "evalplus:{}/none.jsonl",
        "verilog-eval:{}/none.jsonl",
        "livecodebench:{}/none.jsonl?since=2024-01-01",
        "apps:{}/none.jsonl",
        "codeforces:{}/none.jsonl",
        "{}/none.jsonl",
        "{}/none.jsonl.gz",
    ],
)
def test_missing_file(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match=r"none\..*cannot be read"):
        load_problems(source.format(tmp_path))


@pytest.mark.parametrize("source", ["humanevil", "mbpp", "mbpp:", "evalplus:", "problems.csv"])
def test_unknown_source(source: str) -> None:
    with pytest.raises(UserError, match="Use apps:PATH, codeforces:PATH, evalplus:PATH, humaneval, livecodebench"):
        load_problems(source)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no problems in it"):
        load_problems(str(tmp_path / "own.jsonl"))


PROBLEMS = [Problem(task_id=f"HumanEval/{number}", prompt="", tests="") for number in range(12)]


def selected(*patterns: str) -> list[str]:
    return [problem.task_id for problem in select_problems(PROBLEMS, patterns)]


def test_selecting_by_id_and_pattern_keeps_the_benchmarks_order() -> None:
    assert selected() == [problem.task_id for problem in PROBLEMS]
    assert selected("HumanEval/7", "HumanEval/2") == ["HumanEval/2", "HumanEval/7"]
    assert selected("HumanEval/1?", "HumanEval/10", "*/0") == ["HumanEval/0", "HumanEval/10", "HumanEval/11"]


def test_an_id_with_wildcards_in_it_is_found_as_it_stands() -> None:
    odd = [Problem(task_id=task_id, prompt="", tests="") for task_id in ("a[1]", "a1")]
    assert select_problems(odd, ["a[1]"]) == odd[:1]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("7", "'HumanEval/7'"),
        ("humaneval/3", "'HumanEval/3'"),
        ("HumanEva/1", "'HumanEval/1'"),
        ("Mbpp*", "'HumanEval/0'"),
    ],
)
def test_a_pattern_without_a_match_is_refused_with_near_ids(pattern: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(repr(pattern))} matches none of the 12 .*{near}"):
        selected("HumanEval/1", pattern)
