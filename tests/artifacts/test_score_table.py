import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from ibft.artifacts.rows import Score
from ibft.artifacts.score_table import SCORES_FILE, read_scores, score_name, write_scores
from ibft.errors import UserError

NAMES = ("mean_nll", "min_k_prob_20", "mean_nll_free")
BLOCKS = [
    [
        Score(
            id="a",
            subset="train",
            index=0,
            num_tokens=7,
            scores={"mean_nll": 1 / 3, "min_k_prob_20": 2.5, "mean_nll_free": 0.1},
            num_prefix_tokens=2,
            num_suffix_tokens=3,
            num_matched_tokens=1,
            suffix_log_prob=-4.5,
            extraction_strength=0.25,
            exact_memorization=0.5,
            log_probs=[-1 / 3, -2.0],
            file="é.py",
            tags=("x", "y"),
            fingerprint="00ff",
        ),
        Score(id="a", subset="train", index=3, reason="empty completion"),
    ],
    [Score(id="c", subset="control", index=0, num_tokens=2, scores={"mean_nll": 1.5, "min_k_prob_20": 3.5})],
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_scores(tmp_path / SCORES_FILE, BLOCKS, NAMES, "min_k_prob_20", keeps_tokens=True)
    return tmp_path


def test_every_field_has_a_column_and_every_score_one_of_its_own(table: Path) -> None:
    columns = [name for name in Score.__struct_fields__ if name != "scores"] + list(NAMES)
    rows = pyarrow.parquet.read_table(table / SCORES_FILE, columns=columns).to_pylist()
    expected = [row for block in BLOCKS for row in block]
    for found, row in zip(rows, expected, strict=True):
        for name in Score.__struct_fields__:
            if name != "scores":
                value = getattr(row, name)
                assert found[name] == (list(value) if isinstance(value, tuple) else value), name
        assert {name: found[name] for name in NAMES if found[name] is not None} == row.scores


def test_only_a_table_that_keeps_them_has_the_tokens(tmp_path: Path) -> None:
    write_scores(tmp_path / SCORES_FILE, BLOCKS, NAMES, "min_k_prob_20")
    assert "log_probs" not in pyarrow.parquet.read_schema(tmp_path / SCORES_FILE).names


def test_a_block_is_a_row_group(table: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = parquet.ParquetFile(table / SCORES_FILE)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 1]
    assert [path.name for path in table.iterdir()] == [SCORES_FILE]  # nothing temporary is left


def test_only_rows_with_the_score_are_read(table: Path) -> None:
    assert [tuple(row) for row in read_scores(table, "mean_nll")] == [(0, "a", 1 / 3, 7, "00ff"), (0, "c", 1.5, 2, "")]
    assert [row.id for row in read_scores(table / SCORES_FILE, "mean_nll", "control")] == ["c"]
    assert [row.value for row in read_scores(table, "mean_nll_free")] == [0.1]


def test_a_scan_without_rows_reads_as_none(tmp_path: Path) -> None:
    write_scores(tmp_path / SCORES_FILE, [], NAMES, "mean_nll")
    assert list(read_scores(tmp_path, "mean_nll", "train")) == []


@pytest.mark.parametrize("name", ["min_k_prob_30", "file", "id", "index", "tags", "reason", "suffix_log_prob", ""])
def test_what_is_no_score_is_refused_and_the_scores_are_listed(table: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"has no score '{name}'\. It has mean_nll, min_k_prob_20, mean_nll_free\.$"):
        list(read_scores(table, name))


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Run `ibft scan` first"):
        list(read_scores(tmp_path / "none", "mean_nll"))
    with pytest.raises(UserError, match="Run `ibft scan` first"):
        list(read_scores(tmp_path, "mean_nll"))
    (tmp_path / SCORES_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="not a readable file of scores"):
        list(read_scores(tmp_path, "mean_nll"))


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_scores(tmp_path / "none" / SCORES_FILE, BLOCKS, NAMES, "min_k_prob_20")


def test_a_failure_while_rows_come_leaves_no_table(tmp_path: Path) -> None:
    def blocks() -> object:
        yield BLOCKS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scores(tmp_path / SCORES_FILE, blocks(), NAMES, "mean_nll")  # type: ignore[arg-type]
    assert not (tmp_path / SCORES_FILE).exists()
    write_scores(tmp_path / SCORES_FILE, BLOCKS, NAMES, "min_k_prob_20")
    assert [path.name for path in tmp_path.iterdir()] == [SCORES_FILE]


def test_without_pyarrow_the_error_names_the_extra(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'ibft\[audit\]'"):
        list(read_scores(table, "mean_nll"))


def test_short_words_stand_for_scores_and_none_for_the_headline(table: Path) -> None:
    words = {
        "min_k": "min_k_prob_20",
        "min_k_plus_plus": "min_k_plus_plus_20",
        "nll": "mean_nll",
        "zlib_ratio": "zlib_ratio",
        "min_k_prob_10_free": "min_k_prob_10_free",
        None: "min_k_prob_20",
    }
    for path in (table, table / SCORES_FILE):
        assert {word: score_name(path, word) for word in words} == words
    with pytest.raises(UserError, match="Run `ibft scan` first"):
        score_name(table / "none", None)
