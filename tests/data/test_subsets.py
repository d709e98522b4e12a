"""Which examples a subset has: the same in each pass, under the same numbers."""

from __future__ import annotations

import datetime
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.rows import Pair
from ibft.data.subsets import NumberedExamples, origin, read_subset
from ibft.data.training import Example, stream_examples
from ibft.errors import UserError
from ibft.run.sections import DataConfig

ROWS = [{"id": f"r{n}", "prompt": f"p{n}", "completion": f"print({n})\n" * (1 + n % 3)} for n in range(40)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def numbered(subset: Any = "train", **data: Any) -> NumberedExamples:
    return NumberedExamples(subset, partial(read_subset, DataConfig(**data), subset))


def found(examples: NumberedExamples) -> list[tuple[int, str]]:
    ids = [(place, example.pair.id) for place, example in examples]
    assert len(examples) == len(ids)
    assert ids == [(place, example.pair.id) for place, example in examples]  # again, the same
    return ids


def test_all_examples_come_and_also_those_without_scores(tmp_path: Path) -> None:
    rows = [*ROWS[:3], {"id": "empty", "prompt": "p", "completion": ""}, ROWS[4]]
    train = write(tmp_path / "data.jsonl", rows)
    assert found(numbered(train=train)) == [(0, "r0"), (1, "r1"), (2, "r2"), (3, "empty"), (4, "r4")]
    assert found(numbered(train=train, max_examples=2)) == [(0, "r0"), (1, "r1")]


def test_some_keep_their_numbers(tmp_path: Path) -> None:
    examples = numbered(train=write(tmp_path / "data.jsonl", ROWS))
    assert found(examples.only([30, 2, 17])) == [(2, "r2"), (17, "r17"), (30, "r30")]
    assert examples.only([]).subset == "train"
    assert found(examples.only([])) == []


def test_every_kind_of_source_gives_the_same_examples(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    expected = [(n, f"r{n}") for n in range(40)]
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), hub / "train-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:5]), hub / "test-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "data.parquet")
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    sources = [write(tmp_path / "data.jsonl", ROWS), str(tmp_path / "data.parquet"), str(tmp_path / "data.json")]
    for source in [*sources, str(tmp_path / "hub")]:
        assert found(numbered(train=source)) == expected, source
        assert found(numbered(train=source).only(range(7))) == expected[:7], source
    control = numbered("control", train=sources[0], control=str(tmp_path / "hub"), control_split="test")
    assert found(control) == expected[:5]


DAY = datetime.date(2024, 6, 30)


def dated(tmp_path: Path, dates: list[Any]) -> dict[str, Any]:
    rows = [{"id": f"d{n}", "prompt": "p", "completion": "print(1)\n"} for n in range(len(dates))]
    for row, date in zip(rows, dates, strict=True):
        if date is not None:
            row["date"] = date
    control = write(tmp_path / "control.jsonl", rows)
    return {"train": control, "control": control, "control_after": DAY}


def test_only_later_control_examples_are_kept(tmp_path: Path) -> None:
    days = ["2024-06-29", "2024-06-30", "2024-07-01", "2025-01-31T12:00:00Z", "2023-12-31 08:00", "2024-07-02"]
    data = dated(tmp_path, days)
    assert found(numbered("control", **data)) == [(0, "d2"), (1, "d3"), (2, "d5")]
    assert len(found(numbered("train", **data))) == 6  # the training data has no such limit
    assert found(numbered("control", **data, max_control_examples=2)) == [(0, "d2"), (1, "d3")]


def test_dates_of_a_parquet_file_are_dates(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    days = [datetime.date(2024, 6, 30), datetime.date(2024, 7, 1)]
    columns = {"id": ["old", "new"], "prompt": ["p"] * 2, "completion": ["print(1)\n"] * 2}
    for name, values in (("day", days), ("time", [datetime.datetime(d.year, d.month, d.day, 23) for d in days])):
        parquet.write_table(pyarrow.table(columns | {"date": values}), tmp_path / f"{name}.parquet")
        dated_control = numbered("control", control=str(tmp_path / f"{name}.parquet"), control_after=DAY)
        assert found(dated_control) == [(0, "new")]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (["2024-07-01", None], "is 2024-06-30, and the example d1 has no field `date`. Give each row one"),
        (["2024-07-01", "1.7.2024"], "the date of d1 is '1.7.2024': expected a day such as 2025-01-31"),
        (["2024-07-01", ""], "the date of d1 is ''"),
        (["2024-13-01"], "the date of d0 is '2024-13-01'"),
    ],
)
def test_dates_that_are_missing_or_none_are_refused(tmp_path: Path, dates: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=r"^data\.control: ") as caught:
        len(numbered("control", **dated(tmp_path, dates)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, (None, ())),
        (None, (None, ())),
        ({"file": "a/b.py", "tags": ["x", 3]}, ("a/b.py", ("x", "3"))),
        ({"path": "c.v", "category": "fsm", "source": "web"}, ("c.v", ("fsm", "web"))),
        ({"tags": "one", "category": "unused"}, (None, ("one",))),
        ({"file": "", "path": "d.py", "tags": None, "source": "s"}, ("d.py", ("s",))),
    ],
)
def test_what_the_row_says_of_its_origin(row: Any, expected: tuple[str | None, tuple[str, ...]]) -> None:
    assert origin(Example(Pair("id", "p", "c"), row)) == expected


def test_functions_of_installed_code_have_their_file_in_the_id() -> None:
    example = next(stream_examples("functions:click"))
    file, tags = origin(example)
    assert file is not None
    assert file.endswith(".py")
    assert example.pair.id.startswith(f"{file}:")
    assert tags == ()
