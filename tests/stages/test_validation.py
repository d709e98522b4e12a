"""Validation data through the train stage: what is held out, evaluated, stopped, kept, and what it changes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ibft import progress
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import TrainingSummary, read_training_summary
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.pages.evidence import read_making
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, LoraConfig, ModelConfig, SourceConfig, TrainConfig
from ibft.stages.identity import scan_inputs, train_inputs
from ibft.stages.train import train
from ibft.stages.validation import HeldOutRow
from ibft.training import fit

FT = FTObjective()
IN_PATH = IBObjective(form="in_path", layer=2, bottleneck_dim=16, alpha=1.0)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    """Ten examples, and a file of held-out ones that training first helps with, then unlearns."""
    rows = [
        {"id": f"f{i}", "prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 3)}
        for i in range(10)
    ]
    others = [{"prompt": f"def g{i}(b):\n", "completion": f"    print(b, {i})\n    return b\n"} for i in range(5)]
    return Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        seed=3,
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(
            train=write(tmp_path / "data.jsonl", rows),
            validation=write(tmp_path / "held.jsonl", others),
            max_tokens=200,
        ),
        train=TrainConfig(
            max_steps=40,
            batch_size=4,
            learning_rate=0.03,
            schedule="constant",
            log_every=3,
            save_every=7,
            lora=LoraConfig(rank=4, dropout=0.1),
        ),
    )


def change(recipe: Recipe, section: str, **settings: Any) -> Recipe:
    return msgspec.structs.replace(recipe, **{section: msgspec.structs.replace(getattr(recipe, section), **settings)})


def run_stage(recipe: Recipe, objective: Objective = FT) -> Path:
    with RunFolder(recipe).open() as run:
        train(recipe, run, objective)
    return Path(recipe.output) / recipe.name / "train" / objective.arm


def held_out_losses(folder: Path) -> dict[int, float]:
    return {
        row.step: row.metrics["eval_loss"]
        for row in read_rows(folder / "log.jsonl", TrainingLog)
        if "eval_loss" in row.metrics
    }


def summary_of(folder: Path) -> TrainingSummary:
    summary = read_training_summary(folder)
    assert summary is not None
    return summary


def bits(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def adapter_loss(recipe: Recipe, folder: Path) -> float:
    """Cross-entropy of the held-out file under the saved adapter, loaded as anyone would, example by example."""
    base = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "adapter").double().eval()
    tokenizer = load_tokenizer(recipe.model)
    total, count = 0.0, 0
    for line in Path(str(recipe.data.validation)).read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
        border = next(n for n, token in enumerate([*prompt, -1]) if ids[n] != token)
        logits = model(torch.tensor([ids])).logits[0, border - 1 : -1]
        total += F.cross_entropy(logits, torch.tensor(ids[border:]), reduction="sum").item()
        count += len(ids) - border
    return total / count


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("objective", [FT, IN_PATH], ids=["ft", "in_path"])
def test_evaluating_changes_no_bit_of_the_adapter(recipe: Recipe, objective: Objective, batching: str) -> None:
    recipe = change(recipe, "train", max_steps=6, batching=batching)
    plain = msgspec.structs.replace(change(recipe, "data", validation=None), name="plain")
    often = change(recipe, "train", evaluate_every=2)
    expected, found = run_stage(plain, objective), run_stage(often, objective)
    assert bits(found) == bits(expected)
    assert list(held_out_losses(found)) == [2, 4, 6]
    rows = [row for row in read_rows(found / "log.jsonl", TrainingLog) if "eval_loss" not in row.metrics]
    assert rows == list(read_rows(expected / "log.jsonl", TrainingLog))
    assert not any("runtime" in name or "num_tokens" in name for name in _names(found))
    assert held_out_losses(found)[6] == pytest.approx(adapter_loss(recipe, found), rel=1e-5)
    summary = summary_of(expected)
    assert (summary.held_out, summary.stopped) == (None, "all steps")


def _names(folder: Path) -> set[str]:
    return {name for row in read_rows(folder / "log.jsonl", TrainingLog) for name in row.metrics}


@pytest.mark.parametrize("objective", [FT, IN_PATH], ids=["ft", "in_path"])
def test_the_best_weights_are_kept_and_training_stops(recipe: Recipe, objective: Objective) -> None:
    recipe = change(recipe, "train", evaluate_every=2, early_stopping=3, keep="best")
    folder = run_stage(recipe, objective)
    losses, summary = held_out_losses(folder), summary_of(folder)
    best = min(losses, key=lambda step: losses[step])
    assert 2 < best == max(losses) - 6 < 34
    assert summary.held_out is not None
    assert summary.held_out.best_step == summary.held_out.kept_step == best
    assert summary.held_out.best_loss == losses[best] == pytest.approx(adapter_loss(recipe, folder), rel=1e-5)
    assert (summary.steps, summary.stopped) == (max(losses), "early stopping")
    assert (summary.held_out.examples, summary.held_out.groups) == (5, None)
    card = (folder / "adapter" / "README.md").read_text()
    assert f"\n| weights | of step {best}; training stopped early |\n| examples per step |" in card
    assert f"\n| held-out cross-entropy | {losses[best]:.4f} nats per token at its lowest, after step {best} (5" in card
    assert not (folder / "checkpoints").exists()


def test_the_last_weights_are_kept_unless_the_best_are_asked_for(recipe: Recipe) -> None:
    recipe = change(recipe, "train", evaluate_every=2, early_stopping=1)
    folder = run_stage(recipe)
    losses, summary = held_out_losses(folder), summary_of(folder)
    assert summary.held_out is not None
    assert summary.held_out.kept_step == max(losses) == summary.steps
    assert summary.held_out.best_step == max(losses) - 2
    assert losses[max(losses)] == pytest.approx(adapter_loss(recipe, folder), rel=1e-5)


def test_the_best_step_may_be_the_last(recipe: Recipe) -> None:
    recipe = change(recipe, "train", max_steps=3, learning_rate=1e-3, evaluate_every=1, keep="best")
    folder = run_stage(recipe)
    losses, summary = held_out_losses(folder), summary_of(folder)
    assert list(losses.values()) == sorted(losses.values(), reverse=True)
    assert summary.held_out is not None
    assert summary.held_out.kept_step == 3
    assert losses[3] == pytest.approx(adapter_loss(recipe, folder), rel=1e-5)


@pytest.mark.parametrize("objective", [FT, IN_PATH], ids=["ft", "in_path"])
@pytest.mark.parametrize("last", [5, 8, 11])
def test_an_interrupted_run_ends_with_the_same_best(
    recipe: Recipe, objective: Objective, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = change(recipe, "train", evaluate_every=2, early_stopping=3, keep="best", learning_rate=0.02)
    expected = run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "whole")), objective)
    assert (summary_of(expected).steps or 0) > 11
    stopped_at(last, recipe, monkeypatch, objective)
    folder = run_stage(recipe, objective)
    assert bits(folder) == bits(expected)
    assert (folder / "log.jsonl").read_text() == (expected / "log.jsonl").read_text()
    found, whole = summary_of(folder), summary_of(expected)
    assert (found.held_out, found.stopped, found.steps) == (whole.held_out, whole.stopped, whole.steps)


def stopped_at(last: int, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, objective: Objective = FT) -> Path:
    advance = fit.ProgressBar.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == last:
            raise KeyboardInterrupt
        advance(self, args, state, control, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(fit.ProgressBar, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(recipe, objective)
    return Path(recipe.output) / recipe.name / "train" / f"{objective.arm}.partial" / "checkpoints"


def test_a_run_that_was_moved_keeps_the_best_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = change(recipe, "train", evaluate_every=2, early_stopping=3, keep="best")
    expected = run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "whole")))
    summary = summary_of(expected)
    assert summary.held_out is not None
    assert summary.held_out.best_step is not None
    # No checkpoint comes after the resume, at which transformers would see the best one again.
    recipe = change(recipe, "train", save_every=summary.held_out.best_step + 1)
    stopped_at(summary.held_out.best_step + 3, recipe, monkeypatch)
    Path(recipe.output).rename(tmp_path / "moved")
    folder = run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "moved")))
    assert summary_of(folder).held_out == summary.held_out
    assert bits(folder) == bits(expected)


def test_a_best_checkpoint_that_is_gone_is_not_claimed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = change(recipe, "train", evaluate_every=2, early_stopping=3, keep="best")
    best = summary_of(run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "whole")))).held_out
    assert best is not None
    assert best.best_step is not None
    recipe = change(recipe, "train", save_every=best.best_step + 1)
    checkpoints = stopped_at(best.best_step + 3, recipe, monkeypatch)
    shutil.rmtree(checkpoints / f"checkpoint-{best.best_step}")
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", lambda title, text: warnings.append(text))
    folder = run_stage(recipe)
    summary, losses = summary_of(folder), held_out_losses(folder)
    assert summary.held_out is not None
    assert summary.held_out.best_step == best.best_step
    assert summary.held_out.kept_step == summary.steps == max(losses)
    assert losses[max(losses)] == pytest.approx(adapter_loss(recipe, folder), rel=1e-5)
    assert any(f"checkpoint of the best step, {best.best_step}, is gone" in text for text in warnings)


def test_without_a_number_of_steps_each_epoch_is_evaluated(recipe: Recipe) -> None:
    recipe = change(recipe, "train", max_steps=None, epochs=2.5)
    assert list(held_out_losses(run_stage(recipe))) == [3, 6, 8]


def test_a_share_is_held_out_by_group(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": f"f{i}", "prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n", "file": f"{i // 2}.py"}
        for i in range(40)
    ]
    rows.insert(1, {"id": "long", "prompt": "def g(a):\n", "completion": "    pass\n" * 200, "file": "0.py"})
    recipe = change(recipe, "data", train=write(tmp_path / "data.jsonl", rows), validation="10%")
    recipe = change(recipe, "train", max_steps=2)
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    trained: list[list[str]] = []
    make = fit.make_trainer

    def seen(recipe: Any, objective: Any, tokenizer: Any, examples: Any, *arguments: Any) -> Any:
        trained.append([example.id for example in examples])
        return make(recipe, objective, tokenizer, examples, *arguments)

    monkeypatch.setattr(fit, "make_trainer", seen)
    folder = run_stage(recipe)
    held_out = list(read_rows(folder / "validation.jsonl", HeldOutRow))
    assert len(held_out) == 4
    assert all(rows[row.place]["id"] == row.id for row in held_out)
    assert len({rows[row.place]["file"] for row in held_out}) == 2
    assert sorted([*trained[0], *(row.id for row in held_out)]) == sorted(f"f{i}" for i in range(40))
    assert "Validation: 4 rows in 2 groups are held out; 36 rows in 18 groups are trained" in said
    summary = summary_of(folder)
    assert (summary.examples, summary.skipped) == (36, {"longer than 200 tokens": 1})
    facts = summary.held_out
    assert facts is not None
    assert (facts.examples, facts.groups, facts.groups_trained) == (4, 2, 18)
    other = run_stage(msgspec.structs.replace(recipe, name="other", seed=4))
    assert list(read_rows(other / "validation.jsonl", HeldOutRow)) != held_out


def test_without_rensa_one_line_says_so(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    run_stage(change(change(recipe, "data", validation="20%"), "train", max_steps=1))
    assert len([line for line in said if "rensa is not installed (pip install 'ibft[audit]')" in line]) == 1


def test_validation_data_is_read_as_training_data_is(recipe: Recipe, tmp_path: Path) -> None:
    """Its own split and columns; rows that cannot be read or are too long are left out and counted."""
    folder = tmp_path / "folder"
    folder.mkdir()
    train = [{"q": f"def f{i}(a):\n", "a": f"    return a + {i}\n"} for i in range(8)]
    test = [{"q": "def g(a):\n", "a": "    return a\n"}, {"q": 3, "a": None}, {"q": "def h():\n", "a": "pass\n" * 300}]
    write(folder / "train.jsonl", train)
    write(folder / "test.jsonl", test)
    recipe = change(
        recipe,
        "data",
        train=str(folder),
        validation=SourceConfig(source=str(folder), split="test"),
        columns={"prompt": "q", "completion": "a"},
        on_bad_row="skip",
        max_examples=6,
    )
    summary = summary_of(run_stage(change(recipe, "train", max_steps=1)))
    assert summary.examples == 6
    assert summary.held_out is not None
    assert summary.held_out.examples == 1


def test_validation_data_that_cannot_be_had_names_its_key(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data.validation: the file .*missing.jsonl does not exist"):
        run_stage(change(recipe, "data", validation="missing.jsonl"))
    empty = write(tmp_path / "empty.jsonl", [{"prompt": "a", "completion": " "}])
    with pytest.raises(UserError, match=r"^data.validation: no example can be used \(1 empty completion\)"):
        run_stage(change(recipe, "data", validation=empty))


def test_validation_data_of_which_no_row_is_readable_says_why(recipe: Recipe, tmp_path: Path) -> None:
    unreadable = write(tmp_path / "unreadable.jsonl", [{"x": 1}, {"x": 2}])
    recipe = change(recipe, "data", validation=unreadable, on_bad_row="skip")
    with pytest.raises(UserError, match=r"^data.validation: no example can be used \(2 no known shape\)"):
        run_stage(recipe)


@pytest.mark.parametrize("num_files", [2, 3, 10])
def test_far_more_than_was_asked_for_is_a_warning(
    recipe: Recipe, tmp_path: Path, num_files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows of few files: 20% are asked for. Of three files, 30% are, which is as near as it can be."""
    said: list[str] = []
    warned: list[tuple[str, str]] = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(progress, "warn", lambda title, text: warned.append((title, text)))
    rows = [json.loads(line) for line in Path(recipe.data.train_name).read_text().splitlines()]
    rows = [{**row, "file": f"{place % num_files}.py"} for place, row in enumerate(rows)]
    recipe = change(recipe, "data", train=write(tmp_path / "data.jsonl", rows), validation="20%")
    run_stage(change(recipe, "train", max_steps=1))
    found = [text for title, text in warned if title.endswith("OF THE DATA IS HELD OUT")]
    if num_files == 2:
        assert warned[0][0] == "50% OF THE DATA IS HELD OUT"
        assert found[0].startswith("data.validation asks for 20% of the rows, and 50% are held out (5 of 10)")
        assert "Validation: 5 rows in 1 group are held out; 5 rows in 1 group are trained" in said
    else:
        assert not found


