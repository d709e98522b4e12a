"""What of the model an adapter reaches, and that what is saved loads with transformers and PEFT alone, unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft import progress
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import TrainingSummary
from ibft.errors import UserError
from ibft.models.loading import load_arm, load_model
from ibft.models.scale import scale_adapter
from ibft.objectives.base import Objective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ft_kl import FTKLObjective
from ibft.objectives.ib import IBObjective
from ibft.run.recipe import Recipe
from ibft.run.sections import LoraConfig, ModelConfig
from ibft.stages.export import export
from ibft.stages.train import check_settings
from ibft.training import fit
from ibft.training.adapter import lora_config

from ..conftest import tiny_model
from .test_families import LATENT
from .test_weights import logits, recipe_of, run_stage

FT, IB = FTObjective(), IBObjective(layer=2, bottleneck_dim=16)
LORA = LoraConfig(rank=4, dropout=0.1)
KINDS: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "both": {"dora": True, "rslora": True},
    "head": {"modules_to_save": ("lm_head",)},
    "embedding": {"modules_to_save": ("embed_tokens",)},
    "embeddings": {"modules_to_save": ("embed_tokens", "lm_head")},
}


def of(config: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(config, **changes)


def with_lora(recipe: Recipe, lora: LoraConfig) -> Recipe:
    return of(recipe, train=of(recipe.train, lora=lora))


@pytest.fixture(scope="module", params=["tied", "untied"])
def model_folder(
    request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "tied":
        return tiny_model_folder
    return save_beside(tiny_model_folder, tmp_path_factory.mktemp("untied"), "llama", tie_word_embeddings=False)


def save_beside(tiny_model_folder: Path, folder: Path, family: str, **settings: Any) -> Path:
    """Save another family's model with the tiny model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    settings = {"num_hidden_layers": 4, "max_position_embeddings": 512} | ids | settings
    tiny_model(family, vocab_size=len(tokenizer), **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(base: Path, adapter: Path) -> torch.Tensor:
    """The logits of base and adapter, as PEFT alone loads them."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(model, str(adapter)).eval())


def watch(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The logits of the model as the trainer has it at the end, and those of its base."""
    seen: dict[str, torch.Tensor] = {}
    save = fit.save_weights

    def look(trainer: Any, *arguments: Any) -> None:
        trainer.model.eval()
        seen["trained"] = logits(trainer.model)
        with trainer.model.disable_adapter():
            seen["base"] = logits(trainer.model)
        save(trainer, *arguments)

    monkeypatch.setattr(fit, "save_weights", look)
    return seen


@pytest.mark.parametrize(("kind", "objective"), [*((kind, IB) for kind in KINDS), ("both", FT), ("embeddings", FT)])
def test_what_is_saved_is_what_was_trained(
    kind: str, objective: Objective, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    recipe = of(recipe_of(model_folder, tmp_path, lora=of(LORA, **KINDS[kind])), objective=(objective,))
    run, folder = run_stage(recipe, objective)
    base = logits(load_model(recipe.model))
    assert torch.equal(seen["base"], base)
    assert (seen["trained"] - base).abs().max() > 1e-3
    names = load_file(folder / "adapter" / "adapter_model.safetensors").keys()
    allowed = ("lora_A", "lora_B", "lora_magnitude_vector", "embed_tokens.weight", "lm_head.weight")
    assert all(any(word in name for word in allowed) for name in names), names
    assert any("lora_magnitude_vector" in name for name in names) == recipe.train.lora.dora
    assert torch.equal(loaded(model_folder, folder / "adapter"), seen["trained"])
    torch.testing.assert_close(logits(load_arm(recipe, run, objective.arm)), seen["trained"], rtol=1e-4, atol=1e-4)
    export(recipe, run, objective.arm, tmp_path / "merged", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged), seen["trained"], rtol=1e-4, atol=1e-4)
    assert merged.config.tie_word_embeddings == (model_folder.name == "model")
    if set(KINDS[kind]) == {"rslora"}:
        scale_adapter(folder / "adapter", 0.0, tmp_path / "scaled")
        assert torch.equal(loaded(model_folder, tmp_path / "scaled"), base)
    else:
        with pytest.raises(UserError, match=r"(use_dora|modules_to_save) is .*which lora_alpha does not scale"):
            scale_adapter(folder / "adapter", 0.5, tmp_path / "scaled")


def test_tied_embeddings_stay_tied(tiny_model_folder: Path, tmp_path: Path) -> None:
    _, folder = run_stage(recipe_of(tiny_model_folder, tmp_path, lora=of(LORA, modules_to_save=("lm_head",))), FT)
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    [head] = (weight for name, weight in weights.items() if name.endswith("lm_head.weight"))
    [embedding] = (weight for name, weight in weights.items() if name.endswith("embed_tokens.weight"))
    base = load_file(tiny_model_folder / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(head, embedding)
    assert not torch.equal(head, base)


def test_the_scale_is_that_of_the_square_root_of_the_rank(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = load_model(ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"))
    import peft

    made = peft.get_peft_model(model, lora_config(of(LORA, rslora=True, alpha=8.0), ModelConfig(), model))
    assert made.base_model.model.model.layers[0].mlp.up_proj.scaling == {"default": 8.0 / 4**0.5}


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"modules_to_save": ("embed_token",)}, r"'embed_token' is no module of .*Did you mean embed_tokens\?"),
        ({"modules_to_save": ("q_proj",)}, r"q_proj is in target_modules and in modules_to_save"),
        ({"modules_to_save": ("layers",)}, r"train\.lora: PEFT refuses these settings together \(.*modules_to_save"),
        ({"target_modules": ("lm_head",), "rslora": True}, r"lm_head cannot be adapted"),
        ({"target_modules": ("self_attn",), "dora": True}, r"train\.lora: PEFT refuses these settings together"),
    ],
)
def test_what_peft_refuses_is_one_sentence_before_anything_is_loaded(
    lora: dict[str, Any], message: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_settings(recipe_of(tiny_model_folder, tmp_path, lora=of(LORA, **lora)))
    assert "\n" not in str(caught.value)


def test_an_objective_that_needs_the_base_refuses_a_trained_head(tiny_model_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_model_folder, tmp_path, lora=of(LORA, modules_to_save=("lm_head",)))
    with pytest.raises(UserError, match=r"ft_kl reads the base model's logits through lm_head"):
        run_stage(recipe, FTKLObjective())


EXPERTS = {"intermediate_size": 32, "num_experts_per_tok": 2}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": EXPERTS | {"num_local_experts": 4},
    "qwen2_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "deepseek_v3": EXPERTS | LATENT,
}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture(scope="module")
def mixture_folder(
    request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save_beside(tiny_model_folder, tmp_path_factory.mktemp("mixture"), request.param, **MIXTURES[request.param])


@pytest.mark.parametrize(
    ("mixture_folder", "targets", "objective"),
    [
        ("mixtral", LORA.target_modules, FT),
        ("mixtral", ("all-linear",), IB),
        ("qwen2_moe", LORA.target_modules, IB),
        ("qwen2_moe", ("all-linear",), FT),
        ("qwen3_moe", LORA.target_modules, FT),
        ("qwen3_moe", ("all-linear",), IB),
    ],
    indirect=["mixture_folder"],
)
def test_routed_experts_get_lora(
    mixture_folder: Path,
    targets: tuple[str, ...],
    objective: Objective,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = watch(monkeypatch)
    recipe = of(recipe_of(mixture_folder, tmp_path, lora=of(LORA, target_modules=targets)), objective=(objective,))
    run, folder = run_stage(recipe, objective)
    rows = [row.metrics for row in read_rows(folder / "log.jsonl", TrainingLog)]
    assert rows[-1]["loss"] < rows[0]["loss"]
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    shapes = {
        name.split("layers.1.")[1]: tuple(weight.shape) for name, weight in weights.items() if "layers.1." in name
    }
    intermediate = 32 if load_model(recipe.model).config.model_type == "mixtral" else 16
    # Each of four experts has its own two matrices of rank 4, not of twice the rank.
    assert shapes["mlp.experts.lora_A.weight"] == (16, intermediate)
    assert shapes["mlp.experts.base_layer.lora_B.weight"] == (2 * intermediate, 16)
    assert all(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)
    assert not any(".mlp.gate." in name for name in weights)
    assert sum("self_attn" in name for name in weights) == 4 * 4 * 2
    assert sum("shared_expert." in name for name in weights) == (
        4 * 3 * 2 if "shared_expert." in "".join(weights) else 0
    )
    base = logits(load_model(recipe.model))
    assert torch.equal(seen["base"], base)
    assert torch.equal(loaded(mixture_folder, folder / "adapter"), seen["trained"])
    torch.testing.assert_close(logits(load_arm(recipe, run, objective.arm)), seen["trained"], rtol=1e-4, atol=1e-4)
    export(recipe, run, objective.arm, tmp_path / "merged", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged), seen["trained"], rtol=1e-4, atol=1e-4)
    scale_adapter(folder / "adapter", 0.0, tmp_path / "scaled")
    assert torch.equal(loaded(mixture_folder, tmp_path / "scaled"), base)
    assert "| routed experts | LoRA, without dropout |" in (folder / "adapter" / "README.md").read_text()


@pytest.mark.parametrize("mixture_folder", ["deepseek_v3"], indirect=True)
def test_dense_layers_and_shared_experts_keep_their_lora(mixture_folder: Path, tmp_path: Path) -> None:
    """PEFT alone takes the names of their layers for those of the routed experts, and leaves them out."""
    recipe = recipe_of(mixture_folder, tmp_path, lora=of(LORA, target_modules=("all-linear",)))
    _, folder = run_stage(recipe, FT)
    names = " ".join(load_file(folder / "adapter" / "adapter_model.safetensors"))
    for layer in ("layers.0.mlp", "layers.1.mlp.shared_experts"):
        for name in ("gate_proj", "up_proj", "down_proj"):
            assert f"{layer}.{name}.lora_B" in names
    assert "layers.1.mlp.experts.lora_B" in names
    assert "mlp.gate." not in names


@pytest.mark.parametrize("mixture_folder", ["qwen3_moe"], indirect=True)
def test_attention_keeps_its_dropout_beside_experts(
    mixture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(mixture_folder, tmp_path, lora=of(LORA, dropout=0.5))
    kinds: list[str] = []
    step = fit.StageTrainer.training_step

    def look(self: Any, *arguments: Any, **keywords: Any) -> Any:
        layer = self.model.base_model.model.model.layers[0]
        kinds.extend([str(layer.self_attn.q_proj.lora_dropout.default), str(layer.mlp.experts.lora_dropout.default)])
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(fit.StageTrainer, "training_step", look)
    run_stage(recipe, FT)
    assert set(kinds) == {"Dropout(p=0.5, inplace=False)", "Identity()"}


@pytest.mark.parametrize("mixture_folder", ["qwen2_moe"], indirect=True)
def test_it_is_said_loudly_where_experts_get_none(
    mixture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(progress, "warn", lambda title, text: said.append((title, text)))
    _, folder = run_stage(recipe_of(mixture_folder, tmp_path, lora=of(LORA, target_modules=ATTENTION)), FT)
    titles = dict(said)
    assert "get no LoRA" in titles["THE ROUTED EXPERTS ARE NOT TRAINED"]
    assert "add down_proj, gate_up_proj" in titles["THE ROUTED EXPERTS ARE NOT TRAINED"]
    summary = msgspec.json.decode((folder / "summary.json").read_bytes(), type=TrainingSummary)
    assert summary.routed_experts == "frozen"
    assert "| routed experts | **not trained**: no LoRA on them |" in (folder / "adapter" / "README.md").read_text()
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["lora_dropout"] == 0.1


def test_dora_on_experts_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = save_beside(tiny_model_folder, tmp_path / "mixture", "mixtral", **MIXTURES["mixtral"])
    with pytest.raises(UserError, match=r"train\.lora\.dora is true: PEFT has no DoRA for the experts") as caught:
        check_settings(recipe_of(folder, tmp_path, lora=of(LORA, dora=True)))
    assert "down_proj, gate_up_proj" in str(caught.value)
    check_settings(recipe_of(folder, tmp_path, lora=of(LORA, dora=True, target_modules=ATTENTION)))


def test_a_mixture_resumes_with_the_same_adapter(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_beside(tiny_model_folder, tmp_path / "mixture", "qwen3_moe", **MIXTURES["qwen3_moe"])
    recipe = recipe_of(folder, tmp_path, lora=LORA)
    step = fit.StageTrainer.training_step

    def stop_at_the_third(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(fit.StageTrainer, "training_step", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_stage(recipe, IB)
    monkeypatch.setattr(fit.StageTrainer, "training_step", step)
    _, resumed = run_stage(recipe, IB)
    _, whole = run_stage(of(recipe, output=str(tmp_path / "whole")), IB)
    weights = [load_file(path / "adapter" / "adapter_model.safetensors") for path in (resumed, whole)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
