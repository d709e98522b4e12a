import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Pair, Problem
from ibft.curation.decontaminate import find_leakage
from ibft.curation.leakage import Leak, ProblemIndex
from ibft.curation.outputs import refuse_source
from ibft.errors import UserError
from ibft.problems.loading import load_problems

PROMPT = '''\
from typing import List


def longest_run(values: List[int], limit: int) -> int:
    """Return the length of the longest run of neighbouring values whose differences stay below the given limit.
    >>> longest_run([1, 2, 9, 10, 11], 2)
    3
    """
'''
SOLUTION = """\
    best = current = 1
    for before, after in zip(values, values[1:]):
        if abs(after - before) < limit:
            current += 1
        else:
            current = 1
        best = max(best, current)
    return best
"""
FUNCTION = PROMPT.partition('    """')[0].partition("\n\n\n")[2] + SOLUTION
PROBLEM = Problem(
    task_id="Own/0",
    prompt=PROMPT,
    canonical_solution=SOLUTION,
    entry_point="longest_run",
    tests="assert longest_run([1], 1) == 1\n",
)
SHORT = Problem(
    task_id="Own/1",
    prompt='def add(a, b):\n    """Add two numbers."""\n',
    canonical_solution="    return a + b\n",
    entry_point="add",
    tests="assert add(1, 2) == 3\n",
)
INDEX = ProblemIndex({"own": [PROBLEM, SHORT]})


def leaks(prompt: str, completion: str, index: ProblemIndex = INDEX) -> list[Leak]:
    return index.leaks(Pair("x", prompt, completion))


def kinds(found: Sequence[Leak]) -> set[tuple[str, str]]:
    return {(leak.kind, leak.part) for leak in found}


def test_a_verbatim_problem_is_found_as_text_and_as_code() -> None:
    found = leaks(PROMPT, SOLUTION)
    assert {leak.kind for leak in found} == {"words", "code"}
    assert {leak.task_id for leak in found} == {"Own/0"}
    assert all(leak.similarity == 1 for leak in found)


@pytest.mark.parametrize(
    "wrap", ["{}", "Here it is:\n```python\nimport os\n\n{}```\nDone.", "class A:\n    x = 1\n\n{}"]
)
def test_a_renamed_solution_is_found_wherever_it_stands(wrap: str) -> None:
    renamed = FUNCTION
    for old, new in (("longest_run", "f"), ("values", "xs"), ("limit", "k"), ("current", "n"), ("best", "top")):
        renamed = renamed.replace(old, new)
    renamed = renamed.replace("before", "p").replace("after", "q").replace("List[int]", "list")
    [leak] = leaks("Write something.", wrap.format(renamed))
    assert (leak.kind, leak.part, leak.similarity) == ("code", "solution", 1)
    assert leak.text == renamed.rstrip("\n")


def test_a_reformatted_solution_is_found_as_code() -> None:
    reformatted = FUNCTION.replace(
        "        if abs(after - before) < limit:", "        if (\n abs(after-before)<limit ): # !"
    )
    assert ("code", "solution") in kinds(leaks("Write it.", reformatted))


def test_a_partly_edited_solution_is_nearly_equal() -> None:
    edited = FUNCTION.replace("current = 1\n        best", "current = 0\n        best")
    found = [leak for leak in leaks("Write it.", edited) if leak.kind == "near"]
    assert [leak.part for leak in found] == ["solution"]
    assert 0.7 <= found[0].similarity < 1


def test_a_body_alone_is_found_as_code() -> None:
    assert ("code", "solution") in kinds(leaks("Continue the function longest_run:", SOLUTION))


def test_a_description_in_an_instruction_is_found_with_the_text_that_matches() -> None:
    task = "the length of the longest run of neighbouring values whose differences stay below the given limit"
    [leak] = leaks(f"Hi! Please RETURN {task}, in Rust.", "fn main() {}")
    assert (leak.kind, leak.part, leak.similarity) == ("words", "description", 1)
    assert leak.text == f"RETURN {task}"


def test_part_of_a_description_counts_from_the_overlap_on() -> None:
    # 17 words have 8 sequences of 10 words, and 13 of the words have 4 of them.
    text = "Return the length of the longest run of neighbouring values whose differences stay below the given limit"
    words = text.split()
    assert len(words) == 17
    for taken, expected in ((17, 8 / 8), (13, 4 / 8), (12, None)):
        found = leaks("Write: " + " ".join(words[:taken]), "x")
        assert [leak.similarity for leak in found] == ([expected] if expected else [])


OTHERS = [
    FUNCTION.replace("abs(after - before) < limit", "after > before").replace("current = 1\n        best", "best = 0"),
    "def longest_run(values, limit):\n    return max(len(list(g)) for _, g in itertools.groupby(values))\n",
    "def add(a, b):\n    return a + b\n",
    "def count(values, limit):\n    total = 0\n    for value in values:\n        if value < limit:\n"
    "            total += 1\n        else:\n            total -= 1\n    return total\n",
]


@pytest.mark.parametrize("other", OTHERS)
def test_similar_but_different_functions_are_no_leak(other: str) -> None:
    assert leaks("Return the length of the longest word in a list of strings below a limit.", other) == []