@pytest.mark.parametrize("share", ["0%", "100%", "-3%", "five%", "%"])
def test_an_impossible_share_is_refused(share: str) -> None:
    with pytest.raises(UserError, match=f"data.validation is {share}: a share is above 0% and below 100%"):
        DataConfig(validation=share)


def test_a_share_that_leaves_nothing_to_train_is_refused(recipe: Recipe) -> None:
    message = r"^data.validation is 99.9%, which holds out all 10 examples: none is left to train"
    with pytest.raises(UserError, match=message):
        run_stage(change(recipe, "data", validation="99.9%"))


def test_trained_data_is_no_validation_data() -> None:
    with pytest.raises(UserError, match=r"data.validation is data.jsonl, which is trained"):
        DataConfig(train="data.jsonl", validation="data.jsonl")
    with pytest.raises(UserError, match="has the share 2"):
        DataConfig(validation=SourceConfig(source="other.jsonl", share=2))
    DataConfig(train="owner/name", validation=SourceConfig(source="owner/name", split="test"))


@pytest.mark.parametrize("settings", [{"evaluate_every": 5}, {"early_stopping": 2}, {"keep": "best"}])
def test_settings_without_validation_data_are_refused(recipe: Recipe, settings: dict[str, Any]) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(UserError, match=rf"train.{name} is {value}, and data.validation is null"):
        change(change(recipe, "data", validation=None), "train", **settings)


