"""The scan stage: its files, and that interruptions and draws leave them as they should be."""

from __future__ import annotations

import datetime
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet
import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.recall import RecallRow
from ibft.artifacts.rows import ShownExample
from ibft.artifacts.scan import Densities, ScanSummary
from ibft.artifacts.score_table import SCORES_FILE, read_scores
from ibft.errors import UserError
from ibft.findings.score_columns import read_columns
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, ScanConfig
from ibft.scoring import blocks, engine, forward
from ibft.stages import scan as module
from ibft.stages.recall import conclude_recall
from ibft.stages.scan import scan

ROWS = [
    {
        "id": f"f{n % 9}",  # most ids occur twice
        "prompt": f"def f{n}(a):\n",
        "completion": f"    return a + {n}\n" * (1 + n % 4),
        "file": f"{n % 2}.py",
        "tags": ["even"] if n % 2 == 0 else [],
    }
    for n in range(17)
]
EMPTY = {"id": "empty", "prompt": "def g():\n", "completion": " "}
DATA = [*ROWS[:5], EMPTY, *ROWS[5:], {"id": "long", "prompt": "p", "completion": "    pass\n" * 100}]
CONTROL = [{"id": f"c{n}", "prompt": f"def g{n}(b):\n", "completion": f"    return b - {n}\n"} for n in range(6)]
FILES = {"scores.parquet", "summary.json", "densities.json", "most_memorized.jsonl", "recall.jsonl", "stage.json"}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        name="scan",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(
            train=write(tmp_path / "data.jsonl", DATA),
            control=write(tmp_path / "control.jsonl", CONTROL),
            max_tokens=200,
        ),
        scan=ScanConfig(batch_tokens=64, prefix_tokens=3, suffix_tokens=3, max_shown=4),
    )


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 5)


def changed(recipe: Recipe, section: str, **changes: Any) -> Recipe:
    return msgspec.structs.replace(recipe, **{section: msgspec.structs.replace(getattr(recipe, section), **changes)})


def run_stage(recipe: Recipe) -> Path:
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    return Path(recipe.output) / recipe.name / "scan"


def summary_of(folder: Path) -> ScanSummary:
    return msgspec.json.decode((folder / "summary.json").read_bytes(), type=ScanSummary)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "stage.json"}


def test_the_stage_leaves_a_table_and_what_it_says(recipe: Recipe) -> None:
    folder = run_stage(recipe)
    assert {path.name for path in folder.iterdir()} == FILES
    columns = ["subset", "index", "id", "reason", "file", "tags", "num_tokens", *recipe.scan.score_names]
    rows = pyarrow.parquet.read_table(folder / SCORES_FILE, columns=columns).to_pylist()
    train = [row for row in rows if row["subset"] == "train"]
    assert rows == [*train, *(row for row in rows if row["subset"] == "control")]
    assert [(row["index"], row["id"]) for row in train] == [(n, row["id"]) for n, row in enumerate(DATA)]
    assert [row["id"] for row in rows if row["subset"] == "control"] == [row["id"] for row in CONTROL]
    for row, source in zip(train, DATA, strict=True):
        reason = {"empty": "empty completion", "long": "longer than 200 tokens"}.get(str(source["id"]))
        assert row["reason"] == reason
        assert (row["num_tokens"] > 0) is (reason is None)
        assert all((row[name] is None) is (reason is not None) for name in recipe.scan.score_names)
        if reason is None:
            assert (row["file"], row["tags"]) == (source["file"], source["tags"])

    summary = summary_of(folder)
    assert (summary.score, summary.region) == ("min_k_prob_20", "response")
    assert (summary.subsets["train"].num_examples, summary.subsets["train"].num_scored) == (19, 17)
    assert summary.subsets["control"].num_scored == 6
    assert summary.skipped == {"train": {"empty completion": 1, "longer than 200 tokens": 1}, "control": {}}
    values = [row["min_k_prob_20"] for row in train if row["reason"] is None]
    assert summary.subsets["train"].medians["min_k_prob_20"] == pytest.approx(np.median(values))
    assert summary.extraction["train"].num_examples + summary.extraction["train"].num_too_short == 17

    densities = msgspec.json.decode((folder / "densities.json").read_bytes(), type=Densities)
    assert densities.score == "min_k_prob_20"
    assert densities.series["training data"] == pytest.approx(values)
    assert len(densities.series["control set"]) == 6

    shown = list(read_rows(folder / "most_memorized.jsonl", ShownExample))
    lowest = sorted((row for row in train if row["reason"] is None), key=lambda row: row["min_k_prob_20"])[:4]
    assert [(one.id, one.score, one.file) for one in shown] == [
        (row["id"], row["min_k_prob_20"], row["file"]) for row in lowest
    ]
    for one, row in zip(shown, lowest, strict=True):
        source = DATA[row["index"]]
        assert "".join(one.tokens) == f"{source['prompt']}{source['completion']}"
        assert -np.mean(one.log_probs) == pytest.approx(row["mean_nll"], abs=1e-3)


