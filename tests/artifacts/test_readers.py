"""Files of other tools: read as what they are, to the benchmark's own ids, or refused in words that name the way."""

import gzip
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.readers import Tasks
from ibft.artifacts.readers.inspect_log import archived_samples
from ibft.artifacts.rows import Problem
from ibft.artifacts.samples import open_samples
from ibft.errors import UserError
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file

CASES = Path(__file__).parents[3] / "shared" / "cases" / "formats"


def problem(number: int, name: str = "HumanEval") -> Problem:
    prompt = f'def f{number}():\n    """Return {number}."""\n'
    description = f"Write a function that returns {number}."
    tests = f"assert f{number}() == {number}"
    return Problem(
        task_id=f"{name}/{number}", prompt=prompt, tests=tests, entry_point=f"f{number}", description=description
    )


PROBLEMS = [problem(number) for number in range(12)]
BODY = "    return 1\n"
PROGRAM = PROBLEMS[1].prompt + BODY


def read(path: Path, problems: list[Problem] = PROBLEMS) -> list[tuple[str, str | None, str | None]]:
    samples = open_samples(path, problems, "toy").read()
    return [(sample.task_id, sample.completion, sample.solution) for sample in samples]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def completions(*texts: str, task_id: str = "HumanEval/1") -> list[tuple[str, str | None, str | None]]:
    return [(task_id, text, None) for text in texts]


