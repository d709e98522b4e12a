"""Full fine-tuning and quantized bases: what is trained, in which precision, and what the next stage loads."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.errors import UserError
from ibft.models.loading import load_arm, load_model
from ibft.objectives.asft import ASFTObjective
from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ft_kl import FTKLObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.stm import STMObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, LoraConfig, ModelConfig, TrainConfig
from ibft.stages.train import check_objectives, train
from ibft.training import fit

OBJECTIVES = [FTObjective(), IBObjective(layer=2, bottleneck_dim=16)]


def recipe_of(
    model: Path, tmp_path: Path, *, lora: LoraConfig | None = None, quantization: Any = "none", dtype: Any = "float32"
) -> Recipe:
    rows = [{"prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 3)} for i in range(8)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(model), dtype=dtype, device="cpu", quantization=quantization),
        data=DataConfig(train=str(data)),
        train=TrainConfig(max_steps=3, batch_size=4, learning_rate=1e-2, log_every=1, save_every=2, lora=lora),
    )


def run_stage(recipe: Recipe, objective: Objective) -> tuple[RunFolder, Path]:
    with RunFolder(recipe).open() as run:
        train(recipe, run, objective)
    return run, run.path / "train" / objective.arm


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(5, 25)[None]).logits.float()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["ft", "ib"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_weights_are_trained_and_generation_loads_them(
    tiny_model_folder: Path, tmp_path: Path, objective: Objective, dtype: str
) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, dtype=dtype)
    run, folder = run_stage(recipe, objective)
    names = {path.name for path in folder.iterdir()}
    assert names == {"model", "log.jsonl", "skipped.jsonl", "stage.json", "summary.json"}
    card = (folder / "model" / "README.md").read_text()
    assert "library_name: transformers\n" in card
    assert "| trained | all weights |\n" in card
    weights = load_file(folder / "model" / "model.safetensors")
    base = load_file(tiny_model_folder / "model.safetensors")
    assert weights.keys() == base.keys()
    assert {str(weight.dtype) for weight in weights.values()} == {f"torch.{dtype}"}
    moved = [name for name in base if not torch.equal(weights[name], base[name].to(weights[name].dtype))]
    assert len(moved) > 0.9 * len(base)
    loaded = load_arm(recipe, run, objective.arm)
    assert logits(loaded).isfinite().all()
    assert not torch.allclose(logits(loaded), logits(load_model(recipe.model)))
    for name, weight in loaded.state_dict().items():
        if name in weights:
            assert torch.equal(weight, weights[name]), name
    losses = [row.metrics["loss"] for row in read_rows(folder / "log.jsonl", TrainingLog)]
    assert losses[-1] < losses[0]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trainable_parameters"] >= sum(weight.numel() for weight in base.values())


@pytest.mark.slow
def test_the_whole_model_loads_without_this_package(tiny_model_folder: Path, tmp_path: Path) -> None:
    _, folder = run_stage(recipe_of(tiny_model_folder, tmp_path), OBJECTIVES[1])
    program = (
        "import sys\n"
        "sys.modules['ibft'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"AutoTokenizer.from_pretrained({str(folder / 'model')!r})\n"
        f"AutoModelForCausalLM.from_pretrained({str(folder / 'model')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not used" not in done.stderr + done.stdout


def test_bfloat16_is_for_products_alone(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates that bfloat16 weights would round away must arrive."""
    seen: dict[str, Any] = {}
    step = fit.StageTrainer.training_step

    def observe(self: Any, *arguments: Any, **keywords: Any) -> Any:
        layer = self.model.model.layers[0].mlp
        seen["weights"] = {parameter.dtype for parameter in self.model.parameters()}
        hook = layer.up_proj.register_forward_hook(lambda module, inputs, output: seen.update(product=output.dtype))
        loss = step(self, *arguments, **keywords)
        hook.remove()
        return loss

    monkeypatch.setattr(fit.StageTrainer, "training_step", observe)
    run_stage(recipe_of(tiny_model_folder, tmp_path, dtype="bfloat16"), OBJECTIVES[0])
    assert seen == {"weights": {torch.float32}, "product": torch.bfloat16}


@pytest.mark.parametrize("objective", [FTKLObjective(), ASFTObjective(), STMObjective()], ids=lambda o: o.arm)
def test_rivals_that_need_the_base_are_refused(tiny_model_folder: Path, tmp_path: Path, objective: Objective) -> None:
    import msgspec

    recipe = msgspec.structs.replace(recipe_of(tiny_model_folder, tmp_path), objective=(objective,))
    with pytest.raises(UserError, match=rf"the arm {objective.arm} compares with the base model.*train\.lora is null"):
        check_objectives(recipe)


