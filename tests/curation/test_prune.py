import json
from pathlib import Path

import pytest

from ibft.artifacts.rows import Score
from ibft.artifacts.score_table import SCORES_FILE, write_scores
from ibft.curation.prune import PruneRecord, prune
from ibft.data.fingerprint import fingerprint
from ibft.data.training import to_pair
from ibft.errors import UserError

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
    path = tmp_path / "data.jsonl"
    path.write_text("\n" + "".join(json.dumps(row(n)) + "\n" for n in range(20)))
    rows = [scored(n) if n != 3 else Score(id=line(n), subset="train", index=n, reason="empty") for n in range(20)]
    lowest = Score(id="c", subset="control", index=0, num_tokens=3, scores=dict.fromkeys(NAMES, -99.0))
    write_scan(tmp_path, [*rows, lowest])
    return str(path)


def row(n: int) -> dict[str, object]:
    return {"instruction": f"Task {n}", "output": f"answer {n}" if n < 15 else CODE.format(n=0), "extra": [n]}


def line(n: int) -> str:
    return f"data.jsonl, line {n + 2}"


def scored(n: int) -> Score:
    """The last are the most memorized by Min-K% Prob, the first by mean NLL, those in the middle by Min-K%++."""
    scores = {"mean_nll": float(n), "min_k_prob_20": 10.0 - n, "min_k_plus_plus_20": abs(n - 10.2)}
    if n < 5:
        scores["min_k_prob_10_free"] = -n
    code = fingerprint(to_pair(row(n), line(n)))
    return Score(id=line(n), subset="train", index=n, num_tokens=10 + n, scores=scores, fingerprint=code)


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


@pytest.mark.parametrize("path", [f"scan/{SCORES_FILE}", "scan", "."])
def test_the_file_of_scores_its_folder_and_the_runs_serve_alike(data: str, path: str) -> None:
    folder = Path(data).parent
    record = prune(data, "train", folder / path, folder / "new/folder/out.jsonl", drop="2")
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


def test_rows_that_moved_or_changed_under_their_ids_are_refused(data: str) -> None:
    first, *rows = Path(data).read_text().splitlines(keepends=True)
    Path(data).write_text("".join([first, *rows[1:], rows[0]]))
    # The row without a score has none to be wrong, and four of the last five still stand where equal code stood.
    with pytest.raises(UserError, match=r"15 of the 19 examples .* are not what was scanned"):
        run(data)
    Path(data).write_text("".join([first, rows[0].replace("answer 0", "\\ud83d"), *rows[1:]]))
    with pytest.raises(UserError, match=r"1 of the 19 examples"):
        run(data)
    assert not Path(data).with_name("out.jsonl").exists()


def test_rows_with_ids_of_their_own_may_go_and_move(data: str) -> None:
    rows = [row(n) | {"id": line(n)} for n in (7, 19, 4, 18)]
    Path(data).write_text("".join(json.dumps(one) + "\n" for one in rows))
    record, kept = run(data, drop="1")
    assert [one.id for one in record.dropped] == [line(19)]
    assert [one["extra"] for one in kept] == [[7], [4], [18]]


def test_the_data_and_records_of_other_programs_are_not_overwritten(data: str) -> None:
    folder = Path(data).parent
    before = Path(data).read_bytes()
    (folder / "link.jsonl").symlink_to(data)
    for out in (Path(data), folder / "scan/../data.jsonl", folder / "link.jsonl"):
        with pytest.raises(UserError, match="is the data itself"):
            prune(data, "train", folder / "scan", out, drop="1")
    assert Path(data).read_bytes() == before
    (folder / "out.json").write_text("{}")
    with pytest.raises(UserError, match=r"overwrite .*out\.json, which `ibft prune` did not write"):
        run(data)
    assert not (folder / "out.jsonl").exists()
    (folder / "out.json").unlink()
    assert run(data)[0] == run(data)[0]


def test_a_record_that_would_overwrite_the_data_is_refused(data: str) -> None:
    as_list = Path(data).with_name("list.json")
    as_list.write_text(json.dumps([row(n) | {"id": line(n)} for n in range(20)]))
    with pytest.raises(UserError, match=r"list\.json is the data itself"):
        prune(str(as_list), "train", as_list.parent, as_list.with_name("list.jsonl"), drop="1")


def test_a_folder_that_cannot_be_made_is_said(data: str) -> None:
    folder = Path(data).parent
    with pytest.raises(UserError, match="cannot be made"):
        prune(data, "train", folder / "scan", Path(data) / "x/out.jsonl", drop="1")
