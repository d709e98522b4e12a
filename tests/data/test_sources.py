"""What a source is called, and its digest: it follows what is read, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ibft.data.sources import data_digest, hub_name
from ibft.data.training import stream_training
from ibft.run.sections import DataConfig

ROWS = [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(4)]


def write(path: Path, num_rows: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:num_rows]))


def num_read(folder: Path) -> int:
    return len(list(stream_training(DataConfig(train=str(folder)))))


def save(folder: Path, num_rows: int = 4) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS[:num_rows]).save_to_disk(str(folder))


@pytest.mark.parametrize("name", ["plain", "my@v2", "a@b/inside"])
def test_a_folder_is_read_and_known_by_its_whole_path(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "train.jsonl")
    before = data_digest(str(tmp_path / name))
    assert before is not None
    assert num_read(tmp_path / name) == 4
    write(tmp_path / name / "train.jsonl", 3)
    assert data_digest(str(tmp_path / name)) not in (None, before)
    assert num_read(tmp_path / name) == 3


def test_a_saved_folder_is_read_and_known_by_its_whole_path(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path / f"saved@{number}", number)
    digests = {data_digest(str(tmp_path / f"saved@{number}")) for number in (1, 2)}
    assert len(digests - {None}) == 2
    assert num_read(tmp_path / "saved@1") == 1


def test_a_revision_is_one_where_no_folder_has_the_whole_name(tmp_path: Path) -> None:
    assert hub_name("owner/name@main") == ("owner/name", "main")
    assert hub_name("owner/name") == ("owner/name", None)
    (tmp_path / "data").mkdir()
    assert hub_name(f"{tmp_path}/data@main") == (f"{tmp_path}/data", "main")


@pytest.mark.parametrize("name", ["tmp_a.jsonl", "tmpabcdefgh.jsonl", "cache-1.jsonl"])
def test_a_file_that_is_read_counts_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data" / name)
    before = data_digest(str(tmp_path / "data"))
    assert num_read(tmp_path / "data") == 4
    write(tmp_path / "data" / name, 3)
    assert data_digest(str(tmp_path / "data")) != before


def test_an_arrow_file_that_is_read_counts_whatever_it_is_called(tmp_path: Path) -> None:
    for num_rows in (4, 3):
        save(tmp_path / str(num_rows), num_rows)
        [made] = (tmp_path / str(num_rows)).glob("*.arrow")
        (tmp_path / f"plain@{num_rows}").mkdir()
        made.rename(tmp_path / f"plain@{num_rows}" / "cache-1.arrow")
    assert num_read(tmp_path / "plain@3") == 3
    assert data_digest(str(tmp_path / "plain@3")) != data_digest(str(tmp_path / "plain@4"))


def test_what_is_computed_from_a_saved_folder_does_not_count(tmp_path: Path) -> None:
    from datasets import load_from_disk

    save(tmp_path)
    before = data_digest(str(tmp_path))
    load_from_disk(str(tmp_path)).map(lambda row: {"more": row["prompt"]})
    assert list(tmp_path.glob("cache-*.arrow"))
    (tmp_path / "tmp1a_b2c3d").write_bytes(b"of a map that was interrupted")
    assert data_digest(str(tmp_path)) == before
    write(tmp_path / "tmp_own.jsonl")
    assert data_digest(str(tmp_path)) != before