LM_EVAL = {"doc_id": 0, "doc": {"task_id": "HumanEval/1", "prompt": PROBLEMS[1].prompt}, "filter": "create_test"}
BATCH = {"id": "b", "custom_id": "HumanEval/1", "error": None}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": BODY}}
INSPECT = {"id": "HumanEval/1", "epoch": 1, "input": "", "output": {"choices": [CHOICE]}}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"task_id": "HumanEval_1", "completion": BODY}, completions(BODY)),
        ({"task_id": "humaneval-1", "completion": BODY}, completions(BODY)),
        ({"task_id": 1, "completion": BODY}, completions(BODY)),
        ({"task_id": "1", "solution": PROGRAM}, [("HumanEval/1", None, PROGRAM)]),
        ({"task_id": "HumanEval/1", "completion": ["a", "b"]}, completions("a", "b")),
        ({"task_id": "HumanEval/1", "solution": ["a", ""]}, [("HumanEval/1", None, text) for text in ("a", "")]),
        (LM_EVAL | {"resps": [[BODY, "b"]], "filtered_resps": [[PROGRAM, "b"]]}, completions(BODY, "b")),
        (LM_EVAL | {"resps": [[BODY]], "filtered_resps": [PROGRAM]}, completions(BODY)),
        (LM_EVAL | {"resps": [[BODY]]}, completions(BODY)),
        (LM_EVAL | {"doc": {"task_id": 1, "text": ""}, "resps": [[BODY]]}, completions(BODY)),
        (BATCH | {"response": {"status_code": 200, "body": {"choices": [CHOICE, CHOICE]}}}, completions(BODY, BODY)),
        (BATCH | {"custom_id": "HumanEval/1-7", "response": {"body": {"choices": [CHOICE]}}}, completions(BODY)),
        (BATCH | {"custom_id": "HumanEval_1_10", "response": {"body": {"choices": [CHOICE]}}}, completions(BODY)),
        (BATCH | {"response": {"body": {"choices": [{"text": BODY}]}}}, completions(BODY)),
        (BATCH | {"response": {"body": {"choices": [{"message": {"content": None}}]}}}, completions("")),
        (
            BATCH | {"response": {"body": {"output": [{"type": "reasoning"}, {"type": "message", "content": [
                {"type": "output_text", "text": BODY}]}]}}},
            completions(BODY),
        ),
        ({"request_id": "9", "prompt": PROBLEMS[1].prompt, "outputs": [{"text": BODY}]}, completions(BODY)),
        ({"prompt": f"<user>{PROBLEMS[1].prompt}<end>", "outputs": [{"text": BODY}]}, completions(BODY)),
        ({"task_id": 1, "prompt": None, "outputs": [{"text": "a"}, {"text": "b"}]}, completions("a", "b")),
    ],
)  # fmt: skip
def test_rows_of_each_tool(tmp_path: Path, row: Any, expected: list[tuple[str, str | None, str | None]]) -> None:
    assert read(lines(tmp_path / "s.jsonl", row, row)) == expected * 2
    (tmp_path / "s.json").write_text(json.dumps([row], indent=1))
    assert read(tmp_path / "s.json") == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"task_id": 77, "completion": ""}, r"1 of 1 samples answer tasks that toy lacks \(first: '77', line 1\)"),
        (LM_EVAL | {"doc": {"question": "?"}, "resps": [["1"]]}, "line 1: its `doc` has no `task_id`"),
        (LM_EVAL | {"resps": [[[-1.5, False]]]}, "line 1: an answer is not a text"),
        (BATCH | {"response": None, "error": {"message": "expired"}}, "line 1: the request 'HumanEval/1' failed"),
        (BATCH | {"response": {"status_code": 429, "body": {}}}, "line 1: the request 'HumanEval/1' failed"),
        (BATCH | {"response": {"body": {}}}, "line 1: the response to 'HumanEval/1' has neither"),
        (BATCH | {"custom_id": "request-1", "response": {"body": {"choices": [CHOICE]}}}, "first: 'request'"),
        ({"prompt": "something else", "outputs": [{"text": ""}]}, "line 1: its prompt holds the prompt of no problem"),
        ({"prompt": PROBLEMS[1].prompt + PROBLEMS[2].prompt, "outputs": []}, "line 1: its prompt holds .* of several"),
        ({"version": 2, "eval": {"task": "t"}, "samples": []}, "line 1: the log has no samples"),
        ({"version": 2, "eval": {}, "samples": [INSPECT | {"error": {"message": "m"}}]}, "the sample .* has no answer"),
        ({"version": 2, "eval": {}, "samples": [INSPECT | {"id": 1}]}, "the sample 1 has only a number"),
        ({"task_id": "HumanEval/1", "completion": "", "passed": True, "result": ""}, "`ibft judge diff`"),
        ({"date": "", "hash": "", "eval": {}}, "EvalPlus's eval_results.json, not samples"),
        ({"results": {}, "configs": {}}, "run it with --log_samples"),
        ({"custom_id": "a", "method": "POST", "url": "/v1", "body": {}}, "judge the output file of the batch"),
        ({"custom_id": "a", "result": {}}, "Anthropic's batch API"),
        ({"task_id": "HumanEval/1", "prompt": "", "tests": ""}, "give the file as --problems"),
        ({"instruction": "", "output": ""}, "a tool that is not known .*`instruction`, `output`"),
    ],
)
def test_what_is_not_read_is_refused_with_the_way(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_samples(lines(tmp_path / "s.jsonl", row), PROBLEMS, "toy")


def test_ids_that_could_mean_two_tasks_mean_none() -> None:
    tasks = Tasks([problem(1), problem(1, "Mbpp"), problem(2), Problem(task_id="human_eval/2", prompt="", tests="")])
    assert [tasks.by_id(name) for name in (1, "1", "HUMANEVAL/2", "human-eval-2", "mbpp_1", "Mbpp/1")] == [
        "1", "1", "HumanEval/2", "human_eval/2", "Mbpp/1", "Mbpp/1",
    ]  # fmt: skip
    assert tasks.by_text(problem(1).prompt) is None  # of two benchmarks
    assert tasks.by_text("... Write a function that returns 2. ...") == "HumanEval/2"
    assert Tasks([problem(602, "Mbpp")]).by_id(602) == "Mbpp/602"


def test_a_log_with_several_filters_is_read_once(tmp_path: Path) -> None:
    rows = [LM_EVAL | {"resps": [["a"]], "filter": name} for name in ("strict", "flexible", "strict")]
    assert read(lines(tmp_path / "samples_x.jsonl", *rows)) == completions("a", "a")


def test_another_tools_row_in_between_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "s.jsonl", LM_EVAL | {"resps": [["a"]]}, {"task_id": "HumanEval/1", "completion": ""})
    with pytest.raises(UserError, match=r"line 2: .*`doc`.* Each row must have `doc`"):
        open_samples(path, PROBLEMS, "toy")


def test_gzip_is_known_by_content(tmp_path: Path) -> None:
    row = json.dumps({"task_id": 1, "completion": BODY}).encode()
    (tmp_path / "s.jsonl").write_bytes(gzip.compress(row))
    (tmp_path / "s.jsonl.gz").write_bytes(row)
    assert read(tmp_path / "s.jsonl") == read(tmp_path / "s.jsonl.gz") == completions(BODY)


def test_lone_surrogates_in_an_array_cost_one_sample(tmp_path: Path) -> None:
    rows = [{"task_id": 1, "completion": "\ud800"}, {"task_id": 1, "completion": "é"}]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    assert read(tmp_path / "s.json") == completions("\ud800", "é")


@pytest.mark.parametrize("text", ["[", '[{"task_id": 1, "completion": ""},', '{\n"eval": {', "[" * 9999, "[1]", "[]"])
def test_damaged_documents(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UserError, match=r"s\.json"):
        open_samples(tmp_path / "s.json", PROBLEMS, "toy")


# bigcode-evaluation-harness


def program(number: int) -> str:
    return f"{PROBLEMS[number].prompt.strip()}\n    return {number}"


