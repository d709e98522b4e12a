import json
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.memorization.prune import PruneRecord, prune
from ibft.rows import Score
from ibft.score_table import SCORES_FILE, write_scores

NAMES = ("mean_nll", "min_k_prob_20", "min_k_plus_plus_20", "min_k_prob_10_free")

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
    rows = [scored(n) if n != 3 else Score(id=line(n), subset="train", index=n, reason="empty") for n in range(20)]
    lowest = Score(id="c", subset="control", index=0, num_tokens=3, scores=dict.fromkeys(NAMES, -99.0))
    write_scan(tmp_path, [*rows, lowest])
    return str(path)


def line(n: int) -> str:
    return f"data.jsonl, line {n + 2}"


def scored(n: int) -> Score:
    """The last are the most memorized by Min-K% Prob, the first by mean NLL, those in the middle by Min-K%++."""
    scores = {"mean_nll": float(n), "min_k_prob_20": 10.0 - n, "min_k_plus_plus_20": abs(n - 10.2)}
    if n < 5:
        scores["min_k_prob_10_free"] = -n
    return Score(id=line(n), subset="train", index=n, num_tokens=10 + n, scores=scores)


def write_scan(folder: Path, rows: list[Score], headline: str = "min_k_prob_20") -> None:
    (folder / "scan").mkdir(exist_ok=True)
    write_scores(folder / "scan" / SCORES_FILE, [rows], NAMES, headline)


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
    assert json.loads(Path(data).with_name("out.json").read_text())["by"] == record.by == "min_k_prob_20"
    before, after, dropped = (record.lengths[name] for name in ("before", "after", "dropped"))
    assert before is not None
    assert after is not None
    assert dropped is not None
    assert (before.num_examples, after.num_examples, dropped.num_examples) == (19, 17, 2)
    assert dropped.mean == 28.5
    assert before.mean * 19 == pytest.approx(after.mean * 17 + dropped.mean * 2)


@pytest.mark.parametrize(
    ("by", "name", "dropped"),
    [
        ("min_k", "min_k_prob_20", (19, 18, 17)),
        ("nll", "mean_nll", (0, 1, 2)),
        ("mean_nll", "mean_nll", (0, 1, 2)),
        ("min_k_plus_plus", "min_k_plus_plus_20", (10, 11, 9)),
        ("min_k_prob_10_free", "min_k_prob_10_free", (4, 2, 1)),
    ],
)
def test_any_score_can_say_who_is_dropped(data: str, by: str, name: str, dropped: tuple[int, ...]) -> None:
    record, rows = run(data, by=by, drop="3")
    assert [one.id for one in record.dropped] == [line(n) for n in dropped]
    assert record.by == name
    assert len(rows) == 17


def test_without_a_name_the_scans_headline_score_says_it(data: str) -> None:
    assert [one.id for one in run(data, by=None, drop="1")[0].dropped] == [line(19)]
    write_scan(Path(data).parent, [scored(n) for n in range(20)], headline="mean_nll")
    record, _ = run(data, by=None, drop="1")
    assert ([one.id for one in record.dropped], record.by) == ([line(0)], "mean_nll")


def test_a_file_of_scores_serves_as_well_as_its_folder(data: str) -> None:
    folder = Path(data).parent
    record = prune(data, "train", folder / "scan" / SCORES_FILE, folder / "out.jsonl", drop="2")
    assert [one.id for one in record.dropped] == [line(19), line(18)]


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
        ({"by": "zlib"}, "has no score 'zlib'. It has mean_nll, min_k_prob_20, min_k_plus_plus_20, min_k_prob_10_free"),
        ({"by": "id"}, "has no score 'id'"),
        ({"by": "suffix_log_prob"}, "has no score 'suffix_log_prob'"),
    ],
)
def test_what_cannot_be_asked_is_refused(data: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(data, **options)
    assert not Path(data).with_name("out.jsonl").exists()


def test_a_scan_of_other_data_and_ids_that_occur_twice_are_refused(data: str) -> None:
    other = Score(id="other", subset="train", index=0, num_tokens=1, scores={"min_k_prob_20": 1.0})
    write_scan(Path(data).parent, [other])
    with pytest.raises(UserError, match="Scan this data first"):
        run(data)
    Path(data).write_text('{"id": 1, "prompt": "a", "completion": "b"}\n' * 2)
    with pytest.raises(UserError, match="occurs twice"):
        run(data)