def test_without_a_control_set(recipe: Recipe) -> None:
    folder = run_stage(changed(recipe, "data", control=None))
    summary = summary_of(folder)
    assert (summary.comparison, summary.barrier, summary.verdict.advice) == (None, None, "control")
    assert list(summary.subsets) == ["train"]


def test_a_control_set_of_which_nothing_is_left(recipe: Recipe, tmp_path: Path) -> None:
    control = write(tmp_path / "dated.jsonl", [row | {"date": "2020-01-01"} for row in CONTROL])
    folder = run_stage(changed(recipe, "data", control=control, control_after=datetime.date(2024, 1, 1)))
    summary = summary_of(folder)
    assert (summary.comparison, summary.barrier) == (None, None)
    assert summary.subsets["train"].num_scored == 17
    assert list(read_scores(folder, "min_k_prob_20", "control")) == []


@pytest.mark.parametrize("region", ["response", "all"])
def test_rows_with_equal_ids_have_the_scores_of_their_own_text(recipe: Recipe, tmp_path: Path, region: Any) -> None:
    recipe = changed(recipe, "scan", region=region)
    folder = run_stage(recipe)
    found = {row.place: row.value for row in read_scores(folder, "mean_nll", "train")}
    unique = [row | {"id": f"u{n}"} for n, row in enumerate(DATA)][::-1]
    other = changed(recipe, "data", train=write(tmp_path / "unique.jsonl", unique))
    expected = {
        row.id: row.value for row in read_scores(run_stage(msgspec.structs.replace(other, name="u")), "mean_nll")
    }
    assert len(set(found.values())) == len(found) == 17
    for place, value in found.items():
        assert value == pytest.approx(expected[f"u{place}"], abs=1e-4)


class Interruption:
    """Wraps a function: raises KeyboardInterrupt in its n-th call, and notes the calls before."""

    def __init__(self, function: Callable[..., Any], at: int = 10**9) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._function, self._at = function, at

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if len(self.calls) == self._at:
            raise KeyboardInterrupt
        self.calls.append(arguments)
        return self._function(*arguments, **keywords)


NUM_SHOWN = 2


@pytest.fixture
def short(recipe: Recipe, tmp_path: Path) -> Recipe:
    """Three blocks of training data, one of the control set."""
    recipe = changed(recipe, "data", train=write(tmp_path / "short.jsonl", DATA[:12]))
    recipe = changed(recipe, "data", control=write(tmp_path / "short_control.jsonl", CONTROL[:3]))
    return changed(recipe, "scan", max_shown=NUM_SHOWN, batch_tokens=150)


@pytest.fixture
def whole(short: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, bytes], Interruption]:
    """What an undisturbed scan leaves, and what it gave to the model."""
    counting = Interruption(forward.begin_batch)
    with monkeypatch.context() as patch:
        patch.setattr(forward, "begin_batch", counting)
        folder = run_stage(msgspec.structs.replace(short, name="whole"))
    return content(folder), counting