@pytest.mark.parametrize(
    ("generations", "first"),
    [
        ([[program(number)] for number in range(12)], 0),
        ([[program(0)], [program(1)]], 0),  # --limit
        ([[program(3)], [""], [program(5)]], 3),  # --limit_start
        ([["def f0(): 0"], ["def f1(): 0", "x"]], 0),
        ([["    pass\n"]] * 12, 0),
    ],
)
def test_generations_by_position(tmp_path: Path, generations: list[list[str]], first: int) -> None:
    (tmp_path / "generations_toy.json").write_text(json.dumps(generations))
    found = read(tmp_path / "generations_toy.json")
    expected = [(f"HumanEval/{first + n}", text) for n, texts in enumerate(generations) for text in texts]
    assert [(task_id, completion if solution is None else solution) for task_id, completion, solution in found] == (
        expected
    )
    assert all((solution is not None) == ("def f" in (solution or "")) for _, _, solution in found)


def test_generations_of_multipl_e_end_before_their_function_does(tmp_path: Path) -> None:
    add = Problem(task_id="t", prompt="int add(int a) {\n", tests="}\n", entry_point="add", language="cpp")
    (tmp_path / "generations_multiple-cpp.json").write_text(json.dumps([["int add(int a) {\n    return a;"]]))
    samples = read(tmp_path / "generations_multiple-cpp.json", [add])
    assert samples == [("t", "\n    return a;", None)]


# LiveCodeBench and MultiPL-E


def test_output_of_livecodebench(tmp_path: Path) -> None:
    row = {"question_id": "HumanEval/1", "output_list": ["Here: ..."] * 2, "code_list": [PROGRAM, ""], "platform": "x"}
    (tmp_path / "out.json").write_text(json.dumps([row]))
    assert read(tmp_path / "out.json") == [("HumanEval/1", None, PROGRAM), ("HumanEval/1", None, "")]


def test_completions_of_multipl_e(tmp_path: Path) -> None:
    for name in ("HumanEval_1", "HumanEval_2"):
        content = json.dumps({"name": name, "prompt": "", "completions": [BODY, name], "tests": ""}).encode()
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(content))
    (tmp_path / "HumanEval_1.results.json.gz").write_bytes(gzip.compress(b'{"name": "HumanEval_1", "results": []}'))
    found = [*completions(BODY, "HumanEval_1"), *completions(BODY, "HumanEval_2", task_id="HumanEval/2")]
    assert read(tmp_path) == found
    assert read(tmp_path / "HumanEval_1.json.gz") == found[:2]


@pytest.mark.parametrize(
    "generations",
    [
        [["    pass\n"]] * 3,  # which three?
        [["    pass\n"]] * 13,
        [[program(3)], [program(5)]],
        [[program(11)], ["x"]],
        [["def f1(): 0"]],
    ],
)
def test_generations_whose_problems_cannot_be_told_are_refused(tmp_path: Path, generations: list[list[str]]) -> None:
    (tmp_path / "generations_toy.json").write_text(json.dumps(generations))
    with pytest.raises(UserError, match="judge with the benchmark that they were made for"):
        open_samples(tmp_path / "generations_toy.json", PROBLEMS, "toy")


# Inspect


def inspect_sample(sample_id: str | int, **fields: Any) -> dict[str, Any]:
    return INSPECT | {"id": sample_id} | fields


def with_content(content: Any, **fields: Any) -> dict[str, Any]:
    return inspect_sample(
        1, input=PROBLEMS[1].prompt, output={"choices": [{"message": {"content": content}}]}, **fields
    )


