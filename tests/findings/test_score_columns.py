from pathlib import Path

import pyarrow.parquet
import pytest

from ibft.artifacts.rows import Score, Subset
from ibft.artifacts.score_table import read_scores, write_scores
from ibft.errors import UserError
from ibft.findings.columns import first_copies
from ibft.findings.score_columns import read_columns


def row(subset: Subset, identity: str, code: str, file: str | None = None) -> Score:
    return Score(
        id=identity, subset=subset, index=0, num_tokens=9, scores={"mean_nll": 1.0}, file=file, fingerprint=code
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    train = [
        row("train", "a", "1", "x.py"),
        row("train", "b", "2"),
        row("train", "c", "2"),
        Score(id="none", subset="train", index=3, reason="empty completion"),
        row("train", "d", "2", "x.py"),
        row("train", "e", "3"),
    ]
    control = [
        row("control", "a", "1", "x.py"),
        row("control", "b", "4"),
        row("control", "e", "5"),
    ]
    write_scores(tmp_path / "scores.parquet", [train, control], ["mean_nll"], "mean_nll")
    return tmp_path / "scores.parquet"


def test_groups_are_files_then_copies_then_single_examples(table: Path) -> None:
    a, b, c, d, e = read_columns(table, "train", ["mean_nll"]).groups
    in_x, other_b, other_e = read_columns(table, "control", ["mean_nll"]).groups
    assert a == d == in_x
    assert b == c
    # Equal ids in two files are no copies.
    assert len({a, b, e, other_b, other_e}) == 5


def test_first_copies_are_rows_of_the_columns(table: Path) -> None:
    assert first_copies(read_columns(table, "train", ["mean_nll"]).codes).tolist() == [0, 1, 1, 1, 4]
    assert first_copies(read_columns(table, "control", ["mean_nll"]).codes).tolist() == [0, 1, 2]


def test_a_subset_without_scores_has_empty_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(
        path, [[Score(id="none", subset="train", index=0, reason="empty completion")]], ["mean_nll"], "mean_nll"
    )
    columns = read_columns(path, "train", ["mean_nll"])
    assert len(columns) == len(columns.groups) == len(columns.scores["mean_nll"]) == 0


def test_a_table_of_an_earlier_version_is_read(table: Path) -> None:
    """Which also had every score without the tokens that syntax forces, and their number."""
    new = pyarrow.parquet.read_table(table)
    old = new.append_column("num_free_tokens", pyarrow.array([5] * len(new)))
    old = old.append_column("mean_nll_free", pyarrow.array([0.5] * len(new)))
    pyarrow.parquet.write_table(old, table)
    columns = read_columns(table, "train", ["mean_nll", "mean_nll_free"])
    assert columns.scores["mean_nll"].tolist() == [1.0] * 5
    assert columns.scores["mean_nll_free"].tolist() == [0.5] * 5
    assert columns.num_tokens.tolist() == [9] * 5
    assert [row.value for row in read_scores(table, "mean_nll_free", "control")] == [0.5] * 3
    with pytest.raises(UserError, match=r"no score 'other'\. It has mean_nll, mean_nll_free\.$"):
        list(read_scores(table, "other"))