def texts_of(counting: Interruption) -> Counter[tuple[int, ...]]:
    return Counter(tuple(example.input_ids) for _, batch, _ in counting.calls for example in batch)


def test_an_interruption_before_any_batch_changes_nothing_and_costs_nothing(
    short: Recipe, whole: tuple[dict[str, bytes], Interruption], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, undisturbed = whole
    num_batches = len(undisturbed.calls) - NUM_SHOWN
    assert num_batches > 4
    for at in range(num_batches):
        own = msgspec.structs.replace(short, name=f"at{at}")
        first, second = Interruption(forward.begin_batch, at), Interruption(forward.begin_batch)
        folder = Path(own.output) / own.name / "scan"
        with monkeypatch.context() as patch:
            patch.setattr(forward, "begin_batch", first)
            with pytest.raises(KeyboardInterrupt):
                run_stage(own)
            assert not folder.exists()
            patch.setattr(forward, "begin_batch", second)
            run_stage(own)
        assert content(folder) == expected, at
        assert texts_of(first) + texts_of(second) == texts_of(undisturbed), at


@pytest.mark.parametrize("step", ["write_scores", "write_rows", "summarize", "write_densities", "write_atomically"])
def test_an_interruption_behind_the_scores_scores_nothing_again(
    short: Recipe, whole: tuple[dict[str, bytes], Interruption], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = whole
    with monkeypatch.context() as patch:
        patch.setattr(module, step, Interruption(getattr(module, step), 0))
        with pytest.raises(KeyboardInterrupt):
            run_stage(short)
    counting = Interruption(forward.begin_batch)
    monkeypatch.setattr(forward, "begin_batch", counting)
    assert content(run_stage(short)) == expected
    # What is shown goes through the model again.
    assert [len(batch) for _, batch, _ in counting.calls] == ([1, 1] if step in ("write_scores", "write_rows") else [])


def test_a_scan_that_is_complete_loads_nothing(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(recipe)
    monkeypatch.setattr(module, "load_model", None)
    monkeypatch.setattr(module, "load_tokenizer", None)
    run_stage(recipe)
    run_stage(changed(recipe, "scan", max_trained_examples=3, batch_tokens=7))  # the scan is not made from these


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("scan", {"region": "all"}, r"scan\.region: response -> all"),
        ("scan", {"max_examples": 3}, r"scan\.max_examples: None -> 3"),
        ("data", {"control": None}, r"data\.control: .* -> None"),
        ("data", {"control_after": datetime.date(2024, 1, 1)}, r"data\.control_after: None -> 2024-01-01"),
    ],
)
def test_another_recipe_is_refused(recipe: Recipe, section: str, change: dict[str, Any], message: str) -> None:
    run_stage(recipe)
    with pytest.raises(UserError, match=message):
        run_stage(changed(recipe, section, **change))


def test_edited_data_is_noticed(recipe: Recipe, tmp_path: Path) -> None:
    run_stage(recipe)
    write(tmp_path / "control.jsonl", CONTROL[1:])
    with pytest.raises(UserError, match="made from a different recipe"):
        run_stage(recipe)


def test_a_draw_scores_and_shows_the_drawn_alone(recipe: Recipe) -> None:
    folder = run_stage(changed(recipe, "scan", max_examples=6, max_shown=50))
    table = pyarrow.parquet.read_table(folder / SCORES_FILE, columns=["subset", "index", "id", "reason"])
    rows = [row for row in table.to_pylist() if row["subset"] == "train"]
    assert len(rows) == 6
    assert all(row["reason"] is None and DATA[row["index"]]["id"] == row["id"] for row in rows)
    assert len(list(read_rows(folder / "most_memorized.jsonl", ShownExample))) == 6
    summary = summary_of(folder)
    assert (summary.subsets["train"].num_examples, summary.subsets["train"].num_scored) == (8, 6)
    assert summary.skipped["train"] == {"empty completion": 1, "longer than 200 tokens": 1}


def test_nothing_is_shown_where_nothing_is_asked_for(recipe: Recipe) -> None:
    folder = run_stage(changed(recipe, "scan", max_shown=0))
    assert (folder / "most_memorized.jsonl").read_bytes() == b""
    assert summary_of(folder).subsets["train"].num_scored == 17


def test_data_without_a_scorable_example_says_why(recipe: Recipe, tmp_path: Path) -> None:
    rows = [EMPTY, EMPTY, {"prompt": "p", "completion": "x"}]
    with pytest.raises(UserError, match="2 empty completion; 1 response of one token"):
        run_stage(changed(recipe, "data", train=write(tmp_path / "nothing.jsonl", rows)))
    recipe = msgspec.structs.replace(recipe, name="empty")
    with pytest.raises(UserError, match=r"no training example has scores \(the data set is empty\)"):
        run_stage(changed(recipe, "data", train=write(tmp_path / "nothing.jsonl", []), control=None))


def test_the_blind_classifier_reads_the_text_of_each_row(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an example has scores, but not the one that the verdict goes by."""
    rows = np.array([1, 3, 4, 9, 16])
    found: list[str] = []
    summarize, example_scores = module.summarize, engine.example_scores

    def spied(train: Any, control: Any, **keywords: Any) -> Any:
        assert len(train) == 17
        found.extend(keywords["texts"]("train", rows))
        return summarize(train, control, **keywords)

    def without_one(*arguments: Any, **keywords: Any) -> dict[str, float]:
        scores = example_scores(*arguments, **keywords)
        calls.append(scores)
        return {name: value for name, value in scores.items() if len(calls) != 7 or name != "min_k_prob_20"}

    calls: list[dict[str, float]] = []
    monkeypatch.setattr(module, "summarize", spied)
    monkeypatch.setattr(engine, "example_scores", without_one)
    folder = run_stage(recipe)
    assert len(list(read_scores(folder, "min_k_prob_20", "train"))) == 16
    expected = [row["completion"] for row in DATA if row["id"] not in ("empty", "long")]
    assert found == [expected[row] for row in rows]


def test_scores_of_an_unfinished_line_are_made_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 50)
    expected = {row.place: row for row in read_scores(run_stage(msgspec.structs.replace(recipe, name="w")), "mean_nll")}
    with monkeypatch.context() as patch:
        patch.setattr(forward, "begin_batch", Interruption(forward.begin_batch, 4))
        with pytest.raises(KeyboardInterrupt):
            run_stage(recipe)
    [partial] = (Path(recipe.output) / "scan" / "scan.partial" / "blocks").glob("*.partial.jsonl")
    text = partial.read_bytes()
    assert text.count(b"\n") > 4
    partial.write_bytes(text[:-20])
    found = {row.place: row for row in read_scores(run_stage(recipe), "mean_nll")}
    assert found.keys() == expected.keys()
    for place, row in found.items():
        assert row.value == pytest.approx(expected[place].value, abs=1e-5)


def test_what_is_longer_than_the_models_context_has_no_score(recipe: Recipe, tmp_path: Path) -> None:
    folder = shutil.copytree(recipe.model.name, tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 25}))
    summary = summary_of(run_stage(changed(recipe, "model", name=str(folder))))
    assert summary.skipped["train"]["longer than 25 tokens"] > 1
    assert summary.subsets["train"].num_scored > 1


def test_errors_of_the_data_name_its_key(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.control: the file .*none\.jsonl does not exist"):
        run_stage(changed(recipe, "data", control=str(tmp_path / "none.jsonl")))
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"^data\.control: .*bad\.jsonl"):
        run_stage(changed(recipe, "data", control=str(tmp_path / "bad.jsonl")))
    (tmp_path / "bad.jsonl").write_text("")
    with pytest.raises(UserError, match="the data set is empty"):
        run_stage(changed(msgspec.structs.replace(recipe, name="empty"), "data", train=str(tmp_path / "bad.jsonl")))


def test_in_float64_batches_change_no_score(recipe: Recipe) -> None:
    recipe = changed(recipe, "model", dtype="float64")
    found = []
    for name, batch_tokens in (("alone", 1), ("together", 4096)):
        one = changed(msgspec.structs.replace(recipe, name=name), "scan", batch_tokens=batch_tokens)
        table = pyarrow.parquet.read_table(run_stage(one) / SCORES_FILE, columns=list(recipe.scan.score_names))
        found.append(np.array([column.to_numpy() for column in table.columns], float))
    assert np.nanmax(np.abs(found[0] - found[1])) < 1e-7
    assert np.isfinite(found[0]).any()


def told(folder: Path) -> list[RecallRow]:
    return list(read_rows(folder / "recall.jsonl", RecallRow))


def test_what_recalls_the_answers_is_asked_of_pairs(recipe: Recipe) -> None:
    folder = run_stage(changed(recipe, "scan", max_recall_examples=4))
    rows = told(folder)
    assert [row.subset for row in rows] == ["train"] * 4 + ["control"] * 4
    assert all(row.id == DATA[row.index]["id"] for row in rows[:4])
    assert all(row.id == CONTROL[row.index]["id"] for row in rows[4:])
    # Pairs of similar length, as they are compared: only short training examples have one in the control set.
    assert all(DATA[row.index]["completion"].count("\n") == 1 for row in rows[:4])
    summary = summary_of(folder).recall
    assert summary.num_examples == {"train": 4, "control": 4}
    # These prompts are a name and nothing else.
    assert summary.undefined["train"] == dict(Counter(row.reason for row in rows[:4]))
    assert (summary.num_measured["train"], summary.segments) == (0, [])
    # Again, without the model: the rows are there.
    again = run_stage(changed(recipe, "scan", max_recall_examples=4))
    assert told(again) == rows
    # As they would be of a model that knows something.
    nats = {"nll_own": 1.0, "nll_foreign": 11.0, "nll_alone": {"name": 6.0}, "shares": {"name": 0.5}, "reason": None}
    write_rows(folder / "recall.jsonl", [msgspec.structs.replace(row, **nats) for row in rows])
    columns = {name: read_columns(folder / SCORES_FILE, name, [recipe.scan.score]) for name in ("train", "control")}
    [name] = conclude_recall(folder, columns).segments
    assert (name.train.mean, name.control.mean, name.train.num_examples) == (0.5, 0.5, 4)
    assert name.train.num_groups <= 2  # files


def test_recall_without_a_control_set_or_not_at_all(recipe: Recipe) -> None:
    alone = run_stage(changed(recipe, "data", control=None))
    assert {row.subset for row in told(alone)} == {"train"}
    assert len(told(alone)) == 17
    shutil.rmtree(Path(recipe.output))
    off = run_stage(changed(recipe, "scan", max_recall_examples=0))
    assert not (off / "recall.jsonl").exists()
    assert summary_of(off).recall is None


def test_foreign_prompts_may_be_longer_than_examples(recipe: Recipe, tmp_path: Path) -> None:
    short = {"id": "short", "prompt": "def f(a):\n", "completion": "    return a + 1\n    # done\n"}
    long = {"id": "long", "prompt": "def a_name_of_many_words(b):\n", "completion": "    pass\n"}
    train = write(tmp_path / "uneven.jsonl", [short, long])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(recipe.model.name)
    # Tokens of the longer one: the short one's answer behind the long one's name has more.
    most = max(len(tokenizer.tokenize(f"{row['prompt']}{row['completion']}")) for row in (short, long)) + 1
    changes = {"train": train, "control": None, "max_tokens": most}
    rows = told(run_stage(changed(changed(recipe, "data", **changes), "scan", region="all")))
    assert [row.id for row in rows] == ["short", "long"]
    assert all(row.num_tokens for row in rows)
    assert {row.reason for row in rows} <= {None, "the prompt tells less than 1 nat"}
