import gzip
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.json_lines import RowWriter, raw_row, read_rows, write_atomically, write_rows
from ibft.artifacts.rows import Sample
from ibft.errors import UserError

SAMPLES = [
    Sample(task_id="a", completion="x\n"),
    Sample(task_id="b", solution="é\n\0"),
]


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_rows(path, SAMPLES)
    assert list(read_rows(path, Sample)) == SAMPLES
    zipped = tmp_path / "samples.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_rows(zipped, Sample)) == SAMPLES


def test_unknown_fields_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"task_id": "a", "completion": "x", "extra": 1}\n\n')
    assert list(read_rows(path, Sample)) == [Sample(task_id="a", completion="x")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"task_id": "a"}\n{"task_id": 3}\n', "line 2"),
        (b'{"task_id": "a"}\n\n{"completion": "x"}\n', "line 3"),
        (b'{"task_id": "a"\n', "line 1"),
        (b'{"task_id": "\xff"}\n', "line 1"),
        (b"[]\n", "line 1"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        list(read_rows(path, Sample))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl"):
        list(read_rows(tmp_path / "none.jsonl", Sample))
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"task_id": "a"}\n' * 100)[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        list(read_rows(broken, Sample))


def test_the_writer_drops_the_line_a_kill_left_unfinished(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    with RowWriter(path) as writer:
        writer.write(SAMPLES[:1])
    with open(path, "ab") as file:
        file.write(b'{"task_id": "b", "compl')
    with RowWriter(path) as writer:
        writer.write(SAMPLES[1:])
    assert list(read_rows(path, Sample)) == SAMPLES


@pytest.fixture
def tiny_disk() -> Iterator[None]:
    """Let no file grow past 4 KiB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("tiny_disk")
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written.*Free space"):
        write_atomically(tmp_path / "x", "text" * 2000)
    assert list(tmp_path.iterdir()) == []
    with RowWriter(tmp_path / "rows.jsonl") as writer, pytest.raises(UserError, match="Free space"):
        writer.write(SAMPLES * 200)


def test_an_unfinished_line_longer_than_a_block_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b'{"task_id": "a"}\n' + b"x" * 200_000)
    with RowWriter(path):
        pass
    assert path.read_bytes() == b'{"task_id": "a"}\n'


def test_rows_of_others_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [{"a": [1.5, None, True, 2**80], "é": "\ud83d"}, ["x"], "text"]
    write_rows(tmp_path / "rows.jsonl", map(raw_row, rows))
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows


def test_rows_that_fail_while_they_are_written_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[msgspec.Raw]:
        yield raw_row({"a": 1})
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_rows(tmp_path / "rows.jsonl", rows())
    assert list(tmp_path.iterdir()) == []
