import json
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.memorization.prune import PruneRecord, prune
from ibft.rows import Score, write_rows

CODE = """\
def f{n}(values, weights):
    total = {n}
    for value, weight in zip(values, weights):
        total += value * weight
    return total / sum(weights)
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    """20 rows in the shape of Alpaca; the last five have equal code, and the row 3 has no score."""
    rows = [{"instruction": f"Task {n}", "output": f"answer {n}", "extra": [n]} for n in range(15)]
    rows += [{"instruction": f"Task {n}", "output": CODE.format(n=0), "extra": [n]} for n in range(15, 20)]
    path = tmp_path / "data.jsonl"
    path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    scores = [
        Score(id=f"data.jsonl, line {n + 2}", subset="train", num_tokens=10 + n, min_k_prob=10.0 - n, mean_nll=float(n))
        for n in range(20)
        if n != 3
    ]
    scores.append(Score(id="data.jsonl, line 5", subset="train", num_tokens=0, reason="empty completion"))
    scores.append(Score(id="c", subset="control", num_tokens=3, min_k_prob=-99.0, mean_nll=-99.0))
    (tmp_path / "scan").mkdir()
    write_rows(tmp_path / "scan/scores.jsonl", scores)
    return str(path)


def run(data: str, **options: object) -> tuple[PruneRecord, list[dict[str, object]]]:
    folder = Path(data).parent
    arguments: dict[str, object] = {"by": "min_k", "drop": "10%"} | options
    record = prune(data, "train", folder / "scan", folder / "out.jsonl", **arguments)  # type: ignore[arg-type]
    return record, [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_the_most_memorized_are_left_out_of_the_datas_own_rows(data: str) -> None:
    record, rows = run(data)
    assert [one.id for one in record.dropped] == ["data.jsonl, line 21", "data.jsonl, line 20"]
    assert [row["extra"] for row in rows] == [[n] for n in range(18)]
    assert set(rows[0]) == {"instruction", "output", "extra"}
    assert (record.num_examples, record.num_unscored, record.num_asked, record.num_dropped) == (20, 1, 2, 2)
    assert json.loads(Path(data).with_name("out.json").read_text())["by"] == "min_k"
    before, after, dropped = (record.lengths[name] for name in ("before", "after", "dropped"))
    assert before is not None
    assert after is not None
    assert dropped is not None
    assert (before.num_examples, after.num_examples, dropped.num_examples) == (19, 17, 2)
    assert dropped.mean == 28.5
    assert before.mean * 19 == pytest.approx(after.mean * 17 + dropped.mean * 2)


def test_another_score_drops_others(data: str) -> None:
    record, rows = run(data, by="nll", drop="3")
    assert [one.id for one in record.dropped] == [f"data.jsonl, line {n}" for n in (2, 3, 4)]
    assert len(rows) == 17


@pytest.mark.parametrize("control", ["random", "length-matched"])
def test_controls_drop_as_many_others(data: str, control: str) -> None:
    record, rows = run(data, control=control, seed=3)
    assert record.num_dropped == 2
    assert len(rows) == 18
    assert "data.jsonl, line 5" not in {one.id for one in record.dropped}
    again, same = run(data, control=control, seed=3)
    assert again == record
    assert same == rows


def test_duplicates_are_dropped_as_far_as_there_are_any(data: str) -> None:
    record, rows = run(data, control="duplicates", drop="10")
    assert [one.id for one in record.dropped] == [f"data.jsonl, line {n}" for n in range(18, 22)]
    assert len(rows) == 16
    assert "Only 4 of 10 were dropped" in record.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": "100%"}, "19 of 19 scored"),
        ({"drop": "0"}, "0 of 19"),
        ({"drop": "some"}, "10%"),
        ({"drop": "nan%"}, "10%"),
        ({"drop": "10%5"}, "10%"),
        ({"by": "zlib"}, "min_k, nll"),
    ],
)
def test_what_cannot_be_asked_is_refused(data: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(data, **options)
    assert not Path(data).with_name("out.jsonl").exists()


def test_a_scan_of_other_data_and_ids_that_occur_twice_are_refused(data: str) -> None:
    scores = Path(data).parent / "scan/scores.jsonl"
    write_rows(scores, [Score(id="other", subset="train", num_tokens=1, min_k_prob=1.0)])
    with pytest.raises(UserError, match="Scan this data first"):
        run(data)
    Path(data).write_text('{"id": 1, "prompt": "a", "completion": "b"}\n' * 2)
    with pytest.raises(UserError, match="occurs twice"):
        run(data)
