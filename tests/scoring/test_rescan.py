"""The rescan stage: the same examples before and after training, by an arm's adapter made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rescan import ArmDifferences, RescanSummary
from ibft.artifacts.scan import Densities, ScanSummary
from ibft.artifacts.score_table import SCORES_FILE, read_scores
from ibft.data.training import stream_examples
from ibft.errors import UserError
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, ScanConfig
from ibft.scoring import blocks, forward
from ibft.scoring.encoder import Block
from ibft.stages import rescan as module
from ibft.stages.rescan import rescan
from ibft.stages.rescanned import compare_rescanned
from ibft.stages.scan import make_scorer, scan
from ibft.stages.validation import HeldOutRow

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


def run_stage(recipe: Recipe, arm: str = "ft") -> Path:
    with RunFolder(recipe).open() as run:
        rescan(recipe, run, arm)
    return run.path / "rescan" / arm


def rows_of(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """All rows of a table of scores by subset and number."""
    rows = pyarrow.parquet.read_table(folder / SCORES_FILE).to_pylist()
    return {(row["subset"], row["index"]): row for row in rows}


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
        "before",
        "scores.parquet",
        "summary.json",
        "densities.json",
        "stage.json",
    }
    scanned = folder.parent.parent / "scan"
    before = {row.place: row for row in read_scores(scanned, "min_k_prob_20", "train")}
    after = {row.place: row for row in read_scores(folder, "min_k_prob_20", "train")}
    assert {place: row.id for place, row in after.items()} == {place: row.id for place, row in before.items()}
    assert after[0].value < before[0].value / 2  # it was trained on these
    assert after[1].value < before[1].value / 2

    barrier = msgspec.json.decode((scanned / "summary.json").read_bytes(), type=ScanSummary).barrier
    assert barrier is not None
    values = np.array([row.value for row in after.values()])
    summary = summary_of(folder)
    assert (summary.arm, summary.score, summary.num_examples) == ("ft", "min_k_prob_20", 9)
    assert summary.median_before == float(np.median([row.value for row in before.values()]))
    assert summary.median_after == float(np.median(values))
    assert summary.share_below_threshold == float((values < barrier.threshold).mean())
    assert (summary.others, summary.num_others, summary.not_known) == ("control", 6, "")
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
        rows = list(read_scores(folder, "min_k_prob_20", "train"))
        assert len(list(read_scores(folder, "min_k_prob_20", "control"))) == 4
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
    summary = summary_of(run_stage(trained(recipe, adapter)))
    assert summary.share_below_threshold is None
    assert (summary.others, summary.num_others, summary.membership) == ("", None, None)
    assert summary.not_known.startswith("There is neither a control set nor a held-out share of the data")
    assert set(summary.word_for_word) == {"train"}


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
    assert 0 < sum(counted) < 30
    again: list[Any] = []

    def observed(model: Any, batch: Any, pad: int) -> Any:
        again.extend(batch)
        return begin_batch(model, batch, pad)

    monkeypatch.setattr(forward, "begin_batch", observed)
    folder = run_stage(recipe)
    assert len(again) == 30 - sum(counted)  # 9 and 6, before and after
    assert len(list(read_scores(folder, "min_k_prob_20"))) == 15
    monkeypatch.setattr(module, "load_arm", None)
    run_stage(recipe)


def test_what_is_missing_is_named(recipe: Recipe, adapter: Path) -> None:
    with pytest.raises(UserError, match=r"scan does not exist yet\. Run `ibft scan"):
        run_stage(recipe)
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    with pytest.raises(UserError, match=r"train/ft does not exist yet\. Run `ibft train"):
        run_stage(recipe)


def test_every_score_against_the_base_from_raw_logits(recipe: Recipe, adapter: Path, tiny_model_folder: Path) -> None:
    """EZ-MIA, its rivals and the shares word for word, by loops over what transformers itself returns."""
    recipe = msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, dtype="float64"))
    folder = run_stage(trained(recipe, adapter))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64).eval()
    arm = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64)
    arm.load_adapter(str(adapter))
    arm.eval()
    before, after, num_defined = rows_of(folder / "before"), rows_of(folder), 0
    assert before.keys() == after.keys()
    assert len(after) == 15
    for (subset, place), row in after.items():
        example = (ROWS if subset == "train" else CONTROL)[place]
        ids = tokenizer(example["prompt"] + example["completion"])["input_ids"]
        first = len(ids) - row["num_tokens"]
        logits = [model(torch.tensor([ids])).logits[0].detach() for model in (base, arm)]
        positive = negative = nll_base = nll_arm = 0.0
        num_wrong, last_wrong = 0, 0
        for position in range(first, len(ids)):
            of_base, of_arm = (values[position - 1].log_softmax(-1)[ids[position]].item() for values in logits)
            nll_base, nll_arm = nll_base - of_base, nll_arm - of_arm
            if logits[1][position - 1].argmax().item() != ids[position]:
                num_wrong, last_wrong = num_wrong + 1, position + 1 - first
                positive += max(0.0, of_arm - of_base)
                negative += max(0.0, of_base - of_arm)
        assert row["base_ratio"] == pytest.approx(nll_arm / nll_base, abs=1e-6)
        assert row["exact_memorization"] == pytest.approx(1 - num_wrong / row["num_tokens"])
        assert row["extraction_strength"] == pytest.approx(1 - last_wrong / row["num_tokens"])
        assert -sum(before[subset, place]["log_probs"]) == pytest.approx(nll_base, abs=1e-6)
        if num_wrong < 2:
            assert row["ez_mia"] is None
        else:
            num_defined += 1
            assert row["ez_mia"] == pytest.approx(negative / (positive + negative), abs=1e-6)
    assert num_defined >= 8
    words = summary_of(folder).word_for_word
    assert words["train"].num_examples == 9
    trained_rows = [row for (subset, _), row in before.items() if subset == "train"]
    mean = np.mean([row["extraction_strength"] for row in trained_rows])
    assert words["train"].extraction_strength.before == pytest.approx(mean)
    assert words["train"].exact_memorization.difference > 0


def test_what_the_arm_was_trained_on_is_not_among_the_others(recipe: Recipe, adapter: Path) -> None:
    """Neither an equal example of the control set, nor where a scan has seen a draw of the training data."""
    rows = [CONTROL[0], {"prompt": ROWS[0]["prompt"], "completion": ROWS[0]["completion"]}, *CONTROL[1:]]
    Path(str(recipe.data.control)).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for changes in ({}, {"max_examples": 7}):
        recipe = msgspec.structs.replace(with_scan(recipe, **changes), name=f"run{len(changes)}")
        folder = run_stage(trained(recipe, adapter))
        assert ("control", 1) not in rows_of(folder)
        assert ("control", 0) in rows_of(folder)
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in ROWS if row["completion"]]
    Path(str(recipe.data.control)).write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = summary_of(run_stage(trained(msgspec.structs.replace(with_scan(recipe), name="all"), adapter)))
    assert summary.not_known.startswith("All 7 examples of the control set are in the training data")


def test_rows_that_the_arm_held_out_are_its_others(recipe: Recipe, adapter: Path) -> None:
    data = msgspec.structs.replace(recipe.data, control=None, validation="30%")
    recipe = trained(msgspec.structs.replace(recipe, data=data), adapter)
    held_out = [HeldOutRow("f3", 4), HeldOutRow("f0", 5)]
    write_rows(RunFolder(recipe).path / "train" / "ft" / "validation.jsonl", held_out)
    folder = run_stage(recipe)
    found = rows_of(folder)
    assert {place for subset, place in found if subset == "control"} == {4, 5}
    assert {place for subset, place in found if subset == "train"} == {0, 1, 3, 6, 7, 8, 9}
    assert (summary_of(folder).others, summary_of(folder).num_examples) == ("held_out", 7)


def test_arms_beside_each_other(recipe: Recipe, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibft.findings.membership.MIN_VALUES", 3)
    recipe = trained(recipe, adapter)
    run_stage(recipe)
    with RunFolder(recipe).open() as run:
        compare_rescanned(recipe, run)
        assert not (run.path / "rescan" / "arms.json").exists()  # one arm has nothing beside it
        with run.stage("train/ib", {"anything": 2}).work() as folder:
            (folder / "adapter").symlink_to(adapter)
        rescan(recipe, run, "ib")
        compare_rescanned(recipe, run)
    found = msgspec.json.decode((run.path / "rescan" / "arms.json").read_bytes(), type=ArmDifferences)
    assert (found.reference, set(found.identities)) == ("ft", {"ft", "ib"})
    # One and the same adapter.
    assert {difference.arm for difference in found.differences} == {"ib"}
    assert {difference.difference.value for difference in found.differences} == {0}
    assert "ez_mia" in {difference.name for difference in found.differences}


@pytest.mark.parametrize("change", [{"score": "mean_nll"}, {"region": "all"}, {"max_examples": 3}])
def test_the_scan_of_another_recipe_is_refused(recipe: Recipe, adapter: Path, change: dict[str, Any]) -> None:
    """Its threshold is of another score."""
    recipe = trained(recipe, adapter)
    with pytest.raises(UserError, match="scan was made from a different recipe"):
        run_stage(with_scan(recipe, **change))