def test_what_many_problems_share_is_boilerplate() -> None:
    header = "module top_module ( input clk, input reset, input [3:0] data, output reg [3:0] q, output reg done );\n"
    problems = [
        Problem(task_id=str(number), prompt=header, tests="x", language="verilog", description=text)
        for number, text in enumerate(
            ["Count up to nine and start again at zero after that, one each clock."] + ["?"] * 3
        )
    ]
    index = ProblemIndex({"v": problems})
    assert leaks("Write it.", header + "assign q = 0; endmodule", index) == []
    [leak] = leaks("count up to nine and start again at zero after that one each clock", header, index)
    assert (leak.task_id, leak.part) == ("0", "description")
    assert index.short == {"v": ["0", "1", "2", "3"]}


def test_short_solutions_are_named() -> None:
    assert INDEX.short == {"own": ["Own/1"]}


def test_verilog_modules_are_compared_without_names() -> None:
    header = "module top_module (input clk, input d, output reg q);\n"
    body = "  reg stage;\n  always @(posedge clk) begin\n    stage <= d; q <= stage ^ d;\n  end\nendmodule\n"
    problem = Problem(
        task_id="v", prompt=header, tests="x", language="verilog", canonical_solution=body, entry_point="top_module"
    )
    index = ProblemIndex({"v": [problem]})
    renamed = (header + body).replace("stage", "r0").replace("top_module", "edge_xor")
    assert kinds(leaks("Write it.", f"```verilog\n{renamed}```", index)) == {("code", "solution")}
    assert leaks("Write it.", renamed.replace("^", "&").replace("posedge", "negedge"), index) == []


def write(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_both_are_written_without_what_they_share(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Say hello.", "output": "print('hello')", "tag": {"kept": [1.5, None, 2**70]}},
        {"instruction": "Write it.", "output": FUNCTION},
        {"instruction": "Write a function.", "output": "\ud83d = 1"},
    ]
    problems = tmp_path / "own.jsonl"
    write_rows(problems, [PROBLEM, SHORT])
    data = write(tmp_path / "data.jsonl", rows)
    summary = find_leakage(data, "train", [str(problems)], tmp_path / "out")
    assert (summary.num_examples, summary.num_leaking) == (3, 1)
    [benchmark] = summary.benchmarks
    assert benchmark.leaked == ["Own/0"]
    assert benchmark.num_by_kind == {"words": 1, "code": 1, "near": 0}
    assert (benchmark.num_problems, benchmark.num_examples, benchmark.num_short) == (2, 1, 1)
    assert benchmark.num_short_descriptions == 1
    clean = [json.loads(line) for line in (tmp_path / "out/train_clean.jsonl").read_text().splitlines()]
    assert clean == [rows[0], rows[2]]
    assert load_problems(str(tmp_path / "out" / benchmark.clean)) == [SHORT]
    found = list(read_rows(tmp_path / "out/leakage.jsonl", Leak))
    assert {(leak.id, leak.source) for leak in found} == {("data.jsonl, line 2", str(problems))}
    # What is clean stays clean.
    again = find_leakage(str(tmp_path / "out/train_clean.jsonl"), "train", [str(problems)], tmp_path / "again")
    assert again.num_leaking == 0


def test_two_benchmarks_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    sources = []
    for name, problem in (("a", PROBLEM), ("b", SHORT)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "own.jsonl", [problem])
        sources.append(str(tmp_path / name / "own.jsonl"))
    data = write(tmp_path / "data.jsonl", [{"prompt": "p", "completion": "c"}])
    summary = find_leakage(data, "train", sources, tmp_path / "out")
    loaded = [load_problems(str(tmp_path / "out" / one.clean)) for one in summary.benchmarks]
    assert loaded == [[PROBLEM], [SHORT]]


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    source = str(tmp_path / "own.jsonl")
    data = write(tmp_path / "data.jsonl", [{"prompt": "p", "completion": "c"}])
    with pytest.raises(UserError, match="given twice"):
        find_leakage(data, "train", [source, source], tmp_path)
    with pytest.raises(UserError, match="--overlap 0"):
        find_leakage(data, "train", [source], tmp_path, overlap=0)
    with pytest.raises(UserError, match="does not exist"):
        find_leakage(str(tmp_path / "none.jsonl"), "train", [source], tmp_path / "out")
    assert not (tmp_path / "out/train_clean.jsonl").exists()


def test_examples_of_one_id_are_counted_one_by_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    rows = [{"id": "same", "instruction": "Write it.", "output": FUNCTION}] * 2
    data = write(tmp_path / "data.jsonl", [*rows, {"id": "other", "instruction": "Write it.", "output": FUNCTION}])
    summary = find_leakage(data, "train", [str(tmp_path / "own.jsonl")], tmp_path / "out")
    assert (summary.num_leaking, summary.benchmarks[0].num_examples) == (3, 3)


def test_a_run_that_fails_leaves_no_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    for rows, message in (([{"prompt": "p", "completion": "c"}, {"body": "?"}], "no known shape"), ([], "is empty")):
        data = write(tmp_path / "data.jsonl", rows)
        with pytest.raises(UserError, match=message):
            find_leakage(data, "train", [str(tmp_path / "own.jsonl")], tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


def test_the_data_is_not_overwritten(tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    for name in ("leakage.jsonl", "problems_clean_own.jsonl", "train_clean.jsonl"):
        data = write(tmp_path / name, [{"prompt": "p", "completion": "c"}])
        with pytest.raises(UserError, match="is the data itself"):
            find_leakage(data, "train", [str(tmp_path / "own.jsonl")], tmp_path)
    with pytest.raises(UserError, match="or in its folder"):
        refuse_source(str(tmp_path), [tmp_path / "train.jsonl"])
    with pytest.raises(UserError, match="cannot be made"):
        find_leakage(data, "train", [str(tmp_path / "own.jsonl")], Path(data) / "x")