LORA = LoraConfig(rank=4, target_modules=("all-linear",))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["ft", "ib"])
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapter_on_quantized_base(
    tiny_model_folder: Path, tmp_path: Path, objective: Objective, quantization: str
) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, lora=LORA, quantization=quantization)
    run, folder = run_stage(recipe, objective)
    rows = [row.metrics for row in read_rows(folder / "log.jsonl", TrainingLog)]
    assert rows[-1]["loss"] < rows[0]["loss"]
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in adapter)
    assert all(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)
    base, loaded = load_model(recipe.model), load_arm(recipe, run, objective.arm)
    kinds = {type(module).__name__ for module in base.modules()}
    assert ("Linear4bit" if quantization == "4bit" else "Linear8bitLt") in kinds
    assert "Linear4bit" in kinds or "Linear8bitLt" in {type(module).__name__ for module in loaded.modules()}
    assert not torch.allclose(logits(loaded), logits(base))
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(base))


def test_four_bits_are_nf4_with_double_quantization(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = load_model(recipe_of(tiny_model_folder, tmp_path, lora=LORA, quantization="4bit").model)
    state = model.model.layers[0].mlp.up_proj.weight.quant_state
    assert (state.quant_type, state.nested) == ("nf4", True)
    error = logits(model) - logits(AutoModelForCausalLM.from_pretrained(tiny_model_folder))
    assert 0 < error.abs().mean() < 1


def test_missing_bitsandbytes_is_said_in_one_sentence(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(UserError, match=r"model\.quantization is 4bit: the package bitsandbytes is not installed"):
        load_model(ModelConfig(name=str(tiny_model_folder), device="cpu", quantization="4bit"))


def test_quantized_weights_are_not_trained(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.lora is null and model\.quantization 4bit"):
        recipe_of(tiny_model_folder, tmp_path, quantization="4bit")


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "all"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, {"bf16": False, "fp16": True}),
        (torch.bfloat16, {"bf16": "all", "fp16": False}),
        (torch.float32, {"bf16": False, "fp16": False}),
    ],
)
def test_a_gpu_without_bfloat16_trains_in_float16_with_a_scaled_loss(
    dtype: torch.dtype,
    expected: dict[str, Any],
    lora: LoraConfig | None,
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, lora=lora, dtype="auto")
    monkeypatch.setattr("ibft.training.weights.resolve_device", lambda model: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: dtype == torch.bfloat16)
    if dtype == torch.float32:
        monkeypatch.setattr("ibft.training.weights.resolve_dtype", lambda model, device: dtype)
    arguments = fit.common_arguments(recipe, tmp_path)
    is_all = lora is None
    assert {name: arguments[name] for name in expected} == {
        name: is_all if value == "all" else value for name, value in expected.items()
    }


@pytest.mark.parametrize("quantization", ["none", "4bit"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_under_a_scaled_loss_what_is_trained_is_float32(
    quantization: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT copies a module to save in the base's dtype, and TRL holds the adapter of a quantized base in bfloat16."""
    lora = LoraConfig(rank=4, modules_to_save=("lm_head",))
    recipe = recipe_of(tiny_model_folder, tmp_path, lora=lora, quantization=quantization, dtype="bfloat16")
    seen: dict[str, set[torch.dtype]] = {}
    make = fit.make_trainer

    def look(*arguments: Any) -> Any:
        trainer = make(*arguments)
        for name in ("before", "after"):
            seen[name] = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
            fit.train_in_float32(trainer.model)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "make_trainer", look)
    with pytest.raises(KeyboardInterrupt):
        run_stage(recipe, FTObjective())
    assert torch.bfloat16 in seen["before"]
    assert seen["after"] == {torch.float32}


@pytest.mark.parametrize(("scale", "stops"), [(65536.0, False), (0.5, True)])
def test_a_step_that_loss_scaling_skips_does_not_stop_training(
    scale: float, stops: bool, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite gradient means a scale that is too large, until the scale itself is small."""
    from types import SimpleNamespace

    from transformers import Trainer

    monkeypatch.setattr(Trainer, "_get_grad_norm", lambda *_arguments, **_keywords: torch.tensor(torch.inf))
    made = fit.make_trainer

    def with_scaler(*arguments: Any) -> Any:
        trainer = made(*arguments)
        trainer.accelerator.scaler = SimpleNamespace(get_scale=lambda: scale)
        trainer._forwards = []
        return trainer

    monkeypatch.setattr(fit, "make_trainer", with_scaler)
    recipe, examples = recipe_of(tiny_model_folder, tmp_path, lora=LORA), tokenized(tiny_model_folder)
    trainer = with_scaler(recipe, FTObjective(), *examples, tmp_path / "work")
    if stops:
        with pytest.raises(UserError, match="the gradient is inf"):
            trainer._get_grad_norm(trainer.model)
    else:
        assert trainer._get_grad_norm(trainer.model) == torch.inf


def tokenized(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    from ibft.data.tokens import TokenizedExample

    example = TokenizedExample("one", [5, 6, 7, 8], ((1, 4),))
    return AutoTokenizer.from_pretrained(folder), [example]
