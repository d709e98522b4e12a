import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.rows import Pair
from ibft.data.shapes import to_pair
from ibft.data.skipped import SkippedRow, counted
from ibft.data.sources import data_digest
from ibft.data.training import Example, stream_examples, stream_training
from ibft.errors import RowError, UserError
from ibft.run.sections import DataConfig, SourceConfig


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


def test_tables_give_the_same_pairs(tmp_path: Path) -> None:
    for name, delimiter, zipped in (("a.csv", ",", False), ("a.tsv", "\t", False), ("A.CSV.GZ", ",", True)):
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["prompt", "completion", "id"])
        writer.writerows([(f'p{i}\n,"x"\t', "c\n" + "y" * 200_000, f"row {i}") for i in range(3)])
        content = ("\ufeff" + file.getvalue()).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if zipped else content)
        expected = [Pair(f"row {i}", f'p{i}\n,"x"\t', "c\n" + "y" * 200_000) for i in range(3)]
        assert pairs_of(DataConfig(train=str(tmp_path / name))) == expected


@pytest.mark.parametrize("has_splits", [False, True])
def test_what_save_to_disk_has_written_is_read(tmp_path: Path, has_splits: bool) -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_list(ROWS)
    saved = DatasetDict({"train": dataset, "other": dataset.select([1])}) if has_splits else dataset
    saved.save_to_disk(str(tmp_path / "saved"))
    source = str(tmp_path / "saved")
    assert [pair.completion for pair in pairs_of(DataConfig(train=source))] == ["c0", "c1", "c2"]
    if has_splits:
        assert [pair.completion for pair in pairs_of(DataConfig(train=source, split="other"))] == ["c1"]


@pytest.mark.parametrize("asked", [{"split": "train[:50%]"}, {"split": "test"}, {"config": "python"}])
def test_a_part_of_data_without_parts_is_refused(tmp_path: Path, asked: dict[str, str]) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    for source in (str(write_rows_as(tmp_path / "a.jsonl")), str(tmp_path / "saved")):
        with pytest.raises(UserError, match=r"of which no (split|config) .* can be read"):
            pairs_of(DataConfig(train=(SourceConfig(source=source, **asked),)))


def test_a_folder_of_files_is_read_file_by_file(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv", "c.parquet"):
        path = tmp_path / "plain" / name
        path.parent.mkdir(exist_ok=True)
        if name == "a.csv":
            path.write_text("prompt,completion\np9,c9\n")
        else:
            write_rows_as(path)
    (tmp_path / "plain" / "notes.txt").write_text("not data")
    found = [pair.completion for pair in pairs_of(DataConfig(train=str(tmp_path / "plain")))]
    assert found == ["c9", "c0", "c1", "c2", "c0", "c1", "c2"]
    split = tmp_path / "split"
    split.mkdir()
    write_rows_as(split / "train.jsonl")
    (split / "test.jsonl").write_text('{"prompt": "p", "completion": "t"}\n')
    assert [pair.completion for pair in pairs_of(DataConfig(train=str(split), split="test"))] == ["t"]
    with pytest.raises(UserError, match=r"has the splits train, test, and not dev. Set data.split"):
        pairs_of(DataConfig(train=str(split), split="dev"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no data files"):
        pairs_of(DataConfig(train=str(tmp_path / "empty")))


def test_tools_of_different_arguments_survive_a_folder_and_parquet(tmp_path: Path) -> None:
    """(Arrow would give every call the arguments of all, as nulls, or fail.)"""
    import pyarrow
    import pyarrow.parquet

    def turns(arguments: dict[str, Any]) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "run", "arguments": arguments}}
        answer = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"messages": [{"role": "user", "content": "p"}, answer]}

    mixed = [turns({"path": "a"}), turns({"path": {"deep": [1]}}), turns({"count": 3})]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    found = [
        pair.turns[1].fields["tool_calls"][0]["function"]["arguments"]
        for pair in pairs_of(DataConfig(train=str(tmp_path / "folder")))
    ]
    assert found == [{"path": "a"}, {"path": {"deep": [1]}}, {"count": 3}]
    typed = [turns({"path": "a"}), turns({"count": 3})]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(typed), tmp_path / "x.parquet")
    found = [pair.turns[1] for pair in pairs_of(DataConfig(train=str(tmp_path / "x.parquet")))]
    assert [turn.fields["tool_calls"][0]["function"]["arguments"] for turn in found] == [{"path": "a"}, {"count": 3}]
    assert found[0].content is None


def test_several_sources_follow_one_another_or_are_mixed_by_their_shares(tmp_path: Path) -> None:
    for name, count in (("a", 30), ("b", 12)):
        lines = [json.dumps({"prompt": "p", "completion": f"{name}{i}"}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    a, b = (str(tmp_path / f"{name}.jsonl") for name in "ab")
    behind = pairs_of(DataConfig(train=(a, SourceConfig(source=b))))
    assert [pair.completion for pair in behind] == [*(f"a{i}" for i in range(30)), *(f"b{i}" for i in range(12))]
    shares = DataConfig(train=(SourceConfig(source=a, share=3), SourceConfig(source=b, share=1)))
    mixed = [pair.completion for pair in pairs_of(shares)]
    assert mixed == [pair.completion for pair in pairs_of(shares)]
    assert len(mixed) == len(set(mixed)) == 40  # all of a, and a third as many of b: nothing is repeated
    for end in range(4, 41, 4):
        assert sum(text[0] == "a" for text in mixed[:end]) == 3 * end // 4
    some = msgspec.structs.replace(shares, max_examples=10)
    assert [pair.completion for pair in pairs_of(some)] == mixed[:10]


def test_rows_that_cannot_be_read_are_skipped_and_named_if_asked(tmp_path: Path) -> None:
    rows = [b'{"prompt": "p", "completion": "c0"}', b"not JSON", b'{"body": 1}', b'{"prompt": "p", "completion": "c1"}']
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(rows))
    with pytest.raises(RowError, match="line 2: not valid JSON"):
        pairs_of(DataConfig(train=str(path)))
    skipped: list[SkippedRow] = []
    found = [example.pair for example in stream_training(DataConfig(train=str(path), on_bad_row="skip"), skipped)]
    assert [pair.id for pair in found] == ["a.jsonl, line 1", "a.jsonl, line 4"]
    assert [(row.id, row.reason) for row in skipped] == [
        (f"{path}, line 2", "bad JSON"),
        (f"{path}, line 3", "no known shape"),
    ]
    assert all(row.message and row.message.startswith(row.id) for row in skipped)
    assert counted([*skipped, skipped[0]]) == [("bad JSON", 2), ("no known shape", 1)]


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
        ("a.jsonl.gz", b"nothing", "line 1: not valid JSON"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 20, r"^[^\n]*a.jsonl.gz: cannot be read"),
        ("a.json.gz", gzip.compress(b"[]" * 99, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl", b"\n" + b"[" * 10_000, "a.jsonl, line 2: JSON that is nested too deeply"),
        ("a.json", b"[" * 10_000, "a.json: JSON that is nested too deeply"),
        ("a.jsonl", b"1" * 5_000, "a.jsonl, line 1: not valid JSON"),
        ("a.csv", b"prompt,completion\np,c\np\n", "row 2: 1 cells, and the header has 2"),
        ("a.csv", b'prompt,completion\np,"c\n', "a.csv: not readable behind line 2"),
        ("a.tsv", b"prompt\tcompletion\np\t\xff\n", "a.tsv: not readable behind line"),
        ("a.csv", b"prompt,completion,completion\np,b,c\n", "two columns are called 'completion'"),
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
