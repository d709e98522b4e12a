import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.rows import Pair
from ibft.data.shapes import to_pair
from ibft.data.sources import data_digest
from ibft.data.training import Example, stream_examples, stream_training
from ibft.errors import UserError
from ibft.run.sections import DataConfig


def pairs_of(data: DataConfig) -> list[Any]:
    return [example.pair for example in stream_training(data)]


ROWS = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]


def write_rows_as(path: Path) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_bytes(gzip.compress(lines) if suffix == ".gz" else lines)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "data.jsonl",
        "data.jsonl.gz",
        "data.json",
        "data.parquet",
        "a.jsonl.json",
        *("T.JSONL", "T.Jsonl.GZ", "T.JSON", "T.PARQUET"),
    ],
)
def test_every_file_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    path = write_rows_as(tmp_path / name)
    pairs = pairs_of(DataConfig(train=str(path)))
    assert [(pair.prompt, pair.completion) for pair in pairs] == [("p0", "c0"), ("p1", "c1"), ("p2", "c2")]
    assert len({pair.id for pair in pairs}) == 3
    assert len(pairs_of(DataConfig(train=str(path), max_examples=2))) == 2


def test_a_folder_in_the_hubs_layout_loads_as_a_hub_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows_as(tmp_path / "data" / "train-00000.parquet")
    pairs = pairs_of(DataConfig(train=str(tmp_path)))
    assert [pair.completion for pair in pairs] == ["c0", "c1", "c2"]


def test_a_limit_reads_no_more_of_hub_data_than_it_needs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows_as(tmp_path / "data" / "train-00000-of-00002.parquet")
    (tmp_path / "data" / "train-00001-of-00002.parquet").write_bytes(b"not downloaded")
    source = str(tmp_path)
    assert [example.row for example in stream_examples(source, limit=2)] == ROWS[:2]
    assert [pair.completion for pair in pairs_of(DataConfig(train=source, max_examples=2))] == ["c0", "c1"]
    for limit in (4, None):
        with pytest.raises(UserError, match="cannot be loaded"):
            list(stream_examples(source, limit=limit))


def test_a_limit_changes_neither_ids_nor_rows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_rows_as(tmp_path / "data" / "train-00000.parquet")
    for source in (str(tmp_path), str(write_rows_as(tmp_path / "data.jsonl")), "functions:click"):
        assert list(stream_examples(source, limit=2)) == list(stream_examples(source))[:2]
    assert [example.pair.completion for example in stream_examples(str(tmp_path), "train[1:]", 1)] == ["c1"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"prompt": "p", "completion": "c"}\n{"prompt": ', "line 2: not valid JSON"),
        ("a.jsonl", b'{"prompt": "p", "completion": "c"}\n\n{"x": 1}\n', "line 3: no known shape"),
        ("a.json", b"{}", "must hold a list"),
        ("a.json", b"[1]", "item 1: expected an object"),
        ("a.parquet", b"nothing", "not a readable Parquet file"),
        ("a.jsonl.gz", b"nothing", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 20, r"^[^\n]*a.jsonl.gz: cannot be read"),
        ("a.json.gz", gzip.compress(b"[]" * 99, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl", b"\n" + b"[" * 10_000, "a.jsonl, line 2: JSON that is nested too deeply"),
        ("a.json", b"[" * 10_000, "a.json: JSON that is nested too deeply"),
        ("a.jsonl", b"1" * 5_000, "a.jsonl, line 1: not valid JSON"),
        ("a.csv", b"prompt,completion\np,c\np\n", "row 2: 1 cells, and the header has 2"),
        ("a.csv", b'prompt,completion\np,"c\n', "a.csv: not readable behind line 2"),
        ("a.tsv", b"prompt\tcompletion\np\t\xff\n", "a.tsv: not readable behind line"),
        ("a.xlsx", b"", r"a.xlsx is a file .*Convert it to one of .jsonl, .*, .parquet"),
        ("a", b"{}", "is a file of a form that is not read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        pairs_of(DataConfig(train=str(tmp_path / name)))


@pytest.mark.parametrize("read", [data_digest, lambda source: list(stream_examples(source))])
def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path, read: Any) -> None:
    for name in ("none.jsonl", "NONE.JSON", "none.parquet"):
        with pytest.raises(UserError, match=rf"the file .*{name} does not exist. Correct the path"):
            read(str(tmp_path / name))


@pytest.mark.parametrize("source", ["none.jsonl", "./no-such-folder", "functions:no_such_package", "functions:../x"])
def test_a_missing_source_is_named(source: str) -> None:
    with pytest.raises(UserError):
        pairs_of(DataConfig(train=source))


def test_a_form_feed_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pages"
    package.mkdir()
    (package / "__init__.py").write_text('x = 1\n\f\ndef f(a):\n    """Add one."""\n    return a + 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    (pair,) = pairs_of(DataConfig(train="functions:pages"))
    assert (pair.prompt, pair.completion) == ('def f(a):\n    """Add one."""\n', "    return a + 1\n")


def test_a_module_that_is_nested_too_deeply_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "depths"
    package.mkdir()
    (package / "__init__.py").write_text('def f(a):\n    """Add one."""\n    return a + 1\n')
    (package / "deep.py").write_text(f"x = {'-' * 4_000}1\n")
    (package / "deeper.py").write_text(f"x = {'-' * 100_000}1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(pairs_of(DataConfig(train="functions:depths"))) == 1


def test_functions_are_split_after_their_docstring() -> None:
    pairs = pairs_of(DataConfig(train="functions:stdlib"))
    assert len(pairs) > 1000
    assert pairs == pairs_of(DataConfig(train="functions:stdlib"))
    bisect = next(pair for pair in pairs if pair.id.endswith(":bisect_left"))
    assert isinstance(bisect.prompt, str)
    assert bisect.prompt.startswith("def bisect_left(a, x, lo=0, hi=None, *, key=None):")
    assert bisect.prompt.endswith('"""\n')
    assert "return lo" in bisect.completion
    for pair in pairs:
        compile(f"{pair.prompt}{pair.completion}", pair.id, "exec")


def test_examples_stream_with_the_rows_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "p", "completion": "c", "more": 1}\n\n{"prompt": "q", "completion": "d"}\nnot JSON\n')
    stream = stream_examples(str(path))
    first, second = next(stream), next(stream)
    row = {"prompt": "p", "completion": "c", "more": 1}
    assert first == Example(Pair("data.jsonl, line 1", "p", "c"), row, str(path))
    assert second.pair == Pair("data.jsonl, line 3", "q", "d")
    with pytest.raises(UserError, match="line 4"):
        next(stream)
    function = next(stream_examples("functions:click"))
    assert to_pair(function.row, "x") == function.pair


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = write_rows_as(tmp_path / "data.jsonl")
    before = data_digest(str(path))
    path.write_text(path.read_text() + '{"prompt": "x", "completion": "y"}\n')
    assert data_digest(str(path)) != before
    assert data_digest("functions:stdlib") == data_digest("functions:stdlib") != data_digest("functions:click")