@pytest.mark.parametrize(
    "sample",
    [
        inspect_sample("HumanEval_1"),
        inspect_sample(1, input=f"Complete this:\n{PROBLEMS[1].prompt}"),
        inspect_sample(2, input=[{"role": "user", "content": [{"type": "text", "text": PROBLEMS[1].prompt}]}]),
        with_content([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": BODY}]),
        with_content("attachment://abc", attachments={"abc": BODY}),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_inspect_log_in_json(tmp_path: Path, sample: dict[str, Any], indent: int | None) -> None:
    (tmp_path / "log.json").write_text(json.dumps({"version": 2, "eval": {}, "samples": [sample]}, indent=indent))
    assert read(tmp_path / "log.json") == completions(BODY)


def archive(path: Path, files: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, json.dumps(content))
    return path


def test_inspect_log_as_an_archive(tmp_path: Path) -> None:
    start = {"version": 2, "eval": {"task": "t"}}
    files = {"_journal/start.json": start, "samples/HumanEval/1_epoch_1.json": INSPECT, "header.json": start}
    assert read(archive(tmp_path / "log.eval", files)) == completions(BODY)
    assert read(archive(tmp_path / "whole.eval", {"header.json": start | {"samples": [INSPECT]}})) == completions(BODY)
    del files["header.json"]  # of a run that was killed
    assert read(archive(tmp_path / "log", files)) == completions(BODY)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": 1}, "a zip archive, but not an Inspect log"),
        ({"header.json": {"eval": {}}}, r"header\.json: the log has no samples"),
        ({"samples/1_epoch_1.json": {"id": 1}}, r"samples/1_epoch_1\.json: .*`output`"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_samples(archive(tmp_path / "log.eval", files), PROBLEMS, "toy")


def zstandard_archive(path: Path, name: str, content: bytes) -> Path:
    """Write an archive with one file, packed by Zstandard as Inspect does, which Python writes from 3.14 on."""
    pyarrow = pytest.importorskip("pyarrow")
    packed = pyarrow.compress(content, codec="zstd", asbytes=True)
    sizes = struct.pack("<HHHIII", 93, 0, 33, zlib.crc32(content), len(packed), len(content))
    local = b"PK\x03\x04" + struct.pack("<HH", 20, 0) + sizes + struct.pack("<HH", len(name), 0) + name.encode()
    central = b"PK\x01\x02" + struct.pack("<HHH", 20, 20, 0) + sizes
    central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local + packed), 0)
    path.write_bytes(local + packed + central + end)
    return path


def test_inspect_packs_by_zstandard(tmp_path: Path) -> None:
    name = "samples/HumanEval/1_epoch_1.json"
    path = zstandard_archive(tmp_path / "log.eval", name, json.dumps(INSPECT).encode())
    assert [place for place, _ in archived_samples(path)] == [name]
    assert read(path) == completions(BODY)
    path.write_bytes(path.read_bytes().replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"))
    with pytest.raises(UserError, match=r"log\.eval: cannot be"):
        read(path)


# EvalPlus's folders, and others


def test_a_folder_of_evalplus(tmp_path: Path) -> None:
    for task, number in (("HumanEval_10", 0), ("HumanEval_2", 10), ("HumanEval_2", 9)):
        (tmp_path / task).mkdir(exist_ok=True)
        (tmp_path / task / f"{number}.py").write_text(f"{task}, {number}")
    (tmp_path / "HumanEval_2" / "notes.py").write_text("")
    found = list(open_samples(tmp_path, PROBLEMS, "toy").read())
    assert [(sample.task_id, sample.solution, sample.index) for sample in found] == [
        ("HumanEval/2", "HumanEval_2, 9", 9),
        ("HumanEval/2", "HumanEval_2, 10", 10),
        ("HumanEval/10", "HumanEval_10, 0", 0),
    ]
    (tmp_path / "HumanEval_2" / "9.py").write_bytes(b"\xe9")
    with pytest.raises(UserError, match=r"9\.py: cannot be read"):
        open_samples(tmp_path, PROBLEMS, "toy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.parquet", b"PAR1....", "a Parquet file, .*pandas.read_parquet"),
        ("s.arrow", b"ARROW1..", "an Arrow file, .*to_json"),
        ("s.pkl", b"\x80\x04....", "a pickle, .*would run code"),
        ("data/s.arrow", b"", "a data set of Hugging Face"),
        ("model/readme.md", b"", "a folder without EvalPlus's programs"),
    ],
)
def test_other_files_and_folders(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_samples(path if path.parent == tmp_path else path.parent, PROBLEMS, "toy")


NUM_SAMPLES = {
    "completion_list.jsonl": 6,
    "generations_humaneval.json": 6,
    "vllm_offline.jsonl": 6,
    "noext_gz.jsonl": 1,
}
"""Those of the files that hold another number than one for each of HumanEval/0, 1 and 2."""


@pytest.mark.slow
@pytest.mark.skipif(not CASES.exists(), reason="../shared is not here")
@pytest.mark.parametrize("path", sorted(CASES.glob("[!m]*")), ids=lambda path: path.name)
def test_the_shared_cases_are_judged_rightly(path: Path, tmp_path: Path) -> None:
    config = JudgeConfig(workers=1)
    metrics = judge_file("humaneval", path, tmp_path, config, (1,), tasks=["HumanEval/[012]"], resamples=10)
    number = NUM_SAMPLES.get(path.name, 3)
    # All are canonical solutions but that one, `return True`.
    expected = {"failed": 1} if path.name == "noext_gz.jsonl" else {"passed": number}
    assert metrics.statuses == expected


@pytest.mark.skipif(not CASES.exists(), reason="../shared is not here")
@pytest.mark.parametrize("name", ["mbpp_full.jsonl", "mbpp_hub.jsonl"])
def test_the_shared_files_of_mbpp(name: str) -> None:
    [found] = load_problems(f"mbpp:{CASES / name}")
    assert load_problems(str(CASES / name)) == [found]
    assert (found.task_id[:5], found.entry_point, found.tests) == ("Mbpp/", "f", "assert f(1) == 1\n")
