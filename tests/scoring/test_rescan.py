"""The rescan stage: the same examples before and after training, by an arm's adapter made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft.artifacts.scan import Densities, RescanSummary, ScanSummary
from ibft.artifacts.score_table import read_scores
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, ScanConfig
from ibft.scoring import blocks, forward
from ibft.scoring.encoder import Block
from ibft.stages import rescan as module
from ibft.stages.rescan import rescan
from ibft.stages.scan import make_scorer, scan

ROWS = [
    {"id": f"f{n % 4}", "prompt": f"def f{n}(a):\n", "completion": f"    return a + {n}\n" * (1 + n % 3)}
    for n in range(9)
]
ROWS.insert(2, {"id": "empty", "prompt": "p", "completion": ""})
CONTROL = [{"prompt": f"def g{n}(b):\n", "completion": f"    return b - {n}\n" * (1 + n % 3)} for n in range(6)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 4)


@pytest.fixture(scope="module")
def adapter(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that was trained on the first rows, a little."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(15):
        for row in ROWS[:2]:
            ids = tokenizer(row["prompt"] + row["completion"], return_tensors="pt")["input_ids"]
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    for name, rows in (("data", ROWS), ("control", CONTROL)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe(
        name="run",
        prompt=PromptConfig(template="plain"),
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train=str(tmp_path / "data.jsonl"), control=str(tmp_path / "control.jsonl")),
        scan=ScanConfig(batch_tokens=64, max_shown=0),
    )


def trained(recipe: Recipe, adapter: Path) -> Recipe:
    """Scans, and puts the adapter in the place of an arm."""
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
        with run.stage("train/ft", {"anything": 1}).work() as folder:
            (folder / "adapter").symlink_to(adapter)
    return recipe


def run_stage(recipe: Recipe) -> Path:
    with RunFolder(recipe).open() as run:
        rescan(recipe, run, "ft")
    return run.path / "rescan" / "ft"


def summary_of(folder: Path) -> RescanSummary:
    return msgspec.json.decode((folder / "summary.json").read_bytes(), type=RescanSummary)


def with_scan(recipe: Recipe, **changes: Any) -> Recipe:
    return msgspec.structs.replace(recipe, scan=msgspec.structs.replace(recipe.scan, **changes))


def test_the_same_examples_before_and_after(
    recipe: Recipe, adapter: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibft.findings.summary.MIN_CONTROL", 3)
    recipe = trained(recipe, adapter)
    folder = run_stage(recipe)
    assert {path.name for path in folder.iterdir()} == {
        "scores.parquet",
        "summary.json",
        "densities.json",
        "stage.json",
    }
    scanned = folder.parent.parent / "scan"
    before = {row.place: row for row in read_scores(scanned, "min_k_prob_20", "train")}
    after = {row.place: row for row in read_scores(folder, "min_k_prob_20")}
    assert {place: row.id for place, row in after.items()} == {place: row.id for place, row in before.items()}
    assert after[0].value < before[0].value / 2  # it was trained on these
    assert after[1].value < before[1].value / 2

    barrier = msgspec.json.decode((scanned / "summary.json").read_bytes(), type=ScanSummary).barrier
    assert barrier is not None
    values = np.array([row.value for row in after.values()])
    assert summary_of(folder) == RescanSummary(
        arm="ft",
        score="min_k_prob_20",
        num_examples=9,
        median_before=float(np.median([row.value for row in before.values()])),
        median_after=float(np.median(values)),
        share_below_threshold=float((values < barrier.threshold).mean()),
    )
    densities = msgspec.json.decode((folder / "densities.json").read_bytes(), type=Densities)
    assert densities.series == {"training data after ft": values.tolist()}

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.load_adapter(str(adapter))
    own = make_scorer(recipe, model.eval(), AutoTokenizer.from_pretrained(tiny_model_folder))
    items = list(enumerate(stream_examples(recipe.data.train)))
    expected = {
        row.index: row.scores
        for found in own.score([Block("train", 0, items)])
        for row in found.rows
        if row.reason is None
    }
    for place, row in after.items():
        assert row.value == pytest.approx(expected[place]["min_k_prob_20"], abs=1e-3)


def test_a_seeded_draw_among_the_scanned(recipe: Recipe, adapter: Path) -> None:
    places: dict[int, list[int]] = {}
    for seed in range(2):
        own = msgspec.structs.replace(with_scan(recipe, max_trained_examples=4), seed=seed, name=f"run{seed}")
        folder = run_stage(trained(own, adapter))
        rows = list(read_scores(folder, "min_k_prob_20"))
        before = {row.place: row.value for row in read_scores(folder.parent.parent / "scan", "min_k_prob_20", "train")}
        assert summary_of(folder).num_examples == len(rows) == 4
        assert summary_of(folder).median_before == np.median([before[row.place] for row in rows])
        places[seed] = [row.place for row in rows]
        assert places[seed] == sorted(places[seed])
        assert 2 not in places[seed]  # it has no score to compare with
    assert places[0] != places[1]


def test_none_where_none_is_asked_for(recipe: Recipe, adapter: Path) -> None:
    folder = run_stage(with_scan(trained(recipe, adapter), max_trained_examples=0))
    assert not folder.parent.exists()


def test_without_a_control_set_there_is_no_threshold(recipe: Recipe, adapter: Path) -> None:
    recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, control=None))
    assert summary_of(run_stage(trained(recipe, adapter))).share_below_threshold is None


def test_an_interrupted_rescan_goes_on_and_a_complete_one_loads_nothing(
    recipe: Recipe, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = trained(recipe, adapter)
    counted: list[int] = []
    begin_batch = forward.begin_batch

    def interrupted(model: Any, batch: Any, pad: int) -> Any:
        if sum(counted) >= 5:
            raise KeyboardInterrupt
        counted.append(len(batch))
        return begin_batch(model, batch, pad)

    with monkeypatch.context() as patch:
        patch.setattr(forward, "begin_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_stage(recipe)
    assert 0 < sum(counted) < 9
    again: list[Any] = []

    def observed(model: Any, batch: Any, pad: int) -> Any:
        again.extend(batch)
        return begin_batch(model, batch, pad)

    monkeypatch.setattr(forward, "begin_batch", observed)
    folder = run_stage(recipe)
    assert len(again) == 9 - sum(counted)
    assert len(list(read_scores(folder, "min_k_prob_20"))) == 9
    monkeypatch.setattr(module, "load_arm", None)
    run_stage(recipe)


def test_what_is_missing_is_named(recipe: Recipe, adapter: Path) -> None:
    with pytest.raises(UserError, match=r"scan does not exist yet\. Run `ibft scan"):
        run_stage(recipe)
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    with pytest.raises(UserError, match=r"train/ft does not exist yet\. Run `ibft train"):
        run_stage(recipe)


@pytest.mark.parametrize("change", [{"score": "mean_nll"}, {"region": "all"}, {"max_examples": 3}])
def test_the_scan_of_another_recipe_is_refused(recipe: Recipe, adapter: Path, change: dict[str, Any]) -> None:
    """Its threshold is of another score."""
    recipe = trained(recipe, adapter)
    with pytest.raises(UserError, match="scan was made from a different recipe"):
        run_stage(with_scan(recipe, **change))
