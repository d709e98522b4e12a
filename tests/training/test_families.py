"""The model families: a step of plain fine-tuning and of the bottleneck, and the paper form's loss from full logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ibft import IBConfig, IBTrainer

from ..conftest import tiny_model

SMALL: dict[str, Any] = {
    "num_hidden_layers": 3,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # wide enough that a forgotten scale or soft cap shows
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
WINDOWS = {"sliding_window": 8, "query_pre_attn_scalar": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},  # and deepseek-coder, CodeLlama, SmolLM2
    "qwen2": {},
    "qwen3": {},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "gemma": {},
    "gemma2": WINDOWS | {"final_logit_softcapping": 3.0},
    "gemma3_text": WINDOWS | {"final_logit_softcapping": 3.0},
    "starcoder2": {"sliding_window": None},
    "gpt_neox": {},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}
LAYER = 1


def tiny(family: str, tokenizer: PreTrainedTokenizerBase, *, tied: bool, dtype: torch.dtype) -> Any:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    settings = SMALL | FAMILIES[family] | ids
    return tiny_model(family, vocab_size=len(tokenizer), tie_word_embeddings=tied, **settings).to(dtype)


def rows() -> Dataset:
    return Dataset.from_list(
        [{"prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 2)} for i in range(4)]
    )


def trainer_of(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, *, plain: bool = False, **more: Any
) -> Any:
    arguments = {
        "output_dir": str(folder),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }
    bottleneck = {} if plain else {"alpha": 0.5, "beta": 0.3, "layer": LAYER, "bottleneck_dim": 8}
    return (SFTTrainer if plain else IBTrainer)(
        model,
        (SFTConfig if plain else IBConfig)(**arguments, **bottleneck),
        train_dataset=rows(),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def paper_loss(trainer: Any, batch: dict[str, torch.Tensor], noise: torch.Generator) -> float:
    """Written out, with the logits that the model's own code makes of the decoded state.

    In float64, but for mixtures of experts, whose grouped products PyTorch has in float32 alone.
    """
    model, head = trainer.model.get_base_model(), trainer.bottleneck[0]
    if not hasattr(model.config, "n_routed_experts"):
        model, head = model.double(), head.double()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    output = model(**inputs, output_hidden_states=True, use_cache=False)
    hidden = output.hidden_states[LAYER]
    mean, logvar = head.mean(hidden), head.logvar(hidden).clamp(-4, 4)
    kl = (0.5 * (mean**2 + logvar.exp() - 1 - logvar)).mean()
    labels = batch["labels"][:, 1:]
    labelled = F.pad(labels != -100, (0, 1))
    epsilon = torch.zeros_like(mean)
    epsilon[labelled] = torch.randn(int(labelled.sum()), mean.size(-1), generator=noise).to(mean.dtype)
    decoded = head.up(mean + (logvar / 2).exp() * epsilon)

    def with_decoded(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = decoded
        return output

    handle = model.base_model.register_forward_hook(with_decoded)
    of_code = model(**inputs, use_cache=False).logits
    handle.remove()
    assert not torch.allclose(of_code, output.logits)
    ce, ce_code = (
        F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten()) for logits in (output.logits, of_code)
    )
    return (ce + 0.5 * (kl + 0.3 * ce_code)).item()


def batch_of(trainer: Any) -> dict[str, torch.Tensor]:
    return dict(trainer.data_collator([trainer.train_dataset[index] for index in range(4)]))


def gradients(trainer: Any) -> dict[str, torch.Tensor]:
    trainer.compute_loss(trainer.model.train(), batch_of(trainer)).backward()
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_paper_loss_is_that_of_full_logits(
    family: str, tied: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trainer = trainer_of(tiny(family, tokenizer, tied=tied, dtype=torch.float32), tokenizer, tmp_path)
    noise = torch.Generator().manual_seed(0)
    noise.set_state(trainer._bottleneck.generator.get_state())
    batch = batch_of(trainer)
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert loss == pytest.approx(paper_loss(trainer, batch, noise), rel=2e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_reaches_adapter_and_head_also_with_checkpointing(
    family: str, tied: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    found = []
    for checkpointing in (False, True):
        model = tiny(family, tokenizer, tied=tied, dtype=torch.float32)
        found.append(gradients(trainer_of(model, tokenizer, tmp_path, gradient_checkpointing=checkpointing)))
    below = [name for name in found[0] if ".layers.0." in name and "lora_B" in name]
    head = [name for name in found[0] if name.startswith("ibft_bottleneck")]
    assert len(below) >= 4
    assert len(head) == 6
    for name in below + head:
        assert found[0][name].abs().sum() > 0, name
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False], ids=["ft", "ib"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_is_finite_and_moves_the_adapter(
    family: str, dtype: torch.dtype, plain: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = tiny(family, tokenizer, tied=family != "gpt_neox", dtype=dtype)
    trainer = trainer_of(model, tokenizer, tmp_path, plain=plain, warmup_steps=0)
    trainer.train()
    assert 0 < trainer.state.log_history[0]["loss"] < 1e4
    moved = [p for name, p in trainer.model.named_parameters() if "lora_B" in name and p.detach().abs().sum() > 0]
    assert len(moved) >= 12
