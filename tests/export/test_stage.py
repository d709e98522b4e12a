"""`ibft export`: the folder loads without this package, its card tells the scores, and the hub is asked once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ibft.cli import main
from ibft.errors import UserError
from ibft.models.loading import load_arm
from ibft.objectives.ft import FTObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe, dump_recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, TrainConfig
from ibft.stages.export import export
from ibft.stages.train import train


def ibft_export(run: RunFolder, *arguments: str | Path) -> Result:
    recipe = run.path.parent / "recipe.yaml"
    recipe.write_text(dump_recipe(run.recipe))
    return CliRunner().invoke(main, ["export", str(recipe), *map(str, arguments)])


def without_ibft(program: str) -> None:
    blocked = f"import sys\nsys.modules['ibft'] = None\n{program}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def change(run: RunFolder, **changes: Any) -> RunFolder:
    return RunFolder(msgspec.structs.replace(run.recipe, **changes))


def test_the_adapter_loads_as_its_card_says(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "shipped" / "ft"
    done = ibft_export(run, "--arm", "ft", "--out", out)
    assert done.exit_code == 0, done.output
    trained = run.path / "train" / "ft" / "adapter"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (out / name).read_bytes() == (trained / name).read_bytes()
    program = (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    without_ibft(f"FOLDER, BASE = {str(out)!r}, {run.recipe.model.name!r}\n{program}\nassert model.peft_config")
    assert [path.name for path in out.parent.iterdir()] == ["ft"]


def test_the_card_has_scores_and_verdict(run: RunFolder, tmp_path: Path) -> None:
    ibft_export(run, "--arm", "ft", "--out", tmp_path / "ft")
    card = (tmp_path / "ft" / "README.md").read_text()
    report = json.loads((run.path / "report" / "report.json").read_text())
    by_name = {arm["name"]: arm["metrics"] for arm in report["arms"]}
    assert "|  | base | ft |\n|---|---|---|\n| Pass@1 |" in card
    for name in ("pass@1", "pass@2"):
        cells = [
            f"{100 * metric['value']:.1f}% ({100 * metric['ci95'][0]:.1f} to {100 * metric['ci95'][1]:.1f})"
            for metric in (by_name[arm][name] for arm in ("base", "ft"))
        ]
        assert f"| {name.capitalize()} | {cells[0]} | {cells[1]} |" in card
    assert "| Pass@1 | 0.0% (0.0 to 0.0) | 50.0% (" in card  # (4 + 2 + 0) / 12
    assert "| Problems | 12 | 12 |\n| Samples | 48 | 48 |" in card
    assert report["verdict"] in card
    assert "Benchmark: `humaneval`. Temperature: 0.2." in card
    assert "1,234 examples, 56,789 tokens, prompts included. Left out: 7 longer than 2048 tokens." in card


def test_unmeasured_or_outdated_scores_are_not_told(run: RunFolder, tmp_path: Path) -> None:
    judged = run.path / "judge" / "ft" / "metrics.json"
    report = run.path / "report" / "report.json"
    numbers, told = judged.read_text(), report.read_text()
    judged.write_text(numbers.replace('"num_samples": 48', '"num_samples": 96'))
    assert "older than its last evaluation" in str(export(run.recipe, run, "ft", tmp_path / "a"))
    judged.write_text(numbers)

    record = run.path / "train" / "ft" / "stage.json"
    record.write_text(record.read_text().replace(run.record("train/ft").identity, "0" * 16))
    assert "of another training" in str(export(run.recipe, run, "ft", tmp_path / "b"))
    assert not isinstance(export(run.recipe, run, "ib", tmp_path / "c"), str)

    report.write_text(json.dumps(json.loads(told) | {"arms": []}))
    assert "does not have it" in str(export(run.recipe, run, "ib", tmp_path / "d"))
    report.unlink()
    sentence = export(run.recipe, run, "ib", tmp_path / "e")
    assert "has no report" in str(sentence)
    assert f"## Scores\n\n{sentence}\n" in (tmp_path / "e" / "README.md").read_text()


def test_what_the_train_stage_leaves_is_exported(tiny_model_folder: Path, tmp_path: Path) -> None:
    """The two meet through files alone: names, inputs and summary must be what either expects."""
    (tmp_path / "data.jsonl").write_text('{"prompt": "def f(a):\\n", "completion": "    return a\\n"}\n' * 4)
    recipe = Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        prompt=PromptConfig(template="plain"),
        data=DataConfig(train=str(tmp_path / "data.jsonl")),
        objective=(FTObjective(),),
        train=TrainConfig(max_steps=1, lora=None),
    )
    with RunFolder(recipe).open() as run:
        train(recipe, run, recipe.objective[0])
    done = ibft_export(run, "--arm", "ft", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Scores in its card: Not measured" in done.output
    trained = run.path / "train" / "ft" / "model"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in trained.iterdir()}
    card, first = ((folder / "README.md").read_text() for folder in (tmp_path / "out", trained))
    assert re.sub(r"## Scores\n\n.*\n\n", "", card) == first


def test_merged_weights_are_the_adapted_model(run: RunFolder, tmp_path: Path) -> None:
    done = ibft_export(run, "--arm", "ft", "--out", tmp_path / "merged", "--merge")
    assert done.exit_code == 0, done.output
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(run.recipe.model.name), str(run.path / "train" / "ft" / "adapter")
    )
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        logits = whole(tokens).logits
        torch.testing.assert_close(logits, adapted(tokens).logits, rtol=1e-4, atol=1e-4)
        with adapted.disable_adapter():
            assert (logits - adapted(tokens).logits).abs().max() > 0.1
    card = (tmp_path / "merged" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    without_ibft(f"FOLDER = {str(tmp_path / 'merged')!r}\n" + card.partition("```python\n")[2].partition("```")[0])


class FakeHub:
    """Stands in for huggingface_hub.HfApi, and notes what it is asked."""

    calls: list[tuple[str, dict[str, Any]]]
    refusal: Exception | None = None

    def create_repo(self, repo_id: str, **options: Any) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        options["files"] = sorted(path.name for path in Path(options.pop("folder_path")).iterdir())
        self.calls.append(("upload_folder", options))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(FakeHub, "calls", [], raising=False)
    monkeypatch.setattr(FakeHub, "refusal", None)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    return FakeHub


@pytest.mark.parametrize("flags", [[], ["--private"]])
def test_push_uploads_the_folder(run: RunFolder, tmp_path: Path, hub: type[FakeHub], flags: list[str]) -> None:
    done = ibft_export(run, "--arm", "ft", "--out", tmp_path / "ft", "--push", "me/mine", *flags)
    assert done.exit_code == 0, done.output
    assert "https://hub/me/mine" in done.output
    (created, first), (uploaded, second) = hub.calls
    assert (created, first) == ("create_repo", {"repo_id": "me/mine", "private": bool(flags), "exist_ok": True})
    assert (uploaded, second["repo_id"]) == ("upload_folder", "me/mine")
    assert second["files"] == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


def test_a_refusal_of_the_hub_is_one_sentence(run: RunFolder, tmp_path: Path, hub: type[FakeHub]) -> None:
    hub.refusal = PermissionError("401 Client Error.\nInvalid username or password.")
    done = ibft_export(run, "--arm", "ft", "--out", tmp_path / "ft", "--push", "me/mine")
    assert done.exit_code == 2
    assert "PermissionError: 401 Client Error. " in done.output
    assert f"run `hf upload me/mine {tmp_path / 'ft'}`" in done.output
    assert (tmp_path / "ft" / "README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--arm", "base"], "--arm base is the base model, which is not trained. There are: ft, ib."),
        (["--arm", "fd"], "--arm fd is not one of the recipe's arms"),
        (["--arm", "ft", "--private"], "--private goes with --push"),
        (["--arm", "ft", "--push", "a/b/c"], "--push a/b/c: not the name of a repository"),
        (["--arm", "ft", "--set", "train.learning_rate=0.5"], "a different recipe (train.learning_rate: 5e-05 -> 0.5)"),
        (["--arm", "ft", "--set", "data.train=owner/other"], "(data.train: owner/pairs@main -> owner/other)"),
        (["--arm", "ft", "--merge", "--set", "model.quantization=4bit"], "trained on weights in 4bit"),
        (["--arm", "ft", "--merge", "--set", "train.lora=null"], "the arm ft has no adapter"),
    ],
)
def test_mistakes_are_one_sentence_and_make_nothing(
    run: RunFolder, tmp_path: Path, hub: type[FakeHub], arguments: list[str], expected: str
) -> None:
    done = ibft_export(run, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert expected in done.output
    assert not (tmp_path / "out").exists()
    assert not hub.calls


def test_untrained_arms_and_folders_that_exist_are_refused(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"out exists already"):
        export(run.recipe, run, "ft", tmp_path / "out")
    other = change(run, name="other")
    with pytest.raises(UserError, match=r"train/ft does not exist yet. Run `ibft train RECIPE` first"):
        export(other.recipe, other, "ft", tmp_path / "new")


def test_a_summary_that_a_card_cannot_be_made_of_says_how_to_train_again(run: RunFolder, tmp_path: Path) -> None:
    folder = run.path / "train" / "ft"
    remedy = rf"whole: copy them.*Remove the folder {re.escape(str(folder))}, then run `ibft train RECIPE`\."
    for text in ("{", '{"steps": 3}', None):
        (folder / "summary.json").unlink() if text is None else (folder / "summary.json").write_text(text)
        with pytest.raises(UserError, match=rf"train/ft/summary\.json.*{remedy}"):
            export(run.recipe, run, "ft", tmp_path / "new")


def test_weights_that_cannot_be_loaded_say_how_to_train_again(run: RunFolder, tmp_path: Path) -> None:
    folder = run.path / "train" / "ft"
    remedy = rf"Remove the folder {re.escape(str(folder))}, then run `ibft train RECIPE`\."
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=rf"cannot be loaded.*{remedy}"):
        load_arm(run.recipe, run, "ft")
    with pytest.raises(UserError, match=rf"cannot be loaded.*{remedy}"):
        export(run.recipe, run, "ft", tmp_path / "new", merge=True)
    shutil.rmtree(folder / "adapter")
    with pytest.raises(UserError, match=rf"adapter does not exist\. {remedy}"):
        export(run.recipe, run, "ft", tmp_path / "new")