def test_only_what_is_set_enters_the_identity(recipe: Recipe, tmp_path: Path) -> None:
    plain = change(recipe, "data", validation=None)
    inputs = train_inputs(plain, FT)
    assert "validation" not in inputs["data"]
    assert not {"evaluate_every", "early_stopping", "keep"} & inputs["train"].keys()
    assert scan_inputs(recipe) == scan_inputs(plain)
    known = [inputs]
    for other in (
        change(recipe, "data", validation="5%"),
        recipe,
        change(recipe, "train", evaluate_every=3),
        change(recipe, "train", early_stopping=3),
        change(recipe, "train", keep="best"),
    ):
        assert train_inputs(other, FT) not in known
        known.append(train_inputs(other, FT))
    assert train_inputs(change(recipe, "data", validation="5.0%"), FT) in known  # the same share
    write(tmp_path / "held.jsonl", [{"prompt": "def g(b):\n", "completion": "    return b\n"}])
    assert train_inputs(recipe, FT) not in known


def test_an_adapter_of_a_run_without_validation_is_the_same_as_before(recipe: Recipe) -> None:
    folder = run_stage(change(change(recipe, "data", validation=None), "train", max_steps=1))
    inputs = json.loads((folder / "stage.json").read_text())["inputs"]
    assert set(inputs["data"]) == {"train", "split", "max_tokens", "max_examples"}
    assert not (folder / "validation.jsonl").exists()
    assert len(load_file(folder / "adapter" / "adapter_model.safetensors")) == 4 * 7 * 2


