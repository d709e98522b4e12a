import gzip
import json
from pathlib import Path

import pytest

from ibft.artifacts.rows import Problem, Sample
from ibft.artifacts.samples import open_samples
from ibft.errors import UserError

TASKS = [Problem(task_id=task_id, prompt="", tests="assert f()") for task_id in ("T/0", "T/1")]


def write(path: Path, *rows: object) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_both_formats_keep_order_and_count_within_each_task(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name,
        {"task_id": "T/1", "completion": "a", "other_tool": 1},
        {"task_id": "T/0", "solution": "b"},
        {"task_id": "T/1", "completion": ""},
        {"task_id": "T/1", "completion": "c", "index": 9},
    )
    samples = list(open_samples(path, TASKS, "toy").read())
    assert [(s.task_id, s.text, s.index) for s in samples] == [
        ("T/1", "a", 0), ("T/0", "b", 0), ("T/1", "", 1), ("T/1", "c", 9),
    ]  # fmt: skip
    assert samples[1] == Sample(task_id="T/0", solution="b", index=0)


def test_lone_surrogates_cost_one_sample_and_not_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl", {"task_id": "T/0", "completion": "'\ud800'"}, {"task_id": "T/0", "completion": "é"}
    )
    assert [sample.text for sample in open_samples(path, TASKS, "toy").read()] == ["'\ud800'", "é"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: .*task_id"),
        ('{"task_id": 1.5, "completion": ""}', "line 2: .*int"),
        ('{"task_id": "T/0", "completion": ["", null]}', "line 2: .*str"),
        ('{"task_id": "T/0"}', "line 2: task 'T/0' has neither"),
        ('{"task_id": "T/0", "completion": "", "solution": ""}', "line 2: task 'T/0' has both"),
        (
            '{"task_id": "U/7", "completion": ""}',
            r"EvalPlus: 1 of 2 samples answer tasks that toy lacks \(first: 'U/7', line 2\)",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path / "s.jsonl", {"task_id": "T/0", "completion": ""}, row)
    with pytest.raises(UserError, match=message):
        open_samples(path, TASKS, "toy")


def test_samples_of_other_tasks_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"task_id": task_id, "completion": ""} for task_id in ("T/0", "T/1", "T/0")]
    found = open_samples(write(tmp_path / "s.jsonl", *rows), TASKS, "toy", ["T/1"])
    assert (found.num_samples, found.num_left_out) == (1, 2)
    assert [sample.task_id for sample in found.read()] == ["T/1"]
    with pytest.raises(UserError, match="none of its 3 samples"):
        open_samples(tmp_path / "s.jsonl", TASKS, "toy", [])


def test_samples_of_the_rest_of_a_benchmark_are_left_out_where_only_a_part_is_read(tmp_path: Path) -> None:
    rows = [{"task_id": task_id, "completion": task_id} for task_id in ("U/7", "T/1")]
    found = open_samples(write(tmp_path / "s.jsonl", *rows), TASKS, "toy", is_part=True)
    assert ([sample.text for sample in found.read()], found.num_left_out) == (["T/1"], 1)


def test_empty_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no samples in it"):
        open_samples(write(tmp_path / "s.jsonl", ""), TASKS, "toy")
    with pytest.raises(UserError, match="cannot be read"):
        open_samples(tmp_path / "none.jsonl", TASKS, "toy")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"task_id": "T/0", "completion": ""}\n' * 99)[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        open_samples(tmp_path / "cut.jsonl.gz", TASKS, "toy")
    (tmp_path / "latin.jsonl").write_bytes(b'{"task_id": "T/0", "completion": "\xe9"}\n')
    with pytest.raises(UserError, match="line 1"):
        open_samples(tmp_path / "latin.jsonl", TASKS, "toy")
