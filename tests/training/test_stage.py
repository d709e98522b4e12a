"""The train stage: a plain adapter, a log, a summary; interruption, bad settings, NaN."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.score_table import read_scores
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, LoraConfig, ModelConfig, ScanConfig, TrainConfig
from ibft.stages.scan import scan
from ibft.stages.train import train
from ibft.training import fit

IB = IBObjective(layer=2, bottleneck_dim=16)


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    rows = [
        {"id": f"f{i}", "prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 3)}
        for i in range(10)
    ]
    rows.append({"id": "long", "prompt": "def g(a):\n", "completion": "    pass\n" * 200})
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        seed=3,
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train=str(data), max_tokens=200),
        train=TrainConfig(
            max_steps=4,
            batch_size=4,
            learning_rate=1e-2,
            log_every=2,
            save_every=2,
            lora=LoraConfig(rank=4, dropout=0.1),
        ),
    )


def run_stage(recipe: Recipe, objective: Objective) -> Path:
    with RunFolder(recipe).open() as run:
        train(recipe, run, objective)
    return Path(recipe.output) / recipe.name / "train" / objective.arm


@pytest.mark.parametrize("objective", [FTObjective(), IB], ids=["ft", "ib"])
def test_writes_a_plain_adapter_a_log_and_a_summary(recipe: Recipe, objective: Objective) -> None:
    folder = run_stage(recipe, objective)
    names = ["adapter", "log.jsonl", "skipped.jsonl", "stage.json", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "model"  # the folder's name: its path means nothing elsewhere
    saved, base = (AutoTokenizer.from_pretrained(path) for path in (folder / "adapter", recipe.model.name))
    assert saved.chat_template == base.chat_template
    assert (saved.get_vocab(), saved.pad_token, saved.eos_token) == (base.get_vocab(), base.pad_token, base.eos_token)
    texts = [path for path in (folder / "adapter").iterdir() if path.suffix == ".json"]
    assert not any(recipe.model.name in path.read_text() for path in texts)
    keys = load_file(folder / "adapter" / "adapter_model.safetensors").keys()
    assert len(keys) == 4 * 7 * 2
    assert all("lora_A" in key or "lora_B" in key for key in keys)

    card = (folder / "adapter" / "README.md").read_text()  # ours, in the place of PEFT's
    assert f"# run: {objective.arm}\n" in card
    assert ": 10 examples, " in card
    assert "Left out: 1 longer than 200 tokens." in card
    assert f"transformers {importlib.metadata.version('transformers')}" in card

    log = list(read_rows(folder / "log.jsonl", TrainingLog))
    assert [row.step for row in log] == [1, 2, 4]
    for row in log:
        assert {"loss", "ce", "grad_norm", "learning_rate"} <= row.metrics.keys()
        assert ("ib/kl" in row.metrics) == (objective is IB)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["objective"] == objective.arm
    assert (summary["steps"], summary["examples"]) == (4, 10)
    assert summary["skipped"] == {"longer than 200 tokens": 1}
    assert summary["final_loss"] == log[-1].metrics["loss"]
    assert summary["tokens"] > 100
    assert summary["seconds"] > 0
    assert summary["peak_memory_mib"] > 50


def test_a_padding_token_without_an_embedding_is_not_used(
    recipe: Recipe, tmp_path: Path, tiny_model_folder: Path
) -> None:
    """As of a model that came without one, whose tokenizer was given one later."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    tokenizer = load_tokenizer(recipe.model)
    tokenizer.add_special_tokens({"pad_token": "<more>"})
    tokenizer.save_pretrained(folder)
    padded = msgspec.structs.replace(recipe.train, batching="padded")
    recipe = msgspec.structs.replace(recipe, train=padded)
    expected = load_file(run_stage(recipe, FTObjective()) / "adapter" / "adapter_model.safetensors")
    model = msgspec.structs.replace(recipe.model, name=str(folder))
    other = msgspec.structs.replace(recipe, name="other", model=model)
    found = load_file(run_stage(other, FTObjective()) / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with RunFolder(other).open() as run:
        scan(other, run)
    rows = read_scores(run.path / "scan", other.scan.score, "train")
    assert len(list(rows)) == 10


@pytest.mark.slow
def test_adapter_loads_without_this_package(recipe: Recipe) -> None:
    folder = run_stage(recipe, IB)
    program = (
        "import sys\n"
        "sys.modules['ibft'] = None\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n"
        f"base = AutoModelForCausalLM.from_pretrained({recipe.model.name!r})\n"
        f"model = PeftModel.from_pretrained(base, {str(folder / 'adapter')!r})\n"
        "assert model.peft_config['default'].r == 4\n"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_alpha_zero_arm_equals_the_ft_arm(recipe: Recipe) -> None:
    plain = load_file(run_stage(recipe, FTObjective()) / "adapter" / "adapter_model.safetensors")
    gauged = msgspec.structs.replace(IB, alpha=0.0)
    ours = load_file(run_stage(recipe, gauged) / "adapter" / "adapter_model.safetensors")
    assert plain.keys() == ours.keys()
    assert all(torch.equal(plain[key], ours[key]) for key in plain)


@pytest.mark.parametrize("objective", [FTObjective(), IB], ids=["ft", "ib"])
def test_interrupted_run_ends_in_the_same_adapter(
    recipe: Recipe, objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row is logged after the checkpoint that the second attempt goes on from: it must not be there twice.
    recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, log_every=1))
    expected = run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "whole")), objective)
    advance = fit.ProgressBar.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt
        advance(self, args, state, control, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(fit.ProgressBar, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(recipe, objective)
    work = Path(recipe.output) / recipe.name / "train" / f"{objective.arm}.partial"
    assert (work / "checkpoints" / "checkpoint-2" / "complete").exists()
    assert [row.step for row in read_rows(work / "log.jsonl", TrainingLog)] == [1, 2, 3]
    half = work / "checkpoints" / "checkpoint-3"
    half.mkdir()
    folder = run_stage(recipe, objective)
    ours, theirs = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (folder, expected))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (folder / "log.jsonl").read_text() == (expected / "log.jsonl").read_text()


def test_complete_arm_is_not_trained_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(recipe, FTObjective())
    monkeypatch.setattr(fit, "make_trainer", None)
    run_stage(recipe, FTObjective())


def test_other_control_set_keeps_the_arm(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(recipe, FTObjective())
    monkeypatch.setattr(fit, "make_trainer", None)
    other = msgspec.structs.replace(recipe.data, control="other.jsonl")
    run_stage(msgspec.structs.replace(recipe, data=other), FTObjective())


def test_nan_loss_names_step_and_examples_and_can_be_resumed(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = fit.StageTrainer.compute_loss

    def poisoned(self: Any, *arguments: Any, **keywords: Any) -> Any:
        loss = compute(self, *arguments, **keywords)
        return loss * float("nan") if self.state.global_step == 2 else loss

    with monkeypatch.context() as patch:
        patch.setattr(fit.StageTrainer, "compute_loss", poisoned)
        with pytest.raises(UserError, match=r"the loss is nan at step 3 \(examples f\d.*learning_rate"):
            run_stage(recipe, FTObjective())
    folder = Path(recipe.output) / recipe.name / "train"
    assert [path.name for path in folder.iterdir()] == ["ft.partial"]
    assert (folder / "ft.partial" / "checkpoints" / "checkpoint-2" / "complete").exists()
    assert (run_stage(recipe, FTObjective()) / "adapter").is_dir()


def test_exploding_loss_names_step_and_examples_and_can_be_resumed(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = fit.StageTrainer.compute_loss

    def broken(self: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = compute(self, *arguments, **keywords)
        return loss * 1000 if self.state.global_step == 2 else loss

    with monkeypatch.context() as patch:
        patch.setattr(fit.StageTrainer, "compute_loss", broken)
        with pytest.raises(UserError, match=r"the loss is \d+\S* at step 3, after \d\S* at best \(examples f\d"):
            run_stage(recipe, FTObjective())
    assert (run_stage(recipe, FTObjective()) / "adapter").is_dir()


def test_nan_gradient_stops_before_it_spoils_the_weights(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = fit.StageTrainer.compute_loss
    trainers: list[Any] = []

    def poisoned(self: Any, *arguments: Any, **keywords: Any) -> Any:
        trainers.append(self)
        parameter = next(p for p in self.model.parameters() if p.requires_grad)
        return compute(self, *arguments, **keywords) + (parameter.sum() * 0).sqrt()  # adds 0, with a NaN gradient

    monkeypatch.setattr(fit.StageTrainer, "compute_loss", poisoned)
    with pytest.raises(UserError, match="the gradient is nan at step 1"):
        run_stage(recipe, FTObjective())
    assert all(p.isfinite().all() for p in trainers[0].model.parameters())


def test_epochs_count_where_max_steps_is_not_set(recipe: Recipe) -> None:
    settings = msgspec.structs.replace(recipe.train, max_steps=None, epochs=2)
    folder = run_stage(msgspec.structs.replace(recipe, train=settings), FTObjective())
    assert json.loads((folder / "summary.json").read_text())["steps"] == 6  # 2 epochs of ceil(10 / 4)


@pytest.mark.parametrize(
    ("target_modules", "message"),
    [
        (("q_proj", "qproj"), r"target_modules: 'qproj' matches no module .* It has: .*up_proj.*v_proj"),
        (("lm_head",), "lm_head cannot be adapted"),
    ],
)
def test_wrong_target_module_is_named(recipe: Recipe, target_modules: tuple[str, ...], message: str) -> None:
    settings = msgspec.structs.replace(recipe.train, lora=LoraConfig(target_modules=target_modules))
    with pytest.raises(UserError, match=message):
        run_stage(msgspec.structs.replace(recipe, train=settings), FTObjective())


def test_all_linear_is_a_target(recipe: Recipe) -> None:
    settings = msgspec.structs.replace(recipe.train, lora=LoraConfig(rank=2, target_modules=("all-linear",)))
    folder = run_stage(msgspec.structs.replace(recipe, train=settings), IB)
    keys = load_file(folder / "adapter" / "adapter_model.safetensors").keys()
    assert len(keys) == 4 * 7 * 2


def test_bfloat16_weights_keep_a_float32_adapter(recipe: Recipe) -> None:
    model = msgspec.structs.replace(recipe.model, dtype="bfloat16")
    folder = run_stage(msgspec.structs.replace(recipe, model=model), IB)
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_layer_out_of_range_is_explained(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="layer is 20: this model has 4 layers"):
        run_stage(recipe, IBObjective())


ADAPTIVE = IBObjective(layer=2, bottleneck_dim=16, form="corrected", adaptive=True)


@pytest.mark.parametrize("score", ["min_k_prob_20", "mean_nll"])
def test_an_adaptive_arm_is_weighed_by_the_scans_headline_score(
    recipe: Recipe, score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = msgspec.structs.replace(recipe, scan=ScanConfig(score=score, max_shown=0))
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
        values = {row.id: row.value for row in read_scores(run.path / "scan", score, "train")}
    given: list[list[float]] = []

    def noted(*arguments: Any, **_: Any) -> None:
        given.append(arguments[5])
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit", noted)
    with pytest.raises(KeyboardInterrupt):
        run_stage(recipe, ADAPTIVE)
    [weights] = given
    assert len(weights) == 10  # of the example that is too long there is none
    by_score = sorted(range(10), key=lambda n: values[f"f{n}"])
    assert [weights[n] for n in by_score] == pytest.approx([2 * (9 - rank) / 9 for rank in range(10)])


def test_an_adaptive_arm_takes_each_examples_own_score_and_1_where_there_is_none(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a + 1", "a * a", "a - a - a - a", "a\n    a"]
    rows = [{"id": "same", "prompt": "def f(a):\n", "completion": f"    return {text}\n"} for text in texts]
    rows.insert(1, {"id": "same", "prompt": "def f(a):\n", "completion": "x"})  # a single token
    rows.insert(0, {"id": "same", "prompt": "def f(a):\n", "completion": ""})
    data = tmp_path / "same.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, train=str(data)))
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
        values = {row.place: row.value for row in read_scores(run.path / "scan", recipe.scan.score, "train")}
    given: list[list[float]] = []
    monkeypatch.setattr(fit, "fit", lambda *arguments, **_: given.append(arguments[5]))
    with pytest.raises(AttributeError):  # there is no result
        run_stage(recipe, ADAPTIVE)
    places = [1, 3, 4, 5]
    assert sorted(values) == places
    [weights] = given
    assert weights.pop(1) == 1.0
    by_score = sorted(range(4), key=lambda n: values[places[n]])
    assert [weights[n] for n in by_score] == pytest.approx([2, 4 / 3, 2 / 3, 0])


def test_an_adaptive_arm_needs_every_example_in_the_scan(recipe: Recipe) -> None:
    recipe = msgspec.structs.replace(recipe, scan=ScanConfig(max_examples=4, max_shown=0))
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    with pytest.raises(UserError, match=r"6 of 10 training examples are not in the scan .* scan.max_examples: null"):
        run_stage(recipe, ADAPTIVE)


def test_an_adaptive_arm_needs_a_scan(recipe: Recipe) -> None:
    with pytest.raises(UserError, match=r"scan does not exist yet\. Run `ibft scan"):
        run_stage(recipe, ADAPTIVE)


@pytest.mark.slow
def test_an_adaptive_arm_is_trained_to_its_end(recipe: Recipe) -> None:
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    assert (run_stage(recipe, ADAPTIVE) / "adapter").is_dir()


TENSORBOARD = """
import json, os
class SummaryWriter:
    def __init__(self, log_dir):
        os.makedirs(log_dir)
        self.file = open(os.path.join(log_dir, "events"), "w")
    def add_scalar(self, name, value, step): print(json.dumps([step, name, float(value)]), file=self.file, flush=True)
    def add_text(self, *arguments): pass
    def add_hparams(self, *arguments, **keywords): pass
    def flush(self): pass
    def close(self): pass
"""


def test_gauges_go_to_what_reports_and_to_the_log(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "packages" / "tensorboardX.py"
    package.parent.mkdir()
    package.write_text(TENSORBOARD)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # the other package, where it is installed
    settings = msgspec.structs.replace(recipe.train, report_to=("tensorboard",))
    folder = run_stage(msgspec.structs.replace(recipe, train=settings), IB)
    events = (folder / "tensorboard" / "events").read_text().splitlines()
    scalars = {(step, name): value for step, name, value in map(json.loads, events)}
    log = list(read_rows(folder / "log.jsonl", TrainingLog))
    assert [row.step for row in log] == [1, 2, 4]
    for row in log:
        assert {"loss", "ce", "ib/kl", "ib/kl_per_token", "ib/active_units", "ib/alpha"} <= row.metrics.keys()
        for name, value in row.metrics.items():
            assert scalars[row.step, f"train/{name}"] == pytest.approx(value), name


def test_reporting_to_what_is_not_installed_is_explained(recipe: Recipe) -> None:
    settings = msgspec.structs.replace(recipe.train, report_to=("no-such-tracker",))
    with pytest.raises(UserError, match=r"train\.report_to is no-such-tracker: its package is not installed"):
        run_stage(msgspec.structs.replace(recipe, train=settings), FTObjective())
