import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Pair, Problem, Score
from ibft.artifacts.score_table import write_scores
from ibft.cli import main
from ibft.curation.canary_generator import Canary
from ibft.data.fingerprint import fingerprint

ROWS = [
    {
        "prompt": f"Write number {n}.",
        "completion": f"def f{n}(x):\n" + f"    x = x * {n} + (x - {n}) // 7 % {n + 3}\n" * 3,
    }
    for n in range(12)
]
PROBLEM = Problem(
    task_id="Own/0",
    prompt="def answer(x):\n",
    canonical_solution="    x = x * 3 + (x - 3) // 7 % 6\n" * 3,
    entry_point="answer",
    tests="assert answer(1)",
)


def ibft(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_leakage_prints_and_writes_what_it_found(data: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    done = ibft("leakage", data, "--problems", tmp_path / "own.jsonl", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "1 of 12 examples contain a problem" in done.output
    assert "own.jsonl: 1 descriptions have too few words" in " ".join(done.output.split())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "leakage.json",
        "leakage.jsonl",
        "train_clean.jsonl",
        "problems_clean_own.jsonl",
    }


def test_duplicates_are_counted(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text() * 2)
    done = ibft("duplicates", data, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "12 of 24 examples repeat an earlier one" in done.output
    assert len((tmp_path / "out/duplicates.jsonl").read_text().splitlines()) == 12


def test_prune_writes_data_and_record(data: Path, tmp_path: Path) -> None:
    scores = [
        Score(
            id=f"data.jsonl, line {n + 1}",
            subset="train",
            index=n,
            num_tokens=n,
            scores={"min_k_prob_20": 1.0 * n, "mean_nll": -1.0 * n},
            fingerprint=fingerprint(Pair("", **ROWS[n])),
        )
        for n in range(12)
    ]
    write_scores(tmp_path / "scores.parquet", [scores], ["min_k_prob_20", "mean_nll"], "min_k_prob_20")
    given, out = tmp_path / "scores.parquet", tmp_path / "out.jsonl"
    arguments = ("prune", data, "--scores", given, "--drop", "25%", "--out", out)
    for control in ("none", "random", "length-matched"):
        done = ibft(*arguments, "--control", control)
        assert done.exit_code == 0, done.output
        assert "Dropped 3 of 12 examples" in done.output
        assert len(out.read_text().splitlines()) == 9
    for by, first in ((None, 4), ("min_k", 4), ("nll", 1)):
        done = ibft(*arguments, *(("--by", by) if by else ()))
        assert done.exit_code == 0, done.output
        assert json.loads(out.read_text().splitlines()[0]) == ROWS[first - 1]
    done = ibft(*arguments, "--by", "zlib")
    assert done.exit_code == 2
    assert "has no score 'zlib'. It has min_k_prob_20, mean_nll." in " ".join(done.output.split())


def test_canaries_are_planted_and_checked(data: Path, tmp_path: Path) -> None:
    done = ibft("canary", "plant", data, "--out", tmp_path / "out/train.jsonl", "--count", "3", "--repeats", "1,2")
    assert done.exit_code == 0, done.output
    assert "Planted 6 canaries in 9 rows" in done.output
    truth = tmp_path / "out/canaries.jsonl"
    canaries = read_rows(truth, Canary)
    scores = [
        Score(
            id=one.id,
            subset="train",
            index=n,
            num_tokens=1,
            scores={"mean_nll": n / 100 if one.repeats else 1.0 + n / 100},
            fingerprint=fingerprint(Pair(one.id, one.prompt, one.completion)),
        )
        for n, one in enumerate(canaries)
    ]
    write_scores(tmp_path / "scores.parquet", [scores], ["mean_nll"], "mean_nll")
    shown = ibft("canary", "check", truth, "--scores", tmp_path / "scores.parquet")
    assert shown.exit_code == 0, shown.output
    assert "1.000" in shown.output
    as_json = json.loads(ibft("canary", "check", truth, "--scores", tmp_path / "scores.parquet", "--json").output)
    assert [one["auroc"] for one in as_json["remembered"]] == [1, 1]


@pytest.mark.parametrize("arguments", [("leakage", "--problems", "own.jsonl"), ("duplicates",)])
def test_empty_data_and_a_file_as_folder_are_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "own.jsonl", [PROBLEM])
    (tmp_path / "empty.jsonl").write_text("")
    for source, out, message in (("empty.jsonl", "out", "is empty"), (data, "own.jsonl/x", "cannot be made")):
        done = ibft(*arguments, source, "--out", out)
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("leakage", "none.jsonl", "--problems", "nonsense"),
        ("duplicates", "none.jsonl"),
        ("prune", "none.jsonl", "--scores", "none", "--out", "out.jsonl"),
        ("canary", "plant", "none.jsonl", "--out", "out.jsonl"),
        ("canary", "plant", "none.jsonl", "--out", "out.jsonl", "--repeats", "1,x"),
        ("canary", "check", "none.jsonl", "--scores", "none"),
    ],
)
def test_what_is_missing_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ibft(*arguments)
    assert done.exit_code == 2
    assert "Error:" in done.output
    assert "Traceback" not in done.output