@pytest.mark.parametrize("validation", ["20%", "held.jsonl", SourceConfig(source="held.jsonl", split="train")])
def test_the_report_finds_validation_data_changed_only_where_they_are(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: str | SourceConfig
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = change(change(recipe, "train", max_steps=1), "data", validation=validation)
    run_stage(recipe)
    assert read_making(recipe, RunFolder(recipe)).drift == []
    other = change(recipe, "data", validation="10%")
    [sentence] = read_making(other, RunFolder(other)).drift
    assert sentence.startswith("train/ft was made with data.validation = ")
    assert sentence.endswith("; the recipe now says 0.1.")


def test_the_report_compares_several_sources_one_by_one(recipe: Recipe, tmp_path: Path) -> None:
    data = str(recipe.data.train)
    more = write(tmp_path / "more.jsonl", [{"prompt": "def h(c):\n", "completion": "    return c\n"}])
    recipe = change(change(recipe, "train", max_steps=1), "data", train=(data, more))
    run_stage(recipe)
    assert read_making(recipe, RunFolder(recipe)).drift == []
    other = change(recipe, "data", train=(data, SourceConfig(source=more, split="test")))
    assert read_making(other, RunFolder(other)).drift == [
        "train/ft was made with data.train.1.split = train; the recipe now says test."
    ]
